import os
import re
import signal
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
import torch

from tlpot.config.sections import read_yaml
from tlpot.engine.threads import cores
from tlpot.errors import TlpotError
from tlpot.parallel.processes import as_done, slurm_cluster


def square(number: int) -> int:
    if number < 0:
        raise ValueError(f"{number} is negative")
    return number * number


def die(folder: str, name: str, times: int) -> str:
    """Takes its process with it so many times; meanwhile the others take their time."""
    time.sleep(0.2)
    attempts = Path(folder) / name
    attempts.write_text(attempts.read_text() + "x" if attempts.exists() else "x")
    if len(attempts.read_text()) <= times:
        os._exit(9)
    return name


def threads() -> int:
    return torch.get_num_threads()


@pytest.mark.parametrize("workers", [1, 2])
def test_every_piece_comes_back_once_with_its_number(workers):
    done = dict(as_done(square, [(i,) for i in range(5)], workers=workers))
    assert done == {i: i * i for i in range(5)}


def test_what_a_piece_raises_is_its_result():
    done = dict(as_done(square, [(2,), (-2,), (3,)]))
    assert (done[0], done[2]) == (4, 9)
    assert isinstance(done[1], ValueError)
    assert str(done[1]) == "-2 is negative"


def test_a_dead_process_costs_its_own_piece_an_attempt(tmp_path):
    pieces = [(str(tmp_path), "good", 0), (str(tmp_path), "once", 1), (str(tmp_path), "always", 9)]
    pieces += [(str(tmp_path), f"late{i}", 0) for i in range(3)]
    done = dict(as_done(die, pieces, workers=2))
    assert [done[i] for i in (0, 1, 3, 4, 5)] == ["good", "once", "late0", "late1", "late2"]
    assert "process died" in str(done[2])
    runs = {path.name: len(path.read_text()) for path in tmp_path.iterdir()}
    assert runs == {"good": 1, "once": 2, "always": 2, "late0": 1, "late1": 1, "late2": 1}


def test_processes_share_the_cores():
    done = dict(as_done(threads, [(), ()], workers=2))
    assert set(done.values()) == {max(cores() // 2, 1)}


class UnsendableError(Exception):
    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} and {two}")


def fail_oddly() -> None:
    raise UnsendableError(1, 2)


def test_an_error_that_cannot_be_sent_still_says_what_happened():
    ((_, error),) = as_done(fail_oddly, [()])
    assert str(error) == "UnsendableError: 1 and 2"


def test_how_a_process_died_is_told(tmp_path):
    ((_, error),) = as_done(die, [(str(tmp_path), "always", 9)], attempts=1)
    assert str(error) == "its process died with exit code 9"
    assert (tmp_path / "always").read_text() == "x"


def slow(folder: str, number: int) -> int:
    time.sleep(0.05)
    with (Path(folder) / str(number)).open("a") as file:
        file.write(f"{os.getpid()}\n")
    return number


@pytest.mark.parametrize("where", ["local", "dask"])
def test_a_killed_worker_loses_no_piece(tmp_path, where):
    """One process is killed midway; every piece comes back once."""
    pieces, killed, done = [(str(tmp_path), i) for i in range(40)], None, []
    with ExitStack() as stack:
        scheduler = "local"
        if where == "dask":
            distributed = pytest.importorskip("distributed")
            cluster = stack.enter_context(
                distributed.LocalCluster(2, threads_per_worker=1, dashboard_address=None)
            )
            scheduler = cluster.scheduler_address
        for _, result in as_done(slow, pieces, scheduler, workers=2):
            done.append(result)
            if len(done) == 5:
                killed = int((tmp_path / str(result)).read_text().split()[0])
                os.kill(killed, signal.SIGKILL)
    assert sorted(done) == list(range(40))
    processes = {pid for path in tmp_path.iterdir() for pid in path.read_text().split()}
    assert str(killed) in processes
    assert len(processes) == 3 or where == "dask", "a new process took the dead one's place"


def test_slurm_jobs_are_what_the_template_says():
    pytest.importorskip("dask_jobqueue")
    template = Path(__file__).parents[2] / "examples" / "slurm.yaml"
    with slurm_cluster(read_yaml(template, "cluster")) as cluster:
        script = cluster.job_script()
    for line in ("--gres=gpu:1", "-p gpu", "-A myproject", "-t 08:00:00", "--mem=30G"):
        assert f"#SBATCH {line}" in script
    assert "source ~/tlpot/bin/activate" in script
    assert "--nthreads 1" in script
    with pytest.raises(TlpotError, match="coers"):
        slurm_cluster({"coers": 1, "cores": 1, "memory": "1GB"})


@pytest.mark.parametrize("text", ["", "- a list", "a: [1"])
def test_a_file_that_is_no_template_is_refused(tmp_path, text):
    (tmp_path / "slurm.yaml").write_text(text)
    for path in ("slurm.yaml", "none.yaml"):
        with pytest.raises(TlpotError, match=path):
            list(as_done(square, [(1,)], str(tmp_path / path)))


def test_over_dask_workers():
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None
    ) as cluster:
        done = dict(as_done(square, [(i,) for i in (1, -1, 4)], cluster.scheduler_address))
    assert (done[0], done[2]) == (1, 16)
    assert "negative" in str(done[1])


def test_a_scheduler_that_does_not_answer_is_named(monkeypatch):
    distributed = pytest.importorskip("distributed")
    client = distributed.Client
    monkeypatch.setattr(distributed, "Client", lambda place, timeout: client(place, timeout="1s"))
    with pytest.raises(TlpotError, match=re.escape("tcp://127.0.0.1:1")):
        list(as_done(square, [(1,)], "tcp://127.0.0.1:1"))
