"""One rule for all verbs: what is there is never overwritten, and that is said before any work."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import ase.io
import pytest
import typer

from tlpot.cli.main import app, main
from tlpot.cli.shared import Writes, notes_of, paths_of

MINI, POSCAR, UREA = ("--model", "mini"), "POSCAR", "urea.extxyz"
FILES: dict[str, list[tuple[str, ...]]] = {
    "init": [("OUT.yaml",), ("OUT.yaml", "--from", UREA)],
    "elements": [("Si", *MINI, "--output", "OUT.png")],
    "evaluate": [
        ("mini", UREA, "--output", "OUT.extxyz"),
        ("mini", UREA, "--parity", "OUT.png"),
        ("mini", UREA, "--output", "new.extxyz", "--parity", "OUT.png"),
        ("mini", UREA, "--refused", "OUT.csv"),
    ],
    "inspect": [(UREA, *MINI, "--refused", "OUT.csv")],
    "validate": [("bad.yaml", "--refused", "OUT.csv")],
    "finetune": [("bad.yaml", "--refused", "OUT.csv")],
    "label": [(POSCAR, "--engine", "emt", "--output", "OUT.extxyz")],
    "export": [("mini", "--to", "torchani", "--output", "OUT.py")],
    "sample propose": [(POSCAR, "--method", "rattle", "--number", "2", "--output", "OUT.extxyz")],
    "sample choose": [(UREA, "--by", "random", "--number", "2", "--output", "OUT.extxyz")],
    "sample learn": [("tiny.yaml", "--output", "OUT.extxyz")],
    "property predict": [(POSCAR, "--model", "absent", "--output", "OUT.csv")],
    "property import": [("x", "--elements", "x", "--name", "x", "--output", "OUT.safetensors")],
}
"""Files that a verb writes: a command that is right but for its OUT, which is there."""
FOLDERS: dict[str, list[tuple[str, ...]]] = {
    "inspect": [(UREA, *MINI, "--output", "OUT")],
    "evaluate": [("mini", "--phonons", "OUTCAR", "--output", "OUT")],
    "validate": [("tiny.yaml", "output=OUT")],
    "finetune": [("tiny.yaml", "output=OUT"), ("tiny.yaml", "output=OUT", "--resume")],
    "ablate": [("sweep.yaml",)],
    "label": [(POSCAR, "--engine", "vasp", "--output", "OUT")],
    "rank": [(POSCAR, *MINI, "--no-relax", "--output", "OUT")],
    "relax": [(POSCAR, *MINI, "--output", "OUT")],
    "md": [(POSCAR, *MINI, "--ps", "0.01", "--output", "OUT")],
    "stress": [("mini", POSCAR, "--output", "OUT")],
    "property train": [("property.yaml", "output=OUT")],
    "xrd train": [("xrd.yaml", "output=OUT")],
}
"""Folders that a verb fills; OUT holds a file of the user's."""
SILENT = {"schema", "info", "doctor", "property evaluate", "xrd classify"}
"""Verbs that write nothing."""
READ = {
    ("evaluate", "phonons"),
    ("label", "config"),
    ("rank", "classifier"),
    ("rank", "pattern"),
    ("rank", "experimental"),
}
"""Options that name a file to read."""
OTHERWISE = {
    ("stress", "output"): "its folder goes on",
    ("label", "output"): "a file of its own goes on",
    **{
        (verb, "refused"): "a command that was stopped finds its own, and writes the same"
        for verb in ("evaluate", "finetune", "init", "sample learn", "validate")
    },
}
"""Options that name a file or folder to write and follow the rule by other means."""


def verbs(group: typer.Typer = app, before: str = "") -> Iterator[tuple[str, object]]:
    for info in group.registered_commands:
        command = typer.main.get_command_from_info(
            info, pretty_exceptions_short=True, rich_markup_mode=None
        )
        yield f"{before}{command.name}", command
    for inner in group.registered_groups:
        yield from verbs(inner.typer_instance, f"{before}{inner.name} " if inner.name else before)


VERBS = dict(verbs())


@pytest.fixture
def call(capsys, monkeypatch, tmp_path, request):
    """Runs a verb in a folder with small data; exit code and complaint."""
    monkeypatch.chdir(tmp_path)
    urea = request.config.rootpath / "datasets/urea"
    lines = (urea / "urea.extxyz").read_text().splitlines(keepends=True)
    Path(UREA).write_text("".join(lines[: 18 * 12]))
    ase.io.write(POSCAR, ase.io.read(UREA))
    common = "model: {base: mini}\ntraining: {epochs: 1}\n"
    Path("tiny.yaml").write_text(f"data: {{files: {UREA}}}\n{common}")
    Path("bad.yaml").write_text(f"data: {{files: {UREA}, max_force: 1e-9}}\n{common}")
    Path("sweep.yaml").write_text("base: tiny.yaml\naxes: {training.lambda: [0.1]}\noutput: OUT")
    for name in ("property", "xrd"):
        Path(f"{name}.yaml").write_text(f"data: {{files: {POSCAR}}}\n")

    def run(verb: str, words: tuple[str, ...]) -> tuple[int, str]:
        with pytest.raises(SystemExit) as stopped:
            main([*verb.split(), *words])
        return int(stopped.value.code or 0), " ".join(capsys.readouterr().err.split())

    return run


def contents() -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in Path().rglob("*") if p.is_file()}


def test_every_verb_is_here():
    assert set(FILES) | set(FOLDERS) | SILENT == set(VERBS)
    assert not SILENT & (set(FILES) | set(FOLDERS))


@pytest.mark.parametrize("verb", VERBS)
def test_an_option_that_names_a_file_is_one_to_read_or_follows_the_rule(verb):
    command, kinds = VERBS[verb], {p.name: type(p).__name__ for p in VERBS[verb].params}
    options = {name for name in paths_of(command) if kinds[name] == "TyperOption"}
    follow = {name for name, notes in notes_of(command, Writes).items() if notes}
    other = {name for of, name in READ | OTHERWISE.keys() if of == verb}
    assert options - follow == other & options
    assert verb not in SILENT or not follow


@pytest.mark.parametrize(
    ("verb", "words"), [(verb, words) for verb in FILES for words in FILES[verb]]
)
def test_a_file_that_is_there_stays(call, verb, words):
    out = next(word for word in words if word.startswith("OUT"))
    Path(out).write_text("mine")
    before = contents()
    code, complaint = call(verb, words)
    assert code == 2, complaint
    assert out in complaint
    assert contents() == before


@pytest.mark.parametrize(
    ("verb", "words"), [(verb, words) for verb in FOLDERS for words in FOLDERS[verb]]
)
def test_a_folder_that_holds_anything_else_stays(call, verb, words):
    Path("OUT").mkdir()
    Path("OUT/mine.txt").write_text("mine")
    before = contents()
    code, complaint = call(verb, words)
    assert code == 2, complaint
    assert "OUT" in complaint
    assert contents() == before


@pytest.mark.parametrize("verb", ["init", "elements", "sample propose", "label"])
def test_folders_on_the_way_to_a_file_are_made(call, verb):
    words = [word.replace("OUT", "new/folder/OUT") for word in FILES[verb][0]]
    code, complaint = call(verb, tuple(words))
    assert code == 0, complaint
    assert len(list(Path("new/folder").iterdir())) == 1
