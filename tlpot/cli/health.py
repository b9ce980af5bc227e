"""What `tlpot doctor` looks at, by the standard library alone: it must run where all is broken."""

from __future__ import annotations

import json
import os
import platform
import re
import signal
import socket
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from itertools import chain
from threading import Timer
from typing import Any, Literal

import tlpot

State = Literal["ok", "note", "wrong"]

SIGNS = {"ok": " ", "note": "-", "wrong": "!"}
PATIENCE = 600
"""Seconds that the self-test may take: compiling on a busy machine, above all."""
HOST, PORT, WAIT = "github.com", 443, 3.0
"""Where torchani has its weights from, and how long an answer may take, s."""
NEED = re.compile(
    r"([\w.-]+)(?:\[[^]]*\])?\s*\(?([^;)]*)\)?\s*(?:;.*extra\s*==\s*['\"](\w+)['\"])?"
)
"""One line of a distribution's requirements: name, bounds, extra."""


@dataclass(frozen=True)
class Check:
    """One thing looked at.

    Attributes
    ----------
    name
        Of the thing.
    state
        ``ok``; ``note``, nothing is wrong but worth knowing; ``wrong``.
    seen
        What it is.
    mend
        What to do about it.
    """

    name: str
    state: State
    seen: str
    mend: str = ""


def examine() -> Iterator[Check]:
    """Python and libraries, extras, environment; then what the self-test sees, as it comes."""
    wrong = False
    for check in (_python(), *_libraries(), *_environment()):
        yield check
        wrong = wrong or (check.name in ("python", "tlpot") and check.state == "wrong")
    if not wrong:
        yield from _tested()


def report(as_json: bool = False, more: Sequence[Check] = ()) -> int:
    """Print what there is and, where something is wrong, the mend; 0 if all is well, else 2.

    Parameters
    ----------
    more
        What else was looked at.
    """
    checks = []
    for check in chain(more, examine()):
        checks.append(check)
        if not as_json:
            print(f"{SIGNS[check.state]} {check.name}: {check.seen}", flush=True)
            if check.mend:
                print(f"    {check.mend}", flush=True)
    wrong = [check.name for check in checks if check.state == "wrong"]
    if as_json:
        entries = [vars(check) for check in checks]
        print(json.dumps({"ok": not wrong, "wrong": wrong, "checks": entries}, indent=2))
    else:
        print(f"wrong (!): {', '.join(wrong)}" if wrong else "all is well")
    return 2 if wrong else 0


def _python() -> Check:
    seen = f"{platform.python_version()} ({sys.executable}), {platform.platform()}"
    if sys.version_info < (3, 11):
        return Check("python", "wrong", seen, "tlpot needs Python 3.11 or later")
    if sys.version_info >= (3, 14):
        return Check("python", "note", f"{seen}: tlpot was tested with 3.11 to 3.13")
    return Check("python", "ok", seen)


def _libraries() -> Iterator[Check]:
    """Versions of what tlpot needs, and which extras are whole."""
    try:
        needs = metadata.requires("tlpot") or []
        yield Check("tlpot", "ok", f"{metadata.version('tlpot')} ({tlpot.__path__[0]})")
    except metadata.PackageNotFoundError:
        seen = f"not installed in {sys.prefix}, runs from {tlpot.__path__[0]}"
        state: State = "note" if find_spec("torch") else "wrong"
        yield Check("tlpot", state, seen, "pip install tlpot, or in its repository: pip install .")
        return
    lacking: dict[str, list[str]] = defaultdict(list)
    for need in needs:
        if (match := NEED.match(need)) is None:
            continue
        name, bounds, extra = match.groups()
        version = _version(name)
        if extra:
            lacking[extra] += [name] if version is None else []
        elif version is None:
            yield Check(name, "wrong", "not installed", f"pip install '{name}{bounds.strip()}'")
        elif not _within(version, bounds):
            mend = f"pip install '{name}{bounds.strip()}'"
            yield Check(name, "wrong", f"{version}: tlpot needs {bounds.strip()}", mend)
        else:
            yield Check(name, "ok", version)
    for extra, names in lacking.items():
        if extra != "test" and names:
            mend = f"pip install 'tlpot[{extra}]'"
            yield Check(f"extra {extra}", "note", f"without {', '.join(names)}", mend)
        elif extra != "test":
            yield Check(f"extra {extra}", "ok", "there")


def _version(name: str) -> str | None:
    with suppress(metadata.PackageNotFoundError):
        return metadata.version(name)
    return None


def _within(version: str, bounds: str) -> bool:
    """Whether a version keeps bounds like ``>=2.4,<2.14``."""
    mine = _numbers(version)
    for sign, bound in re.findall(r"(>=|<)\s*([\w.]+)", bounds):
        if (mine >= _numbers(bound)) != (sign == ">="):
            return False
    return True


def _numbers(version: str) -> list[int]:
    """``2.13.0+cpu`` as [2, 13]: without zeros at its end, which say nothing."""
    numbers = [int(n) for n in re.match(r"[\d.]*", version)[0].split(".") if n]  # type: ignore[index]
    while numbers and not numbers[-1]:
        numbers.pop()
    return numbers


def _environment() -> Iterator[Check]:
    engine = os.environ.get("TLPOT_ENGINE", "")
    if engine not in ("", "compiled", "torch"):
        mend = "set it to compiled or torch, or unset it"
        yield Check("TLPOT_ENGINE", "wrong", engine, mend)
    folder = os.environ.get("TORCHANI_DATA_DIR", "")
    if folder and not os.path.isdir(folder):
        mend = "name the folder that holds StateDicts, or unset it"
        yield Check("TORCHANI_DATA_DIR", "wrong", f"{folder}: no such folder", mend)
    threads, cores = os.environ.get("OMP_NUM_THREADS", ""), os.cpu_count() or 1
    if threads and not threads.replace(",", "").isdigit():
        yield Check("OMP_NUM_THREADS", "wrong", threads, "set it to a number, or unset it")
    elif threads.isdigit() and int(threads) > cores:
        mend = f"threads wait for each other: export OMP_NUM_THREADS={cores}, or unset it"
        yield Check("OMP_NUM_THREADS", "wrong", f"{threads}, of {cores} cores", mend)


def reachable() -> bool:
    """Whether the host of the weights answers."""
    try:
        socket.create_connection((HOST, PORT), WAIT).close()
    except OSError:
        return False
    return True


def _tested() -> Iterator[Check]:
    """What a process of its own finds: a library that crashes takes only that along."""
    command = [sys.executable, "-m", "tlpot.cli.selftest"]
    begun, last = "start", "nothing said"
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as child:
        assert child.stdout
        watch = Timer(PATIENCE, child.kill)
        start = time.monotonic()
        watch.start()
        try:
            for line in child.stdout:
                entry = _entry(line)
                begun, last = entry.pop("begun", begun), last if entry else line.strip() or last
                if entry:
                    yield Check(**entry)
            code = child.wait()
            overdue = time.monotonic() - start >= PATIENCE
        finally:
            watch.cancel()
            child.kill()
    if code and overdue:
        mend = "run it again while the machine is less busy"
        yield Check(f"self-test, {begun}", "wrong", f"not done after {PATIENCE} s", mend)
    elif code:
        seen = f"ended by {signal.Signals(-code).name}" if code < 0 else last[:300]
        mend = f"{sys.executable} -m pip install -I torch torchani numba numpy"
        yield Check(f"self-test, {begun}", "wrong", seen, mend)


def _entry(line: str) -> dict[str, Any]:
    """A line of the self-test; what libraries print beside it is none."""
    with suppress(ValueError):
        entry = json.loads(line)
        return entry if isinstance(entry, dict) else {}
    return {}
