import os
import re
import time
from pathlib import Path

import pytest
import torch

from tlpot.errors import TlpotError
from tlpot.scale import as_done


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
    assert set(done.values()) == {max((os.cpu_count() or 1) // 2, 1)}


def test_over_dask_workers():
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None
    ) as cluster:
        done = dict(as_done(square, [(i,) for i in (1, -1, 4)], cluster.scheduler_address))
    assert (done[0], done[2]) == (1, 16)
    assert "negative" in str(done[1])


def test_a_scheduler_that_does_not_answer_is_named():
    pytest.importorskip("distributed")
    with pytest.raises(TlpotError, match=re.escape("tcp://127.0.0.1:1")):
        list(as_done(square, [(1,)], "tcp://127.0.0.1:1"))
