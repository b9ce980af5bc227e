"""Run the tests on every supported Python that is here, and once with the lowest versions.

    make matrix                                   the whole suite
    python tools/matrix.py [--only lowest] [pytest's arguments]

Pythons are those of setup.cfg's classifiers, looked for on PATH and under ~/.pyenv/versions. Each
keeps an environment, ``.venv-3.12``, brought up to date when setup.cfg changes. "lowest" is the
oldest Python with every requirement of setup.cfg at its lower bound. Prints one table, whose
reasons are in ``build/matrix``; exits with 1 unless all passed.
"""

from __future__ import annotations

import argparse
import configparser
import re
import shutil
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LOGS = ROOT / "build/matrix"
BOUND = re.compile(r"^\s*([\w.-]+)(?:\[[\w,]*\])?>=([\w.]+)", re.MULTILINE)
ROW = "{:<8} {:<9} {:<11} {:<9} {:>6} {:>6} {:>7} {:>7}"


def main() -> int:
    """Print the table; 0 if every environment passed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", action="append", metavar="NAME", help="3.12, lowest")
    arguments, pytest = parser.parse_known_args()
    setup = (ROOT / "setup.cfg").read_text()
    pythons = {v: p for v in supported(setup) if (p := interpreter(v))}
    runs = [(version, python, "") for version, python in pythons.items()]
    if pythons:
        runs.append(("lowest", next(iter(pythons.values())), lowest(setup)))
    LOGS.mkdir(parents=True, exist_ok=True)
    heading = ("", "Python", "torch", "torch-sim", "passed", "failed", "skipped", "seconds")
    print(ROW.format(*heading), flush=True)
    good = bool(pythons)
    for name, python, constraints in runs:
        if not arguments.only or name in arguments.only:
            good &= tested(name, python, constraints, setup, pytest)
    for version in supported(setup):
        if version not in pythons:
            print(f"{version:<8} no such Python here")
    return 0 if good else 1


def supported(setup: str) -> list[str]:
    """Versions of Python, oldest first."""
    return re.findall(r"Python :: (3\.\d+)", setup)


def lowest(setup: str) -> str:
    """A constraints file that pins every requirement to its lower bound."""
    config = configparser.ConfigParser()
    config.read_string(setup)
    needs = [config["options"]["install_requires"], *config["options.extras_require"].values()]
    return "".join(f"{name}=={least}\n" for need in needs for name, least in BOUND.findall(need))


def interpreter(version: str) -> str | None:
    """A Python of this version that runs."""
    installed = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python"), reverse=True)
    for candidate in (shutil.which(f"python{version}"), *map(str, installed)):
        if candidate and not subprocess.run([candidate, "-V"], capture_output=True).returncode:
            return candidate
    return None


def tested(name: str, python: str, constraints: str, setup: str, pytest: list[str]) -> bool:
    """Print the row of one environment; whether all passed."""
    environment, log = ROOT / f".venv-{name}", LOGS / f"{name}.log"
    own, report = environment / "bin/python", LOGS / f"{name}.xml"
    report.unlink(missing_ok=True)
    with log.open("w") as output:

        def run(*command: str | Path) -> bool:
            done = subprocess.run(command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT)
            return not done.returncode

        stamp = environment / "made-for.cfg"
        if not stamp.is_file() or stamp.read_text() != setup:
            pins = LOGS / "lowest.txt"
            pins.write_text(constraints)
            pip = (own, "-m", "pip", "install", "--quiet")
            if not (
                (own.exists() or run(python, "-m", "venv", environment))
                and run(*pip, "--upgrade", "pip")
                and run(*pip, "--editable", ".[test]", "--constraint", pins)
            ):
                print(f"{name:<8} cannot be installed: see {log}", flush=True)
                return False
            stamp.write_text(setup)
        started = time.perf_counter()
        two_cores = ("-n", "2", "--dist", "loadfile", "--no-loadscope-reorder")
        run(own, "-m", "pytest", f"--junitxml={report}", *two_cores, *pytest)
        seconds = time.perf_counter() - started
    if not report.is_file():
        print(f"{name:<8} did not run: see {log}", flush=True)
        return False
    tests = ElementTree.parse(report).getroot()[0].attrib
    skipped, bad = int(tests["skipped"]), int(tests["failures"]) + int(tests["errors"])
    passed = int(tests["tests"]) - skipped - bad
    versions = subprocess.run([own, "-c", VERSIONS], capture_output=True, text=True).stdout.split()
    print(ROW.format(name, *versions, passed, bad, skipped, f"{seconds:.0f}"), flush=True)
    return not bad and passed > 0


VERSIONS = """
import platform
from importlib.metadata import version
print(platform.python_version(), version("torch"), version("torch-sim-atomistic"))
"""

if __name__ == "__main__":
    sys.exit(main())
