"""What README and docs tell a stranger to type: every command runs, every config is valid.

The blocks of a page run in its order, in one folder, as its reader would run them, but briefly.
"""

from __future__ import annotations

import configparser
import glob
import json
import os
import re
import runpy
import shlex
import shutil
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import ase.io
import numpy as np
import pytest
import typer.main
from ase.build import bulk
from safetensors import safe_open

from tlpot.cli.main import app, main
from tlpot.config.run import load_config
from tlpot.data.read import read_frames
from tlpot.data.write import write_frames
from tlpot.training.trainer import Trainer

ROOT = Path(__file__).parents[2]
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md"))]
}
FENCED = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
BLOCKS = {name: [m.groups() for m in FENCED.finditer(text)] for name, text in PAGES.items()}
KINDS = {"", "python", "yaml", "text"}
"""Commands, a script, a config; text is shown and not to be typed."""
TUTORIALS = "docs/tutorials/"
RUN = [
    name
    for name, blocks in BLOCKS.items()
    if {kind for kind, _ in blocks} & {"", "python"} and not name.startswith(TUTORIALS)
]
CONFIGS = {
    f"{name}-{n}": text
    for name, blocks in BLOCKS.items()
    for n, (kind, text) in enumerate(blocks)
    if kind == "yaml"
}
INLINE = {
    " ".join(text.split())
    for page in [
        *PAGES.values(),
        *(p.read_text() for pattern in ("*", "*/*") for p in ROOT.glob(f"{pattern}/README.md")),
    ]
    for text in re.findall(r"`((?:tlpot|make|pip|torchrun) [^`]+)`", page)
}
UREA = "datasets/urea/urea.extxyz"
METHYLSILANE = "datasets/methylsilane/methylsilane.extxyz"

SHORT = {
    "tlpot inspect": "--model mini",
    "tlpot init --from": "model.base=mini",
    "tlpot validate config.yaml": f"data.files={UREA} model.base=mini",
    "tlpot finetune config.yaml training.epochs=4": f"data.files={UREA} model.base=mini",
    "tlpot finetune config.yaml": f"data.files={UREA} model.base=mini training.epochs=2",
    "tlpot finetune examples/quickstart.yaml": "training.epochs=1",
    "tlpot property train": "training.epochs=2",
    "tlpot xrd train": "training.epochs=2",
    "tlpot sample propose POSCAR": "--model mini",
    "tlpot finetune": "training.epochs=1",
    "tlpot stress": "--count 0 --scans 1 --ramp 0",
    "tlpot relax": "--set=fmax=2 --set=smax=20",
    "tlpot rank examples/landscape": "--set=fmax=2 --set=smax=20",
    "tlpot sample learn": "training.epochs=1",
}
"""Added to a command that takes long, or lacks what its reader fills in; the first that fits."""
FEW = {"--ps": "0.002", "--phonons": "1"}
"""Options that are given less, as is ``--number``: a tenth."""
INSTEAD = {"ani2x": "mini", "gfn1": "emt", f"{UREA}@60:80": f"{UREA}@16:20"}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Path:
    """The files that the pages name, small."""
    folder = tmp_path_factory.mktemp("prepared")
    shutil.copytree(ROOT / "examples", folder / "examples")
    for file in (UREA, METHYLSILANE):
        (folder / file).parent.mkdir(parents=True)
        write_frames(folder / file, read_frames(ROOT / file)[:20])
    for crystal in sorted(folder.glob("examples/landscape/*.cif"))[4:]:
        crystal.unlink()
    sweep = folder / "examples/sweep.yaml"
    text = sweep.read_text().replace("[0.01, 0.03, 0.1, 0.5, 0.9]", "[0.03]")
    sweep.write_text(text.replace("[0, 1, 2]", "[0]").replace("workers: 2", "workers: 1"))
    quickstart = folder / "examples/quickstart.yaml"
    quickstart.write_text(quickstart.read_text().replace("epochs: 40", "epochs: 1"))
    assert sweep.read_text().count("[0") == 2
    assert "epochs: 1\n" in quickstart.read_text()
    frames = read_frames(ROOT / UREA)[:40:20]
    for name in ("landscape", "relaxed", "more", "crystals", "new", "my_cifs"):
        (folder / name).mkdir()
    for i, frame in enumerate(frames):
        ase.io.write(folder / f"landscape/{i}.cif", frame.atoms)
    write_frames(folder / "relaxed/relaxed.extxyz", frames)
    ase.io.write(folder / "more/a.traj", ase.io.read(ROOT / UREA, ":2"))
    for name in ("POSCAR", "form1.cif", "candidate.cif"):
        ase.io.write(folder / name, frames[0].atoms)
    angles = np.arange(5.0, 90.0, 0.02)
    counts = 5 + sum(900 * np.exp(-(((angles - c) / 0.1) ** 2)) for c in (22.2, 24.6, 35.5))
    np.savetxt(folder / "measured.xy", np.stack([angles, counts], axis=1))
    rows = []
    for i, metal in enumerate(("Li", "Na", "K", "Mg", "Ca", "Mn")):
        for kind in ("rocksalt", "zincblende", "wurtzite"):
            crystal, name = bulk(f"{metal}O", kind, 4.2 + 0.2 * i), f"{metal}{kind}"
            rows.append(f"{name},{crystal.get_volume():.3f}\n")
            for place in ("crystals", "my_cifs", "."):
                ase.io.write(folder / place / f"{name}.cif", crystal)
    ase.io.write(folder / "new/a.cif", bulk("BaO", "rocksalt", 5.5))
    for table in ("crystals/id_prop.csv", "id_prop.csv", "known.csv"):
        (folder / table).write_text("id,volume\n" + "".join(rows))
    where = os.getcwd()
    os.chdir(folder)
    run("tlpot finetune examples/quickstart.yaml output=runs/mycrystal")
    os.chdir(where)
    return folder


@pytest.fixture
def workplace(prepared, tmp_path, monkeypatch, outcar_text):
    folder = shutil.copytree(prepared, tmp_path / "work")
    for run_folder in ("run1", "run2"):
        (folder / run_folder).mkdir()
    (folder / "run1/OUTCAR").write_text(outcar_text(9, 8, 7))
    shutil.copy(folder / "examples/vasp/vasprun.xml.gz", folder / "run2")
    monkeypatch.chdir(folder)
    return folder


def words_of(line: str) -> list[str]:
    """As a shell splits a line; globs are expanded."""
    words = shlex.split(line, comments=True)
    return [name for word in words for name in sorted(glob.glob(word)) or [word]]


def run(line: str, *codes: int) -> None:
    """Run one line as its reader would, but briefly; its exit code is 0, or one of `codes`."""
    words = [INSTEAD.get(word, word) for word in words_of(line)]
    for option, value in FEW.items():
        if option in words:
            words[words.index(option) + 1] = value
    if "--number" in words:
        place = words.index("--number") + 1
        words[place] = str(max(2, int(words[place]) // 10))
    more = next((more.split() for start, more in SHORT.items() if line.startswith(start)), [])
    names = [word.partition("=")[0] for word in more]
    words = [word for word in words if word.partition("=")[0] not in names] + more
    assert words[0] == "tlpot", f"nobody knows how to try: {line}"
    if "metatomic" in words and not find_spec("metatomic"):
        return
    with pytest.raises(SystemExit) as done:
        main(words[1:])
    assert (done.value.code or 0) in (codes or (0,)), line


def recipe(target: str) -> list[str]:
    """Lines of a target of the Makefile."""
    match = re.search(rf"^{re.escape(target)}:.*\n((?:\t.*\n)+)", MAKEFILE, re.MULTILINE)
    assert match, f"make {target}: no such target"
    return [line.strip() for line in match[1].splitlines()]


MAKEFILE = (ROOT / "Makefile").read_text()


@pytest.mark.parametrize("page", RUN)
def test_a_page_runs_from_its_first_block_to_its_last(page, workplace, seeds, interrupted):
    run_page(page, interrupted)


def test_the_tutorials_run_one_after_the_other(workplace, interrupted, monkeypatch):
    """Briefly; `make docs` runs them whole."""
    monkeypatch.syspath_prepend(ROOT / "tools")
    from tutorials import ORDER, blocks

    assert {f"{TUTORIALS}{name}.md" for name in (*ORDER, "index")} == {
        name for name in PAGES if name.startswith(TUTORIALS)
    }
    for page in [f"{TUTORIALS}{name}.md" for name in ORDER]:
        runs = [(kind, block) for kind, block in BLOCKS[page] if kind in ("", "python")]
        assert blocks(PAGES[page]) == runs
        run_page(page, interrupted)


def run_page(page: str, interrupted) -> None:
    if "tlpot init" not in PAGES[page] and not page.startswith(TUTORIALS):
        run("tlpot init config.yaml")
    for kind, block in BLOCKS[page]:
        if kind == "python":
            Path("script.py").write_text(block.replace("fmax=0.01", "fmax=0.01, steps=2"))
            runpy.run_path("script.py")
        elif not kind:
            for made in map(Path, re.findall(r"--output (\S+)", block)):
                shutil.rmtree(made) if made.is_dir() else made.unlink(missing_ok=True)
            run_block(block, interrupted)


def run_block(block: str, interrupted) -> None:
    """Run its lines; one whose next line resumes it is stopped on the way."""
    lines = [line for line in block.splitlines() if line]
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        program, *words = shlex.split(line, comments=True)
        if program == "make":
            for step in recipe(words[0]):
                if step.startswith("$(BIN)/tlpot"):
                    run(step.removeprefix("$(BIN)/"))
        elif program == "pip":
            assert_extras(line)
        elif "--resume" in following:
            assert words_of(following) == [*words_of(line), "--resume"]
            with interrupted():
                run(line, 130)
        else:
            run(line, *((0, 1) if line.startswith("tlpot rank examples/landscape") else ()))


@pytest.fixture
def interrupted(monkeypatch):
    """Ctrl-C in the second epoch."""

    @contextmanager
    def during():
        epochs = iter([Trainer._run_epoch])

        def epoch(trainer):
            for run_epoch in epochs:
                return run_epoch(trainer)
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(Trainer, "_run_epoch", epoch)
            yield

    return during


@pytest.fixture
def seeds(request, page, workplace):
    """Released networks, for the page that imports one."""
    if "band-gap.pth.tar" not in PAGES[page]:
        return
    folder = request.getfixturevalue("tlpot_data") / "seeds/cgcnn"
    for file in ("band-gap.pth.tar", "atom_init.json"):
        shutil.copy(folder / file, workplace)
    shutil.copy(workplace / "examples/property.yaml", workplace / "mine.yaml")


@pytest.mark.parametrize("name", CONFIGS)
def test_a_config_is_valid(name, tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text(CONFIGS[name])
    overrides = [] if re.search("files:|train: \\[", CONFIGS[name]) else ["data.files=OUTCAR"]
    load_config(file, overrides)


def test_the_run_folder_holds_what_its_page_says(prepared):
    files = re.findall(r"^\| `([\w.]+)` \|", PAGES["docs/reference/run.md"], re.MULTILINE)
    assert {path.name for path in (prepared / "runs/mycrystal").iterdir()} == set(files)


def test_a_model_file_has_what_its_page_says(prepared):
    with safe_open(prepared / "runs/mycrystal/model.safetensors", "np") as file:
        header = json.loads(file.metadata()["tlpot"])
    page = PAGES["docs/reference/model.md"]
    assert set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)) <= set(header)
    assert f"`{header['format']}`" in page


def test_every_kind_of_block_is_known():
    assert {kind for blocks in BLOCKS.values() for kind, _ in blocks} <= KINDS


def assert_extras(command: str) -> None:
    """What pip is told to install is there."""
    extras = configparser.ConfigParser()
    extras.read(ROOT / "setup.cfg")
    for extra in re.findall(r"tlpot\[(\w+)\]", command):
        assert extra in extras["options.extras_require"]


@pytest.mark.parametrize("command", sorted(INLINE))
def test_a_command_in_the_text_has_its_verb_and_options(command):
    program, *words = shlex.split(command)
    if program == "make":
        target = words[0]
        assert re.search(rf"^({target}|bench-%):", MAKEFILE, re.MULTILINE), target
    elif program == "pip":
        assert_extras(command)
    else:
        if program == "torchrun":
            words = words[words.index("tlpot") + 1 :]
        verb = typer.main.get_command(app)
        while hasattr(verb, "commands") and words and not words[0].startswith("--"):
            verb = verb.commands[words.pop(0)]
        options = {name for p in verb.params for name in [*p.opts, *p.secondary_opts]}
        assert {word for word in words if word.startswith("--")} <= {*options, "--help"}
