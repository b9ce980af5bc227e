"""Every option of every verb and every field of every config has an effect, or is refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
import typer
import yaml
from pydantic import BaseModel

from tlpot.ablation.sweep import Sweep
from tlpot.cli.main import app, main
from tlpot.cli.shared import Verb, needs_of
from tlpot.config.run import Config, parse_config
from tlpot.config.sections import Needs, load_section
from tlpot.csp.settings import Ranking
from tlpot.errors import TlpotError
from tlpot.finetuning.prepare import prepare
from tlpot.md.settings import Dynamics
from tlpot.powder.config import PowderConfig
from tlpot.property.config import PropertyConfig
from tlpot.sampling.settings import Proposal
from tlpot.training.potential import PotentialTask
from tlpot.training.trainer import Trainer

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


# --- configs --------------------------------------------------------------------------------------

ROOTS: tuple[type[BaseModel], ...] = (Config, PropertyConfig, PowderConfig)
ROOTS += (Sweep, Ranking, Dynamics, Proposal)

IDLE: list[tuple[type[BaseModel], str, dict[str, Any], str]] = [
    (Config, "model.schnet", {"model": {"base": "mini", "schnet": {}}}, "with base: mini"),
    *(
        (
            Config,
            f"data.groups.{key}",
            {"data": {"groups": [{"files": "x", key: value}]}},
            "without table",
        )
        for key, value in {"column": "E", "unit": "eV", "per": "atom", "relative": True}.items()
    ),
    (
        Config,
        "data.groups.keys",
        {
            "data": {
                "groups": [{"files": "x", "table": "t", "relaxed": True, "keys": {"energy": "E"}}]
            }
        },
        "with table: t",
    ),
    (Config, "data.leaks", {"data": {"files": "x", "leaks": "drop"}}, "without validation or test"),
    (
        Config,
        "data.max_frames",
        {"data": {"train": "x", "max_frames": 3}},
        "without files or groups",
    ),
    (Config, "training.curvature", {"training": {"lambda": 0, "curvature": 0.2}}, "without lambda"),
    (Config, "label.dispersion", {"label": {"engine": "vasp", "dispersion": "PBE"}}, "vasp"),
    (Config, "label.replicate", {"label": {"engine": "vasp", "replicate": 9}}, "engine: vasp"),
    (Config, "label.stress", {"label": {"engine": "vasp", "stress": True}}, "engine: vasp"),
    *(
        (
            root,
            "training.patience",
            {"data": {"files": "x", "split": {"validation": 0}}, "training": {"patience": 3}},
            "without data.split.validation",
        )
        for root in ROOTS[:3]
    ),
    *(
        (
            root,
            "data.split.group",
            {"data": {"files": "x", "split": {"test": 0, "validation": 0, "group": "file"}}},
            "without test or validation",
        )
        for root in ROOTS[:3]
    ),
    (PropertyConfig, "model.freeze", {"model": {"freeze": ["conv1"]}}, "without base"),
    *(
        (PropertyConfig, f"model.{key}", {"model": {"base": "b", key: value}}, "with base: b")
        for key, value in {
            **{"elements": "modes", "width": 8, "convolutions": 2, "dense": 8, "layers": 2},
            "gate": True,
        }.items()
    ),
    (PowderConfig, "model.freeze", {"model": {"freeze": ["dense1"]}}, "without base"),
    (PowderConfig, "model.lines", {"model": {"sees": "log_q", "lines": 9}}, "with sees: log_q"),
    *(
        (PowderConfig, f"model.{key}", {"model": {key: value}}, "with sees: lines")
        for key, value in {"pool": 5, "intensity": "linear", "convolutions": {}}.items()
    ),
    *(
        (PowderConfig, f"model.{key}", {"model": {"base": "b", key: value}}, "with base: b")
        for key, value in {"sees": "log_q", "dense": [9], "dropout": 0.1}.items()
    ),
    (Config, "data.pressure", {"data": {"files": "x", "pressure": 1}}, "without relaxed: cell"),
    (
        Config,
        "data.groups.pressure",
        {"data": {"groups": [{"files": "x", "relaxed": True, "pressure": 1}]}},
        "with relaxed: true",
    ),
    (Sweep, "workers", {"scheduler": FAR, "workers": 2}, f"with scheduler: {FAR}"),
    (Sweep, "slurm", {"scheduler": FAR, "slurm": {"cores": 1}}, f"with scheduler: {FAR}"),
    (Ranking, "functional", {"functional": "PBE"}, "without dispersion"),
    (Ranking, "temperature", {"temperature": 100}, "without phonons"),
    (Ranking, "supercell", {"supercell": 5}, "without phonons"),
    (Ranking, "wavelength", {"wavelength": "MoKa"}, "without pattern"),
    (Ranking, "classifier", {"classifier": "c"}, "without pattern"),
    (Ranking, "shift", {"shift": 0.5}, "without pattern"),
    *(
        (Ranking, f"relaxation.{key}", {"relaxation": {"free": free, key: value}}, f"free: {free}")
        for key, value, free in (*(("pressure", 1, "positions"), ("fmax", 1, "cell")),)
    ),
    (Ranking, "relaxation.symprec", {"relaxation": {"symprec": 0.1}}, "without symmetry"),
    (Ranking, "relaxation.batch_atoms", {"relaxation": {"engine": "ase", "batch_atoms": 9}}, "ase"),
    (Proposal, "temperature", {"method": "rattle", "temperature": 9}, "with method: rattle"),
    (Proposal, "strain", {"method": "md", "strain": 0.1}, "with method: md"),
    (Proposal, "rattle", {"method": "modes", "rattle": 0.1}, "with method: modes"),
    (Dynamics, "thermostat", {"ensemble": "npt", "thermostat": "bussi"}, "with ensemble: npt"),
    (Dynamics, "pressure", {"pressure": 1}, "with ensemble: nvt"),
    (Dynamics, "isotropic", {"isotropic": True}, "with ensemble: nvt"),
    (Dynamics, "tau", {"ensemble": "nve", "tau": 10}, "with ensemble: nve"),
    (Dynamics, "tau_cell", {"tau_cell": 10}, "with ensemble: nvt"),
    (Dynamics, "compressibility", {"compressibility": 1}, "with ensemble: nvt"),
]
"""Fields that others decide about, and settings in which each must be refused."""

JUDGED_LATER = {
    f"training.{name}" for name in ("fine_angles", "moments", "stress_weight", "curvature")
}
"""Fields of a `Config` that the base or the frames decide about, in `prepare`."""

EFFECTIVE: dict[str, str] = {
    "Config": "data.files data.relaxed data.energy_only data.groups data.keys.energy "
    "data.keys.forces data.keys.stress data.energy data.bad_frames data.duplicates data.suspects "
    "data.max_force "
    "data.min_distance data.train data.validation data.test data.train_fraction data.split.test "
    "data.split.validation data.split.seed data.groups.files data.groups.relaxed "
    "data.groups.energy_only data.groups.keys.energy data.groups.keys.forces "
    "data.groups.keys.stress data.groups.weight data.groups.table model.base model.schnet.cutoff "
    "model.schnet.features model.schnet.interactions model.schnet.gaussians model.schnet.members "
    "model.elements.donor model.elements.kind model.train model.freeze model.init "
    "training.epochs training.batch_size training.learning_rate training.weight_decay "
    "training.schedule training.warmup_epochs training.ema training.clip training.seed "
    "training.device training.tensorboard training.preset training.force_share training.fit "
    "training.size_exponent training.huber training.weighting training.replay.files "
    "training.replay.share training.replay.weight "
    "evaluation.stress "
    "active.start active.add active.criterion active.stop label.engine "
    "label.parameters output",
    "PropertyConfig": "data.files data.property data.unit data.structures data.bad_frames "
    "data.train_fraction data.split.test data.split.validation data.split.seed "
    "model.base training.epochs training.batch_size training.learning_rate "
    "training.weight_decay training.schedule training.warmup_epochs training.ema training.clip "
    "training.seed training.device training.tensorboard output",
    "PowderConfig": "data.files data.table data.symprec data.bad_crystals data.per_class "
    "data.split.test data.split.validation data.split.seed model.base "
    "model.convolutions.filters model.convolutions.kernels model.convolutions.pooling "
    "model.convolutions.dropout training.epochs training.batch_size training.learning_rate "
    "training.weight_decay training.schedule training.warmup_epochs training.ema training.clip "
    "training.seed training.device training.tensorboard training.balance "
    "training.augmentation.strain training.augmentation.texture training.augmentation.shift "
    "training.augmentation.width training.augmentation.background training.augmentation.counts "
    "training.augmentation.variants training.augmentation.first training.augmentation.last output",
    "Sweep": "base axes seeds output keep_models scheduler",
    "Ranking": "relaxation.free relaxation.smax relaxation.symmetry relaxation.steps "
    "relaxation.engine relaxation.max_spread relaxation.max_distance relaxation.bonds "
    "molecule experimental reference dispersion duplicates phonons pattern",
    "Proposal": "method number min_distance seed",
    "Dynamics": "ensemble temperature timestep seed log_every frame_every save_every "
    "max_temperature max_energy max_spread max_distance bonds",
}
"""Fields that no other one decides about."""


def kinds(annotation: Any) -> list[type[BaseModel]]:
    """Sections in an annotation: of itself, of itself or None, of a list or dict of it."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [kind for part in get_args(annotation) for kind in kinds(part)]


def walk(section: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, bool]]:
    """Each field by its path, and whether it says what it needs."""
    for name, field in section.model_fields.items():
        notes = any(isinstance(note, Needs) for note in field.metadata)
        inside = kinds(field.annotation)
        for kind in inside:
            yield from walk(kind, f"{prefix}{name}.")
        if notes or not inside or field.annotation not in inside:
            yield f"{prefix}{name}", notes


@pytest.mark.parametrize("root", ROOTS, ids=lambda root: root.__name__)
def test_every_field_is_decided(root):
    """A new field is either refused beside some other one, or said to need none."""
    found = dict(walk(root))
    refused = {key for kind, key, _, _ in IDLE if kind is root}
    assert {key for key, notes in found.items() if notes} == refused - {"training.patience"}
    effective = set(EFFECTIVE[root.__name__].split())
    later = JUDGED_LATER if root is Config else set()
    assert not effective & (refused | later)
    sections = {key for key in found if any(other.startswith(f"{key}.") for other in found)}
    assert set(found) - sections <= effective | refused | later
    assert effective <= set(found)


@pytest.mark.parametrize(
    ("root", "key", "values", "why"), IDLE, ids=[f"{r.__name__} {k}" for r, k, *_ in IDLE]
)
def test_a_field_without_an_effect_is_refused(root, key, values, why, tmp_path):
    needed = {"data": {"files": "x"}} if "data" in root.model_fields else {}
    needed |= {"base": "b"} if root is Sweep else {}
    needed |= {"number": 2} if root is Proposal else {}
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(needed | values))
    with pytest.raises(TlpotError, match=rf"{key.split('.')[-1]} has no effect .*{why}"):
        load_section(root, path)


def test_a_config_that_is_dumped_says_nothing_without_an_effect(tmp_path):
    """Otherwise it could not be read back, and would say what is not so of the base's network."""
    values = {"data": {"files": "x"}, "model": {"base": "some.safetensors"}}
    for root in (PropertyConfig, PowderConfig):
        config = root.model_validate(values)
        path = tmp_path / "config.yaml"
        path.write_text(config.dump())
        dumped = yaml.safe_load(path.read_text())["model"]
        assert set(dumped) == {"base", "freeze"}
        assert load_section(root, path) == config
        config.model.require_effect(config.model.model_fields_set)


# --- fields whose effect shows in what is trained -------------------------------------------------

SCHNET = {"base": "schnet", "schnet": {"features": 4, "interactions": 1, "members": 2}}
PROVEN: dict[str, dict[str, Any]] = {
    "data.split.test": {"data.split.test": 0.3},
    "data.split.validation": {"data.split.validation": 0.3},
    "data.max_frames": {"data.max_frames": 10},
    "data.train_fraction": {"data.train_fraction": 0.5},
    "data.split.seed": {"data.split.seed": 3},
    "data.max_force": {"data.max_force": 3.0, "data.bad_frames": "drop"},
    "data.min_distance": {"data.min_distance": 0.93, "data.bad_frames": "drop"},
    "model.base": {"model.base": "mini"},
    "model.freeze": {"model.freeze": ["input"]},
    "model.init": {"model.init": "scratch"},
    "training.epochs": {"training.epochs": 3},
    "training.batch_size": {"training.batch_size": 2},
    "training.learning_rate": {"training.learning_rate": 1e-3},
    "training.weight_decay": {"training.weight_decay": 0.5},
    "training.schedule": {"training.schedule": "constant"},
    "training.warmup_epochs": {"training.warmup_epochs": 1},
    "training.ema": {"training.ema": 0.0},
    "training.clip": {"training.clip": 1e-3},
    "training.seed": {"training.seed": 5},
    "training.preset": {"training.preset": "thesis"},
    "training.force_share": {"training.lambda": 0.5},
    "training.fit": {"training.fit": "members"},
    "training.fine_angles": {"training.fine_angles": False},
    "training.stress_weight": {"training.stress_weight": 1.0},
    "training.size_exponent": {"training.size_exponent": 0.0},
    "training.huber": {"training.huber": 1e-3},
    "training.weighting": {"training.weighting": "size"},
}


@pytest.fixture
def settings(settings, small, labelled, write_frames, tmp_path):
    """As elsewhere, on ice of two sizes and on a base without fine angles."""
    ice = [frame for frame in labelled(20) if frame.kind == "crystal"]
    settings["data"]["files"] = [str(write_frames(tmp_path / "ice.extxyz", ice))]
    settings["data"]["suspects"] = "drop"  # its labels are no physics
    base = small(dtype=torch.float32, fine=None).save(tmp_path / "plain.safetensors")
    return settings | {"model": {"base": str(base), "freeze": ["output"]}}


@pytest.fixture
def trained(settings, tmp_path):
    """The weights that settings and changes lead to."""

    def train(changes: dict[str, Any]) -> list[torch.Tensor]:
        values = yaml.safe_load(yaml.safe_dump(settings))
        values["training"] |= {"epochs": 2, "warmup_epochs": 0}
        for key, value in changes.items():
            *place, last = key.split(".")
            inside = values
            for word in place:
                inside = inside.setdefault(word, {})
            inside[last] = value
        prepared = prepare(parse_config(values))
        potential = prepared.potential
        parts = (prepared.parts["train"], prepared.parts["validation"])
        batches = ([potential.batch([frame]) for frame in part] for part in parts)
        task = PotentialTask(potential, *batches, prepared.config.training)
        Trainer(task, prepared.config.training, tmp_path).fit()
        return [p.detach().clone() for _, p in potential.backbone.named_parameters()]

    return train


def test_what_is_set_changes_what_is_trained(trained):
    """One by one, on fifteen frames: no field of data, model and training is a dead one."""
    plain = trained({})

    def same(one: list[torch.Tensor], two: list[torch.Tensor]) -> bool:
        return len(one) == len(two) and all(map(torch.equal, one, two))

    assert same(plain, trained({})), "the same settings give the same weights"
    assert [key for key, changes in PROVEN.items() if same(plain, trained(changes))] == []


def test_what_the_base_or_the_frames_decide_is_refused(
    settings, small, labelled, write_frames, tmp_path
):
    def refused(why: str, **changes: Any) -> None:
        values = yaml.safe_load(yaml.safe_dump(settings))
        for section, some in changes.items():
            values[section] |= some
        with pytest.raises(TlpotError, match=why):
            prepare(parse_config(values))

    schnet = SCHNET | {"freeze": []}
    for fine in (True, False):
        why = f"fine_angles: {str(fine).lower()} has no effect with schnet"
        refused(why, model=schnet, training={"fine_angles": fine})
    refused(
        "fine_angles: true has no effect with model.freeze: input",
        model={"freeze": ["input"]},
        training={"fine_angles": True},
    )
    finer = str(small(dtype=torch.float32).save(tmp_path / "finer.safetensors"))
    refused("moments: true has no effect with schnet", model=schnet, training={"moments": True})
    refused("whose terms are settled", model={"base": finer}, training={"moments": True})
    refused("which has them", model={"base": finer}, training={"fine_angles": False})
    molecules = [frame for frame in labelled(40) if frame.kind == "molecule"]
    data = write_frames(tmp_path / "molecules.extxyz", molecules)
    settings["data"]["files"] = [str(data)]
    refused("stress_weight has no effect without a frame", training={"stress_weight": 0.5})
    thesis = parse_config(settings | {"model": schnet, "training": {"preset": "thesis"}})
    assert prepare(thesis), "what a preset sets is not what the user asks for"
