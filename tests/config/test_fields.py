"""Every field of every config has an effect beside the others, or is refused."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args

import pytest
import yaml
from pydantic import BaseModel

from tlpot.ablation.sweep import Sweep
from tlpot.config.run import Config
from tlpot.config.sections import Needs, load_section
from tlpot.csp.settings import Ranking
from tlpot.errors import TlpotError
from tlpot.md.settings import Dynamics
from tlpot.powder.config import PowderConfig
from tlpot.property.config import PropertyConfig
from tlpot.sampling.settings import Proposal

FAR = "tcp://127.0.0.1:1"

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
