"""Every option of every verb has an effect, or is refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from tlpot.cli.main import app, main
from tlpot.cli.shared import Verb, needs_of

FAR = "tcp://127.0.0.1:1"
PROPOSE = ("sample", "propose", "x", "--number", "3", "--output", "OUT", "--method")
CHOOSE = ("sample", "choose", "x", "--number", "3", "--output", "OUT", "--by")
RELAX = ("relax", "x", "--output", "OUT")
RANK = ("rank", "x", "--output", "OUT")
LABEL = ("label", "x", "--output", "OUT")
MD = ("md", "x", "--output", "OUT")

DEPENDENT: dict[tuple[str, str], list[tuple[tuple[str, ...], str]]] = {
    ("evaluate", "phonons"): [(("evaluate", "mini", "x", "--phonons", "y"), "with files")],
    ("evaluate", "parity"): [
        (("evaluate", "mini", "--phonons", "y", "--parity", "p.png"), "with --phonons"),
    ],
    ("evaluate", "refused"): [
        (("evaluate", "mini", "--phonons", "y", "--refused", "r.csv"), "with --phonons"),
    ],
    ("sample propose", "model"): [
        ((*PROPOSE, "rattle", "--model", "mini"), "with --method rattle"),
    ],
    ("sample propose", "device"): [
        ((*PROPOSE, "rattle", "--device", "cpu"), "with --method rattle"),
    ],
    ("sample propose", "temperature"): [
        ((*PROPOSE, "rattle", "--temperature", "300"), "with --method rattle"),
    ],
    ("sample propose", "strain"): [((*PROPOSE, "modes", "--strain", "0"), "with --method modes")],
    ("sample propose", "rattle"): [((*PROPOSE, "md", "--rattle", "0.1"), "with --method md")],
    ("sample choose", "window"): [((*CHOOSE, "random", "--window", "3"), "with --by random")],
    ("sample choose", "model"): [
        ((*CHOOSE, "random", "--model", "mini"), "with --by random"),
        ((*CHOOSE, "doubt", "--model", "mini"), "with --by doubt"),
    ],
    ("sample choose", "device"): [((*CHOOSE, "doubt", "--device", "cpu"), "with --by doubt")],
    ("sample choose", "known"): [((*CHOOSE, "committee", "--known", "y"), "with --by committee")],
    ("sample choose", "seed"): [((*CHOOSE, "committee", "--seed", "1"), "with --by committee")],
    ("label", "engine"): [((*LABEL, "--collect", "--engine", "emt"), "with --collect")],
    ("label", "config"): [((*LABEL, "--collect", "--config", "c.yaml"), "with --collect")],
    ("label", "workers"): [
        ((*LABEL, "--collect", "--workers", "2"), "with --collect"),
        ((*LABEL, "--engine", "vasp", "--workers", "2"), "with --engine vasp"),
        ((*LABEL, "--config", "vasp.yaml", "--workers", "2"), "with --engine vasp"),
        ((*LABEL, "--engine", "emt", "--scheduler", FAR, "--workers", "2"), f"--scheduler {FAR}"),
    ],
    ("label", "scheduler"): [
        ((*LABEL, "--collect", "--scheduler", FAR), "with --collect"),
        ((*LABEL, "--engine", "vasp", "--scheduler", FAR), "with --engine vasp"),
    ],
    **{
        ("rank", name): [((*RANK, "--no-relax", *words), "with --no-relax")]
        for name, words in {
            **{"symmetry": ("--symmetry",), "pressure": ("--pressure", "5")},
            **{"fmax": ("--fmax", "0.01"), "steps": ("--steps", "5"), "free": ("--free", "cell")},
            **{"smax": ("--smax", "1"), "engine": ("--engine", "ase")},
            **{"max_spread": ("--max-spread", "1"), "bonds": ("--no-bonds",)},
            **{"max_distance": ("--max-distance", "1")},
        }.items()
    },
    ("rank", "symprec"): [
        ((*RANK, "--symprec", "1"), "without --symmetry"),
    ],
    ("rank", "batch_atoms"): [
        ((*RANK, "--no-relax", "--batch-atoms", "9"), "with --no-relax"),
        ((*RANK, "--engine", "ase", "--batch-atoms", "9"), "with --engine ase"),
    ],
    ("rank", "functional"): [((*RANK, "--functional", "PBE"), "without --dispersion")],
    ("rank", "temperature"): [
        ((*RANK, "--temperature", "300"), "without --phonons"),
        ((*RANK, "--phonons", "0", "--temperature", "300"), "without --phonons"),
    ],
    ("rank", "supercell"): [((*RANK, "--supercell", "9"), "without --phonons")],
    ("rank", "wavelength"): [((*RANK, "--wavelength", "CuKa"), "without --pattern")],
    ("rank", "shift"): [((*RANK, "--shift", "0.5"), "without --pattern")],
    ("rank", "classifier"): [((*RANK, "--classifier", "c"), "without --pattern")],
    ("rank", "workers"): [((*RANK, "--scheduler", FAR, "--workers", "2"), f"--scheduler {FAR}")],
    ("relax", "pressure"): [
        ((*RELAX, "--free", "positions", "--pressure", "1"), "with --free positions"),
    ],
    ("relax", "fmax"): [((*RELAX, "--free", "cell", "--fmax", "1"), "with --free cell")],
    ("relax", "symprec"): [((*RELAX, "--symprec", "0.1"), "without --symmetry")],
    ("relax", "batch_atoms"): [
        ((*RELAX, "--engine", "ase", "--batch-atoms", "9"), "with --engine ase"),
    ],
    ("relax", "workers"): [((*RELAX, "--scheduler", FAR, "--workers", "2"), f"--scheduler {FAR}")],
    **{
        ("stress", name): [
            (("stress", "mini", "x.cif", "--count", "0", f"--{name}", "9"), "without --count"),
        ]
        for name in ("pressure", "steps")
    },
    ("md", "pressure"): [
        ((*MD, "--pressure", "1"), "with --ensemble nvt"),
        ((*MD, "--ensemble", "nve", "--pressure", "0"), "with --ensemble nve"),
        ((*MD, "--set", "pressure=0"), "with --ensemble nvt"),
        ((*MD, "pressure=0"), "with --ensemble nvt"),
    ],
    ("init", "files"): [(("init", "--examples", "--from", "x"), "with --examples")],
    ("init", "kind"): [(("init", "--examples", "--kind", "xrd"), "with --examples")],
    ("init", "refused"): [
        (("init", "--refused", "OUT"), "without --from"),
        (("init", "--kind", "xrd", "--from", "x", "--refused", "OUT"), "with --kind xrd"),
    ],
    ("md", "isotropic"): [((*MD, "--isotropic"), "with --ensemble nvt")],
    ("md", "tau_cell"): [((*MD, "--tau-cell", "9"), "with --ensemble nvt")],
    ("md", "compressibility"): [((*MD, "--compressibility", "1"), "with --ensemble nvt")],
    ("md", "tau"): [((*MD, "--ensemble", "nve", "--tau", "9"), "with --ensemble nve")],
    ("md", "thermostat"): [
        ((*MD, "--ensemble", "npt", "thermostat=langevin"), "with --ensemble npt"),
    ],
}
"""Options that others decide about: commands in which each must be refused, and why."""

OTHERWISE = {"files": "from"}
"""Flags of options that Python calls by another name."""

ALWAYS: dict[str, set[str]] = {
    "finetune": {"config", "overrides", "resume", "refused"},
    "ablate": {"sweep", "workers", "scheduler"},
    "evaluate": {
        *("model", "files", "as_json", "energy_key", "forces_key", "stress_key", "device"),
        "output",
    },
    "inspect": {"files", "output", "energy_key", "forces_key", "stress_key", "model", "device"}
    | {"refused"},
    "elements": {"symbols", "model", "output", "as_json"},
    "init": {"words", "examples"},
    "doctor": {"config", "as_json"},
    "validate": {"config", "overrides", "refused"},
    "sample propose": {"files", "method", "number", "output", "min_distance", "seed"},
    "sample choose": {"files", "by", "number", "output"},
    "sample learn": {"config", "overrides", "output", "number", "refused"},
    "label": {"files", "output", "collect"},
    "schema": set(),
    "rank": {
        *("files", "model", "output", "relax", "molecule", "experimental", "reference"),
        *("dispersion", "duplicates", "phonons", "pattern", "device", "scheduler", "settings"),
    },
    "relax": {
        *("files", "model", "output", "free", "smax", "symmetry", "steps", "engine"),
        *("max_spread", "max_distance", "bonds", "device", "scheduler", "settings"),
    },
    "md": {
        *("file", "model", "output", "ps", "supercell", "ensemble", "temperature"),
        *("timestep", "seed", "log_every", "frame_every", "save_every", "max_temperature"),
        *("max_energy", "max_spread", "max_distance", "bonds", "settings", "device"),
    },
    "stress": {"model", "structure", "output", "base", "count", "scans", "ramp", "seed", "device"},
    "info": {"model", "as_json"},
    "export": {"model", "to", "output", "elements"},
    "property train": {"config", "overrides", "resume"},
    "property predict": {"files", "model", "output", "drop_bad", "device"},
    "property evaluate": {"files", "model", "key", "structures", "as_json", "device"},
    "property import": {"checkpoint", "elements", "name", "output", "unit"},
    "xrd train": {"config", "overrides", "resume"},
    "xrd classify": {"files", "model", "wavelength", "as_json", "device"},
}
"""Options that no other one decides about. Those of ``ablate`` are fields of `Sweep`; names that
the files lack, a run that cannot be resumed and the like are refused where they are read."""


def verbs() -> Iterator[tuple[str, Any]]:
    def walk(name: str, command: Any) -> Iterator[tuple[str, Any]]:
        if hasattr(command, "commands"):
            for word, one in command.commands.items():
                yield from walk(f"{name} {word}".strip(), one)
        else:
            yield name, command

    yield from walk("", typer.main.get_command(app))


def test_every_option_is_decided():
    """A new option is either refused beside some other one, or said to need none."""
    found = dict(verbs())
    assert set(found) == set(ALWAYS)
    for verb, command in found.items():
        assert isinstance(command, Verb), verb
        options = {p.name for p in command.params} - {"help"}
        dependent = {name for where, name in DEPENDENT if where == verb}
        assert dependent == {name for name, notes in needs_of(command).items() if notes}, verb
        assert not dependent & ALWAYS[verb], verb
        assert options == dependent | ALWAYS[verb], verb


@pytest.mark.parametrize(
    ("option", "words", "why"),
    [(key[1], words, why) for key, cases in DEPENDENT.items() for words, why in cases],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_an_option_without_an_effect_is_refused(option, words, why, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("vasp.yaml").write_text("data: {files: x}\nlabel: {engine: vasp}\n")
    with pytest.raises(SystemExit) as stopped:
        main(list(words))
    out, err = capsys.readouterr()
    assert stopped.value.code == 2, err
    assert out == ""
    flag = f"--{OTHERWISE.get(option, option.replace('_', '-'))}"
    assert f"{flag} has no effect {why}"[:90] in err or f"{flag} has no effect with {why}" in err
    assert [path.name for path in tmp_path.iterdir()] == ["vasp.yaml"]
