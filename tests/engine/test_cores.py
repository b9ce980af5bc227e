"""Cores that a process may use: by affinity, by cgroup quotas, not by what the machine has."""

import os
import subprocess
import sys

import pytest

from tlpot.engine.threads import cores

ALLOWED = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0
linux = pytest.mark.skipif(not ALLOWED, reason="no affinity on this system")


def python(code: str, **environment: str) -> str:
    kept = {k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"}
    run = subprocess.run(
        [sys.executable, "-c", code], env=kept | environment, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    return run.stdout.strip()


@linux
def test_a_process_on_one_core_counts_one_and_gives_its_workers_one_thread():
    """As under `taskset -c 0`, Slurm or a pinned container."""
    said = python(
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "import torch\n"
        "from tlpot.parallel.processes import as_done\n"
        "from tlpot.engine.threads import cores\n"
        "if __name__ == '__main__':\n"
        "    print(cores(), *dict(as_done(torch.get_num_threads, [()], workers=1)).values())"
    )
    assert said == "1 1"


def group(root, entry: str, files: dict[str, str]) -> None:
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(entry)
    for name, text in files.items():
        file = root / "sys/fs/cgroup" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


V1 = "5:memory:/job\n4:cpu,cpuacct:/job/step\n1:name=systemd:/job\n"


@pytest.mark.parametrize(
    ("entry", "files", "expected"),
    [
        ("0::/job/step\n", {"cpu.max": "max 100000", "job/step/cpu.max": "100000 100000\n"}, 1),
        ("0::/job/step\n", {"job/cpu.max": "100000 100000", "job/step/cpu.max": "max 100000"}, 1),
        ("0::/\n", {"cpu.max": "50000 100000\n"}, 1),
        ("0::/../outside\n", {"cpu.max": "100000 100000\n"}, 1),
        (
            V1,
            {
                "cpu,cpuacct/job/step/cpu.cfs_quota_us": "100000\n",
                "cpu,cpuacct/job/step/cpu.cfs_period_us": "100000\n",
            },
            1,
        ),
        # in a container the path of the host is not there, but the group's own files are
        (V1, {"cpu/cpu.cfs_quota_us": "90000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 1),
        (V1, {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, ALLOWED),
        ("0::/job\n", {"job/cpu.max": "max 100000\n"}, ALLOWED),
        ("0::/job\n", {"job/cpu.max": "9900000 100000\n"}, ALLOWED),
        ("0::/job\n", {}, ALLOWED),
    ],
)
@linux
def test_the_quota_of_a_cgroup_counts(tmp_path, entry, files, expected):
    group(tmp_path, entry, files)
    assert cores(tmp_path) == expected


@linux
def test_a_quota_of_more_than_one_core(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(64)))
    group(tmp_path, "0::/job\n", {"job/cpu.max": "250000 100000\n"})
    assert cores(tmp_path) == 3


@linux
def test_torch_takes_no_more_threads_than_there_are_cores_unless_told():
    code = (
        "import torch, tlpot.engine.threads as threads\n"
        "torch.set_num_threads(7); threads.cores = lambda: 2\n"
        "with threads.own_threads(): print(threads.available(torch.device('cpu')))"
    )
    assert python(code) == "2"
    assert python(code, OMP_NUM_THREADS="7") == "7"
