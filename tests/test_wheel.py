"""The wheel alone, without an extra, in a fresh environment outside the tree: every verb."""

from __future__ import annotations

import email
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import distribution
from pathlib import Path

import pytest
import typer.main
from packaging.requirements import Requirement

from tlpot.cli.main import app

pytestmark = pytest.mark.long
ROOT = Path(__file__).parents[1]

RUNS = """
--version
schema
init
inspect examples/vasp/vasprun.xml.gz@0:8
init first.yaml --from examples/vasp/vasprun.xml.gz model.base=mini
elements Si I --model mini
validate tiny.yaml
evaluate runs/quickstart datasets/urea/urea.extxyz@0:8
info runs/quickstart
export runs/quickstart --to torchani --output exported.py
sample propose POSCAR --method rattle --number 2 --output rattled.extxyz
sample propose POSCAR --method modes --model mini --number 2 --output modes.extxyz
sample propose POSCAR --method md --model mini --number 2 --output snapshots.extxyz
sample choose datasets/urea/urea.extxyz --by committee --model mini --number 2 --output 1.extxyz
sample choose datasets/urea/urea.extxyz --by farthest --model mini --number 2 --output 2.extxyz
sample learn tiny.yaml data.files=datasets/urea/urea.extxyz@0:9 --number 3 --output 3.extxyz
ablate sweep.yaml --workers 1
label POSCAR --engine emt --output labelled.extxyz
label POSCAR --engine vasp --output jobs
md POSCAR --model runs/quickstart --ps 0.005 --output md
stress runs/quickstart POSCAR --count 0 --scans 1 --ramp 0 --output stressed
relax POSCAR --model mini --engine ase --fmax 3 --free positions --output serial
rank examples/landscape/00.cif --model mini --no-relax --no-duplicates --output bare
property train property.yaml
property predict POSCAR --model runs/property
"""
"""What works, in this order, after ``init --examples .`` and a run of examples/quickstart.yaml."""

RANK = "rank POSCAR --model mini --no-relax --no-duplicates --output needs"
NEEDS = f"""
use     relax POSCAR --model mini --output needs
use     relax POSCAR --model mini --engine ase --symmetry --output needs
use     rank POSCAR --model mini --output needs
use     rank POSCAR --model mini --no-relax --output needs
use     {RANK} --phonons 1
use     {RANK} --pattern measured.xy
use     {RANK} --experimental POSCAR
use     {RANK} --dispersion d4
label   {RANK} --dispersion d3
use     xrd train examples/powder.yaml data.files=POSCAR
label   label POSCAR --engine gfn1 --output needs.extxyz
label   label POSCAR --config d3.yaml --output needs.extxyz
dask    label POSCAR --engine emt --scheduler tcp://127.0.0.1:1 --output needs.extxyz
dask    {RANK} --scheduler examples/slurm.yaml
dask    relax POSCAR --model mini --engine ase --scheduler tcp://127.0.0.1:1 --output needs
dask    ablate sweep.yaml --scheduler tcp://127.0.0.1:1
metatomic   export mini --to metatomic --output needs.pt
tensorboard finetune examples/quickstart.yaml training.tensorboard=true output=needs
tensorboard property train property.yaml training.tensorboard=true output=needs
"""
"""What asks for an extra, and which."""

FILES = {
    "tiny.yaml": "data: {files: datasets/urea/urea.extxyz}\nmodel: {base: mini}\n"
    "training: {epochs: 1, fine_angles: false}\noutput: runs/tiny",
    "sweep.yaml": "base: tiny.yaml\naxes: {training.lambda: [0.03]}\nseeds: [0]\n"
    "output: runs/sweep",
    "property.yaml": "data: {files: cells.extxyz, property: volume}\ntraining: {epochs: 1}\n"
    "output: runs/property",
    "d3.yaml": "data: {files: x}\nlabel: {engine: emt, dispersion: PBE}",
}
PREPARE = """
import numpy as np
from ase.io import read, write
frames = read("datasets/urea/urea.extxyz", ":20")
for frame in frames:
    frame.info["volume"] = frame.get_volume()
    frame.calc = None
write("cells.extxyz", frames)
write("POSCAR", frames[0])
angles = np.arange(5.0, 60.0, 0.02)
np.savetxt("measured.xy", np.stack([angles, 1 + 99 * np.exp(-((angles - 22) ** 2) / 0.02)], 1))
"""
CALCULATE = """
from ase.io import read
from tlpot import TLPotCalculator, __version__
atoms = read("POSCAR")
atoms.calc = TLPotCalculator("runs/quickstart")
print(__version__, atoms.get_potential_energy(), atoms.get_stress(), atoms.calc.results)
"""
EACH = """
import contextlib, io, json, shlex, sys, traceback
from tlpot.cli.main import main
for line in json.loads(sys.argv[1]):
    output, complaint, code = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(complaint):
        try:
            main(shlex.split(line))
        except SystemExit as done:
            code = done.code
        except BaseException:
            code = traceback.format_exc()
    print(json.dumps([line, code, output.getvalue(), complaint.getvalue()]), flush=True)
"""
IMPORT_ALL = """
import pkgutil, importlib, tlpot
for module in pkgutil.walk_packages(tlpot.__path__, "tlpot."):
    if module.name != "tlpot.__main__":
        importlib.import_module(module.name)
"""


PIP = ("-m", "pip", "--python", "environment/bin/python")
"""Of this environment, at work on the other."""


def lines(text: str) -> list[str]:
    return text.strip().splitlines()


class Install:
    """An environment's programs, run in a folder of their own."""

    def __init__(self, programs: Path, folder: Path) -> None:
        self.programs, self.folder = programs, folder
        self.environment = {
            k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "TLPOT"))
        }
        self.environment["OMP_NUM_THREADS"] = "1"

    def run(self, program: str, *words: str) -> subprocess.CompletedProcess[str]:
        command = [str(self.programs / program), *words]
        return subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True
        )

    def well(self, program: str, *words: str) -> str:
        """What a command prints that must succeed."""
        done = self.run(program, *words)
        assert not done.returncode, f"{program} {' '.join(words)}\n{done.stdout}\n{done.stderr}"
        return done.stdout


def lend(wheel: Path, packages: Path) -> None:
    """Link what a wheel requires, with all that this requires, out of this environment.

    pip would take a minute to copy it; `make release-check` has it do so.
    """
    pending, lent = [(text, frozenset({""})) for text in requirements_of(wheel)], set()
    while pending:
        text, extras = pending.pop()
        requirement = Requirement(text)
        marker = requirement.marker
        if marker and not any(marker.evaluate({"extra": extra}) for extra in extras):
            continue
        inner = frozenset(requirement.extras | {""})
        if (requirement.name, inner) in lent:
            continue
        lent.add((requirement.name, inner))
        package = distribution(requirement.name)
        pending += [(text, inner) for text in package.requires or ()]
        for entry in {file.parts[0] for file in package.files} - {"..", "__pycache__"}:
            if not (packages / entry).exists():
                (packages / entry).symlink_to(package.locate_file(entry))


def lend_kernels(package: Path) -> None:
    """Those that were compiled here: numba takes them beside sources of the same date.

    That they are compiled where there are none is for tests/engine/test_compiled.py.
    """
    for source in (ROOT / "tlpot/engine").glob("*.py"):
        shutil.copystat(source, package / "engine" / source.name)
    for kernel in (ROOT / "tlpot/engine/__pycache__").glob("*.nb?"):
        shutil.copy2(kernel, package / "engine/__pycache__")


def requirements_of(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        (about,) = (name for name in archive.namelist() if name.endswith("/METADATA"))
        return email.message_from_bytes(archive.read(about)).get_all("Requires-Dist")


@pytest.fixture(scope="module")
def install(tmp_path_factory):
    """The wheel of this tree, made by way of the sdist, with what it requires and nothing else."""
    folder = tmp_path_factory.mktemp("alone")
    here = Install(Path(sys.executable).parent, folder)
    here.well("python", "-m", "build", "--no-isolation", "--outdir", "dist", str(ROOT))
    here.well("python", "-m", "venv", "--without-pip", "environment")
    (wheel,), (packages,) = folder.glob("dist/*.whl"), folder.glob("environment/lib/*/*-packages")
    lend(wheel, packages)
    here.well("python", *PIP, "install", "--quiet", "--no-deps", "--no-index", str(wheel))
    lend_kernels(packages / "tlpot")
    yield Install(folder / "environment/bin", folder)
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def work(install):
    """README's first steps from an install, with less to compile; files for the other verbs."""
    install.well("tlpot", "init", "--examples", ".")
    install.well("python", "-c", PREPARE)
    for name, text in FILES.items():
        (install.folder / name).write_text(text)
    brief = ("training.epochs=1", "training.fine_angles=false")
    install.well("tlpot", "finetune", "examples/quickstart.yaml", *brief)
    return install


def test_requirements_are_met_and_no_extra_is_there(install):
    here = Install(Path(sys.executable).parent, install.folder)
    here.well("python", *PIP, "check")
    assert "pymatgen" not in here.well("python", *PIP, "list")


def test_every_module_can_be_imported(install):
    install.well("python", "-c", IMPORT_ALL)


def test_help_loads_no_torch(install):
    code = "import sys, tlpot.cli.main; sys.exit('torch' in sys.modules)"
    install.well("python", "-c", code)


@pytest.fixture(scope="module")
def answers(work):
    """Exit code, output and complaint of each line, all in one process: imports take long."""
    needs = [line.split(None, 1)[1] for line in lines(NEEDS)]
    printed = work.well("python", "-c", EACH, json.dumps([*lines(RUNS), *needs]))
    return {line: rest for line, *rest in map(json.loads, printed.splitlines())}


@pytest.mark.parametrize("command", lines(RUNS))
def test_the_base_install_does(answers, command):
    code, output, complaint = answers[command]
    assert not code, output + complaint


def test_doctor_finds_nothing_wrong_but_perhaps_the_weights(work):
    answer = json.loads(work.run("tlpot", "doctor", "tiny.yaml", "--json").stdout)
    assert set(answer["wrong"]) <= {"ANI-2x"}
    assert {"training", "engine compiled", "config"} <= {c["name"] for c in answer["checks"]}


def test_the_calculator_works(work):
    assert "nan" not in work.well("python", "-c", CALCULATE)


@pytest.mark.parametrize("line", lines(NEEDS))
def test_what_needs_an_extra_says_which_in_one_line(work, answers, line):
    extra, command = line.split(None, 1)
    code, _, complaint = answers[command]
    (message,) = complaint.strip().splitlines()
    assert re.search(
        rf"^error: .* needs \w+, which is not installed; pip install 'tlpot\[{extra}\]'$", message
    )
    assert code == 2
    assert not list(work.folder.glob("needs*"))


def test_every_verb_is_tried():
    def verbs(group, before=""):
        for name, command in group.commands.items():
            inner = getattr(command, "commands", None)
            yield from verbs(command, f"{name} ") if inner else [before + name]

    tried = {f"tlpot {line} " for line in lines(RUNS)} | {"tlpot finetune ", "tlpot doctor "}
    tried |= {f"tlpot {line.split(None, 1)[1]} " for line in lines(NEEDS)}
    everything = set(verbs(typer.main.get_command(app)))
    untried = {
        verb for verb in everything if not any(t.startswith(f"tlpot {verb} ") for t in tried)
    }
    assert untried == {"property evaluate", "property import", "xrd classify"}
