"""What a message tells a user to set, the verb at hand has: a key of its config, or an option."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import ase.io
import numpy as np
import pytest
import typer
import yaml
from ase import Atoms
from pydantic import BaseModel

import tlpot
from tlpot.cli.main import app, main
from tlpot.cli.shared import notes_of
from tlpot.config.hints import ALL, Sets, hint, settable
from tlpot.config.run import Config
from tlpot.data.check import MENDS, Rejection
from tlpot.powder.config import PowderConfig
from tlpot.property.config import PropertyConfig
from tlpot.structure.frames import Frame

ROOM = Path(tlpot.__file__).parent
FLAG = re.compile(r"(?<![\w-])--[a-z][a-z-]+")


def keys_of(section: type[BaseModel], above: str = "") -> Iterator[str]:
    for name, field in section.model_fields.items():
        key = above + (field.alias or name)
        yield key
        kinds = [field.annotation, *get_args(field.annotation)]
        for kind in kinds:
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                yield from keys_of(kind, f"{key}.")


CONFIGS = {"train": {*keys_of(PropertyConfig), *keys_of(PowderConfig)}, "": {*keys_of(Config)}}
KEYS = {key for keys in CONFIGS.values() for key in keys if "." in key}
BARE = re.compile(rf"(?<![\w.{{])(?:{'|'.join(map(re.escape, sorted(KEYS, reverse=True)))})(?!\w)")


def commands(group: Any, above: str = "") -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{above}{name} ")
        else:
            yield above + name, command


VERBS = dict(commands(typer.main.get_command(app)))
FLAGS = {
    name: {flag for option in verb.params for flag in (*option.opts, *option.secondary_opts)}
    for name, verb in VERBS.items()
}


def foreign(verb: str, message: str) -> set[str]:
    """Keys and options that a message names and the verb has not, nor another that it names."""
    text = " ".join(message.split())
    others = [name for name in VERBS if name != verb and named(name, text)]
    flags = FLAGS[verb].union({"--help"}, *(FLAGS[name] for name in others))
    configured = {name for name in (verb, *others) if takes_config(name)}
    keys = set() if configured else set(BARE.findall(text))
    return {flag for flag in FLAG.findall(text) if flag not in flags} | keys


def named(verb: str, text: str) -> bool:
    """A cell of a table may break the line between the two words."""
    return f"tlpot {verb}" in text or f"{verb}'s" in text


def takes_config(verb: str) -> bool:
    notes = notes_of(VERBS[verb], Sets).values()
    return any(note == Sets(ALL) for some in notes for note in some)


# --- the mechanism -------------------------------------------------------------------------------


def test_a_hint_is_what_the_verb_offers():
    text = "look at it; {data.max_force} sets the bound; or name {data.keys.energy}"
    assert hint(text) == "look at it; data.max_force sets the bound; or name data.keys.energy"
    with settable({"data.keys.energy": "--energy-key"}):
        assert hint(text) == "look at it; or name --energy-key"
        assert hint("{data.max_force} sets it", "nothing sets it") == "nothing sets it"
    with settable({"data.keys.energy": "--energy-key"}, "finetune's "):
        assert hint(text).endswith("finetune's data.max_force sets the bound; or name --energy-key")
    assert hint("{data.relaxed}: true") == "data.relaxed: true"


def test_options_that_stand_for_a_key_name_one():
    for verb, command in VERBS.items():
        for notes in notes_of(command, Sets).values():
            assert {note.key for note in notes} <= KEYS | {ALL}, verb
    assert {verb for verb in VERBS if takes_config(verb)} == {
        *("finetune", "validate", "ablate", "sample learn", "property train", "xrd train", "init")
    }


@pytest.mark.parametrize("reason", MENDS)
def test_every_mend_says_something_to_every_verb(reason):
    for verb in VERBS.values():
        sets = notes_of(verb, Sets)
        with settable({n.key: f"--{name}" for name, some in sets.items() for n in some}):
            mend = Rejection(Frame(Atoms()), reason, "").mend
            assert mend
            assert "{" not in mend


# --- what stands in the source -------------------------------------------------------------------

ONLY_TRAININGS = (
    *(
        "config",
        "training",
        "finetuning/prepare",
        "finetuning/run",
        "finetuning/replay",
        "ablation",
        "property/data",
    ),
    *("property/prepare", "property/elements", "powder/data", "powder/prepare", "data/split"),
    *("property/draft", "powder/draft"),
    *("data/tables/tabulated", "data/groups", "evaluation/report", "sampling/active"),
    "model/reference",
)
"""Rooms whose messages none but verbs with a config can give."""
ONLY_WITH = {"elements/donors": "model.elements", "model/load": "model.elements"}
"""Keys of a config that others give messages of where the config has set them."""


def texts(path: Path) -> Iterator[tuple[int, str]]:
    """Strings of a file that are no docstrings, each f-string with its fields as ``…``."""
    tree = ast.parse(path.read_text())
    parts = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr):
            parts.add(id(node.value))
        elif isinstance(node, ast.JoinedStr):
            parts |= {id(value) for value in node.values}
            values = [v.value if isinstance(v, ast.Constant) else "…" for v in node.values]
            yield node.lineno, "".join(map(str, values))
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in parts:
            yield node.lineno, node.value


def test_rooms_of_every_verb_name_keys_through_hints():
    """Or with the verb that has them."""
    named = []
    for path in sorted(ROOM.rglob("*.py")):
        room = path.relative_to(ROOM).as_posix().removesuffix(".py")
        if room.startswith((*ONLY_TRAININGS, "cli")):
            continue
        for line, text in texts(path):
            keys = {*BARE.findall(text)} - {ONLY_WITH.get(room)}
            if room.startswith("labelling"):  # the verb reads that section of a config
                keys = {
                    key for key in keys if not key.startswith("label.") or key == "label.engine"
                }
            if keys and "tlpot finetune" not in text and "train with" not in text:
                named.append(f"{room}:{line}: {text}")
    assert not named, "\n".join(named)


HOMES = {
    "csp": {"rank"},
    "relax": {"relax", "rank"},
    "md": {"md"},
    "labelling": {"label"},
    "sampling": {"sample propose", "sample choose", "sample learn"},
    "powder": {"xrd train", "xrd classify", "xrd simulate", "rank"},
    "property": {name for name in VERBS if name.startswith("property")},
}
"""Verbs that give a room's messages; of other rooms, any."""


def test_options_in_messages_are_options_of_their_verbs():
    unknown = []
    for path in sorted(ROOM.rglob("*.py")):
        room = path.relative_to(ROOM).parts[0]
        verbs = [name for name in VERBS if name in HOMES.get(room, VERBS)]
        flags = set().union(*(FLAGS[name] for name in verbs))
        for line, text in texts(path):
            others = {name for name in VERBS if f"tlpot {name}" in text}
            known = flags.union({"--help", "--version"}, *(FLAGS[name] for name in others))
            wrong = [flag for flag in FLAG.findall(text) if flag not in known]
            if wrong and " " in text:
                unknown.append(f"{path.relative_to(ROOM)}:{line}: {wrong}")
    assert not unknown, "\n".join(unknown)


# --- what is said --------------------------------------------------------------------------------


def carbon_monoxide(length: float = 1.1, **labels: float) -> Atoms:
    atoms = Atoms("CO", positions=[[0, 0, 0], [0, 0, length]])
    atoms.info |= {"energy": -14.0} | labels
    atoms.arrays["forces"] = np.array([[0, 0, -0.1], [0, 0, 0.1]])
    return atoms


def faulty() -> dict[str, list[Atoms]]:
    unlabelled = carbon_monoxide()
    del unlabelled.info["energy"]
    strong, wordy = carbon_monoxide(), carbon_monoxide()
    strong.arrays["forces"] = np.full((2, 3), 90.0)
    wordy.info["energy"] = "much"
    foreign = Atoms("SiO", positions=[[0, 0, 0], [0, 0, 1.6]], info={"energy": -1.0})
    foreign.arrays["forces"] = np.zeros((2, 3))
    competing = carbon_monoxide(dft_energy=-14.0, ccsd_energy=-15.0)
    del competing.info["energy"]
    other = [carbon_monoxide(), carbon_monoxide(1.2)]
    other[1].info = {"ccsd_energy": -15.0}
    return {
        "near": [carbon_monoxide(0.2)],
        "unlabelled": [unlabelled],
        "strong": [strong],
        "wordy": [wordy],
        "foreign": [foreign],
        "competing": [competing],
        "levels": other,
        "placeholders": [zeroed(1.0 + 0.05 * i) for i in range(9)],
        "units": [carbon_monoxide(1.0 + 0.05 * i, energy=-1400.0 - 9.0 * i) for i in range(9)],
    }


def zeroed(length: float) -> Atoms:
    atoms = carbon_monoxide(length)
    atoms.arrays["forces"] = np.zeros((2, 3))
    return atoms


@pytest.fixture
def call(capsys, monkeypatch, tmp_path):
    """Runs the command line in an empty folder: all that it says."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> str:
        with pytest.raises(SystemExit):
            main([str(a) for a in arguments])
        shown = capsys.readouterr()
        return shown.out + shown.err

    return run


@pytest.mark.parametrize("fault", faulty())
def test_no_verb_names_what_it_has_not(call, fault, monkeypatch):
    monkeypatch.setenv("COLUMNS", "500")
    name = f"{fault}.extxyz"
    ase.io.write(name, faulty()[fault])
    Path("config.yaml").write_text(
        yaml.safe_dump({"data": {"files": name}, "model": {"base": "mini"}, "output": "run"})
    )
    verbs = {
        "validate": ["config.yaml"],
        "evaluate": ["mini", name],
        "inspect": [name, "--model", "mini"],
        "sample choose": [
            *(name, "--by", "committee", "--model", "mini"),
            *("--number", 1, "--output", "chosen.extxyz"),
        ],
        "relax": [name, "--model", "mini", "--output", "relaxed", "--steps", 1],
        "rank": [name, "--model", "mini", "--output", "ranked", "--steps", 1],
    }
    for verb, arguments in verbs.items():
        message = call(*verb.split(), *arguments)
        assert not foreign(verb, message), message
        assert "{data" not in message


def test_the_option_is_named_where_there_is_one(call):
    ase.io.write("two.extxyz", faulty()["competing"])
    for verb in (["evaluate", "mini", "two.extxyz"], ["inspect", "two.extxyz"]):
        assert "Name one with --energy-key" in " ".join(call(*verb).split())
    message = call("evaluate", "mini", "two.extxyz", "--energy-key", "dft_energi")
    assert "which --energy-key names; did you mean dft_energy" in " ".join(message.split())
    message = call("label", "two.extxyz", "--engine", "emt", "--output", "labelled.extxyz")
    assert "Keep one in the file" in " ".join(message.split())
    ase.io.write("near.extxyz", faulty()["near"])
    message = call("label", "near.extxyz", "--engine", "no_such", "--output", "labelled.extxyz")
    assert "--engine: 'no_such' is not at hand" in " ".join(message.split())
