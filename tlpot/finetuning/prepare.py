"""From a config to everything that a run knows before its first step."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from tlpot.config.run import Config, Replay
from tlpot.config.sections import no_effect
from tlpot.data.check import Checked, check_frames
from tlpot.data.fingerprints import Overlap, TrainingSet
from tlpot.data.groups import read_data
from tlpot.data.read import read_structures
from tlpot.data.split import Splits, split_unseen, thin
from tlpot.errors import TlpotError
from tlpot.finetuning.units import check_units
from tlpot.model.load import load_base
from tlpot.model.potential import Potential
from tlpot.model.prediction import Prediction
from tlpot.model.reference import EnergyReference, fit_reference, require_determined
from tlpot.optional import require
from tlpot.structure.frames import Frame
from tlpot.structure.soundness import require_sound
from tlpot.training.freeze import LayerState, freeze, train_only

GAUSSIAN = 0.1
"""Standard deviation of weights with ``init: scratch`` (Parunov 2022)."""


@dataclass(frozen=True)
class Prepared:
    """Everything a run knows before its first step.

    Attributes
    ----------
    parts
        ``train``, ``validation``, ``test`` → frames.
    base
        The pretrained potential on the fitted reference: the baseline.
    potential
        The potential to train, layers frozen and initialised as the config says.
    layers
        One row a layer: does it train?
    replay
        What `base` labelled for ``training.replay``.
    known
        What the base was trained on.
    seen_by_base
        How much of the data that is.
    """

    config: Config
    checked: Checked
    splits: Splits
    parts: dict[str, list[Frame]]
    base: Potential
    potential: Potential
    layers: list[LayerState]
    replay: list[Frame]
    known: TrainingSet
    seen_by_base: Overlap


def prepare(config: Config, frames: Sequence[Frame] | None = None) -> Prepared:
    """Read, check and split the data, load the base, fit the reference, freeze.

    Parameters
    ----------
    frames
        As `finetune`'s.

    Raises
    ------
    TlpotError
        For anything that would keep the run from being sound.
    """
    if config.training.tensorboard:
        require("tensorboard", "tensorboard", "training.tensorboard")
    base = load_base(config.model.base, config.model.elements, config.model.sizes)
    layers = freeze(base.backbone, config.model.freeze)
    fine = config.training.fine_angles
    if fine is not False and any(x.trained for x in layers if x.name.endswith(".input")):
        base = base.with_fine_angles()
        layers = freeze(base.backbone, config.model.freeze)
    _require_effect(config, base)
    if config.model.train == "new":
        layers = train_only(base.backbone, base.clones, layers)
    frames = read_data(config.data, frames)
    if config.data.bad_frames == "refuse":
        for frame in frames:
            present = set(frame.atoms.symbols)
            base.require_elements(present, frame.name)
    checked = check_frames(frames, config.data, base.elements)
    known = TrainingSet.of(base.metadata if config.model.init == "pretrained" else {})
    splits, counts = split_unseen(checked.frames, config.data.split, known)
    splits = thin(splits, config.data.train_fraction, config.data.split.seed)
    parts = {name: [checked.frames[i] for i in chosen] for name, chosen in vars(splits).items()}
    require_determined(parts["train"], parts["validation"] + parts["test"])
    weighed = config.training.stress_weight and "stress_weight" in config.training.changed()
    if weighed and all(frame.stress is None for frame in parts["train"]):
        raise TlpotError(no_effect("training.stress_weight", "without a frame that has a stress"))
    used = base.backbone.networks_of({s for f in checked.frames for s in f.atoms.symbols})
    if config.model.train == "new" and not used & set(base.clones):
        raise TlpotError(f"model.train: new: no frame holds {' or '.join(base.clones)}")
    layers = [x if x.name.split(".")[0] in used else replace(x, trained=0) for x in layers]
    potential = Potential(copy.deepcopy(base.backbone), base.reference, dict(base.metadata))
    predictions = base.predict(parts["train"])
    if config.model.init == "pretrained":
        check_units(parts["train"], predictions, stress=config.training.stress_weight > 0)
    base = _with_reference(base, parts["train"], predictions)
    if config.model.init == "scratch":
        potential.backbone.init_gaussian(GAUSSIAN, config.training.seed)
        predictions = potential.predict(parts["train"])
        potential = _with_reference(potential, parts["train"], predictions)
    else:
        potential = Potential(potential.backbone, base.reference, potential.metadata)
    again = config.training.replay
    replay = replayed(base, again, config.data.min_distance) if again else []
    return Prepared(config, checked, splits, parts, base, potential, layers, replay, known, counts)


def _require_effect(config: Config, base: Potential) -> None:
    """Refuse what was set and does nothing with this base, that of `config` made ready."""
    settings, name, backbone = config.training, config.model.base, base.backbone
    given = settings.changed()
    if not backbone.keeps_descriptors and "keep_gb" in given:
        raise TlpotError(no_effect("training.keep_gb", f"with {name}, which keeps no descriptors"))
    if "fine_angles" not in given or settings.fine_angles is None:
        return
    lacking = ""
    if backbone.fine_angles is None:
        lacking = f"with {name}, which is no ANI network"
    elif settings.fine_angles is False and backbone.fine_angles:
        lacking = f"with {name}, which has them"
    elif settings.fine_angles and not backbone.fine_angles:
        lacking = "with model.freeze: input"
    if lacking:
        raise TlpotError(
            no_effect(f"training.fine_angles: {settings.fine_angles}".lower(), lacking)
        )


def replayed(base: Potential, replay: Replay, shortest: float) -> list[Frame]:
    """Structures with the energies (eV) and forces (eV/Å) that `base` gives them.

    Raises
    ------
    TlpotError
        If there is none; or one holds an element that the base does not know, has no sound
        geometry, or atoms closer than `shortest` (Å).
    """
    frames = read_structures(replay.files)
    try:
        require_sound(frames, shortest)
    except TlpotError as error:
        raise TlpotError(f"training.replay.files: {error}") from None
    for frame in frames:
        present = set(frame.atoms.symbols)
        base.require_elements(present, frame.name)
    labels = zip(frames, base.predict(frames), strict=True)
    return [replace(f, energy=p.energy, forces=p.forces) for f, p in labels]


def _with_reference(
    potential: Potential, train: list[Frame], predictions: Sequence[Prediction]
) -> Potential:
    """The potential on the reference that fits its residual on the training frames."""
    table = potential.reference.table()
    own = [table[torch.as_tensor(f.atoms.numbers)].sum().item() for f in train]
    network = np.array([p.energy for p in predictions]) - own
    reference: EnergyReference = fit_reference(train, network, potential.reference.values)
    return Potential(potential.backbone, reference, potential.metadata)
