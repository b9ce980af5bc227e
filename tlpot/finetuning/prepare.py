"""From a config to everything that a run knows before its first step."""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain

import torch

from tlpot.config.run import Config
from tlpot.config.sections import no_effect
from tlpot.data.check import Checked, RefusedFramesError, check_frames
from tlpot.data.fingerprints import TrainingSet
from tlpot.data.groups import read_data
from tlpot.data.split import split_data, thin
from tlpot.errors import TlpotError
from tlpot.finetuning.recipe import settle_recipe
from tlpot.finetuning.replay import replay_frames, replay_labels
from tlpot.finetuning.units import check_units
from tlpot.model.load import load_base
from tlpot.model.potential import Potential, chunks
from tlpot.model.prediction import Prediction
from tlpot.model.reference import moved, refitted, require_determined
from tlpot.structure.frames import Batch, Frame
from tlpot.training.curvature import Partner, find_partners
from tlpot.training.freeze import LayerState, freeze, idle_patterns, train_only
from tlpot.training.job import Prepared
from tlpot.trust.gate import OnCompared, opinion_of, opinions, sifted
from tlpot.trust.suspects import Suspect, find_suspects

GAUSSIAN = 0.1
"""Standard deviation of weights with ``init: scratch`` (Parunov 2022)."""


@dataclass(frozen=True)
class PreparedPotential(Prepared):
    """What a fine-tuning knows before its first step.

    Attributes
    ----------
    parts
        ``train``, ``validation``, ``test`` → frames.
    base
        The pretrained potential on the fitted reference: the baseline.
    potential
        The potential to train, layers frozen and initialised as the config says.
    replay
        What `base` labelled for ``training.replay``.
    present
        Elements of all these.
    batches
        The training frames, one `Batch` each, on the device of the training.
    predictions
        What `base` says of them.
    suspects
        Frames whose labels it does not let one expect, used or not (``data.suspects``).
    partners
        What the forces of displaced training frames are compared with (``training.curvature``).
    recipe
        What the labels decided of ``config.training``, and why (`tlpot.finetuning.recipe`).
    """

    config: Config
    checked: Checked
    parts: dict[str, list[Frame]]
    base: Potential
    potential: Potential
    replay: list[Frame]
    present: set[str]
    batches: list[Batch]
    predictions: dict[str, list[Prediction]]
    suspects: list[Suspect]
    partners: dict[int, Partner]
    recipe: str

    def frames(self, part: str) -> list[Frame]:
        """As `Prepared.frames`; what is replayed is trained on too."""
        return [*self.parts[part], *(self.replay if part == "train" else ())]

    @property
    def new_elements(self) -> dict[str, dict[str, str]]:
        """Elements that stand on others, as in a config: ``{"Si": {"from": "C", "as": "alias"}}``.

        Those that the base brings along are among them.
        """
        potential = self.potential
        kinds = {"alias": potential.backbone.donors, "clone": potential.clones}
        return {
            element: {"from": donor, "as": kind}
            for kind, donors in kinds.items()
            for element, donor in donors.items()
        }


def prepare(
    config: Config,
    frames: Sequence[Frame] | None = None,
    device: torch.device | str = "cpu",
    on_compared: OnCompared = lambda done, total: None,
) -> PreparedPotential:
    """Read, check and split the data, load the base, fit the reference, freeze.

    Parameters
    ----------
    frames
        As `finetune`'s.
    device
        Where the training frames go.
    on_compared
        As `finetune`'s.

    Raises
    ------
    TlpotError
        For anything that would keep the run from being sound.
    """
    base, layers = _base(config)
    checked = _checked(config, base, frames)
    suspects: list[Suspect] = []
    by_frame: dict[int, Prediction] = {}
    if config.model.init == "pretrained":
        checked, suspects, by_frame = _trusted(config, base, checked, device, on_compared)
    base_set = TrainingSet.of(base.metadata if config.model.init == "pretrained" else {})
    splits, counts = split_data(checked.frames, config.data, base_set)
    splits = thin(splits, config.data.train_fraction, config.data.split.seed)
    parts = {name: [checked.frames[i] for i in chosen] for name, chosen in vars(splits).items()}
    require_determined(parts["train"], parts["validation"] + parts["test"])
    _require_labels(config, base, checked, parts["train"])
    replay, remarks = replay_frames(base, config, parts, base_set)
    used = base.backbone.networks_of(_elements(chain(checked.frames, replay)))
    idle = idle_patterns(config.model.freeze, layers, used)
    layers = [x if x.name.split(".")[0] in used else replace(x, trained=0) for x in layers]
    config, recipe = settle_recipe(config, base, parts["train"])
    partners = find_partners(parts["train"]) if config.training.curvature else {}
    _require_partners(config, partners)
    remarks += [*idle, *_compared(config, partners), *([recipe] if recipe else [])]
    checked = replace(checked, remarks=[*checked.remarks, *remarks])
    present = _elements(chain(*parts.values(), replay))
    small = compact(base, present, device)
    batches = [small.batch([frame]) for frame in parts["train"]]
    new = set(base.clones) if config.model.train == "new" else None
    small.backbone.fit_components(map(Batch.join, chunks(batches)), new)
    base.backbone.absorb(copy.deepcopy(small.backbone).to(base.device))
    potential = Potential(copy.deepcopy(base.backbone), base.reference, dict(base.metadata))
    predictions = {
        name: [by_frame[id(frame)] for frame in part] for name, part in parts.items() if by_frame
    } or {"train": small.predict_batches(batches)}
    base, predictions = _with_reference(base, parts, predictions)
    if config.model.init == "scratch":
        potential.backbone.init_gaussian(GAUSSIAN, config.training.seed)
        drawn = compact(potential, present, device).predict_batches(batches)
        potential, _ = _with_reference(potential, parts, {"train": drawn})
    else:
        potential = Potential(potential.backbone, base.reference, potential.metadata)
    settings = config.training.replay
    labels = replay_labels(base, replay, settings) if settings else []
    facts = (config, splits, layers, base_set, counts, checked, parts, base, potential, labels)
    return PreparedPotential(*facts, present, batches, predictions, suspects, partners, recipe)


def _base(config: Config) -> tuple[Potential, list[LayerState]]:
    """The base with new elements and finer angles, its layers frozen; one row a layer."""
    base = load_base(config.model.base, config.model.elements, config.model.sizes)
    layers = freeze(base.backbone, config.model.freeze)
    if any(layer.trained for layer in layers if layer.name.endswith(".input")):
        settings = config.training
        base = base.with_terms(settings.fine_angles is not False, settings.moments)
        layers = freeze(base.backbone, config.model.freeze)
    _require_effect(config, base)
    if config.model.train == "new":
        layers = train_only(base.backbone, base.clones, layers)
    return base, layers


def _checked(config: Config, base: Potential, frames: Sequence[Frame] | None) -> Checked:
    remarks: list[str] = []
    frames = read_data(config.data, frames, remarks.append)
    lacking = _lacking(base, frames)
    try:
        checked = check_frames(frames, config.data, base.elements)
    except RefusedFramesError as error:
        raise RefusedFramesError("\n".join([*lacking, str(error)]), error.rejected) from None
    return replace(checked, remarks=[*remarks, *lacking, *checked.remarks])


def _trusted(
    config: Config,
    base: Potential,
    checked: Checked,
    device: torch.device | str,
    on_compared: OnCompared,
) -> tuple[Checked, list[Suspect], dict[int, Prediction]]:
    """Compare all labels with the base's opinion, and do as ``data.suspects`` says.

    The opinions are returned by the frames' ``id``.

    Raises
    ------
    TlpotError
        As `check_units` and `sifted`.
    """
    stress = config.training.stress_weight > 0
    predict = opinion_of(compact(base, _elements(checked.frames), device))
    predictions = opinions(predict, checked.frames, on_compared)
    suspects = find_suspects(
        checked.frames, predictions, predict, config.model.elements, stress=stress
    )
    odd = {id(suspect.frame) for suspect in suspects}
    rest = [(f, p) for f, p in zip(checked.frames, predictions, strict=True) if id(f) not in odd]
    check_units([frame for frame, _ in rest], [guess for _, guess in rest], stress)
    by_frame = dict(zip(map(id, checked.frames), predictions, strict=True))
    return sifted(checked, suspects, config.data.suspects), suspects, by_frame


def _lacking(base: Potential, frames: Sequence[Frame]) -> list[str]:
    """What to say of all elements that the base does not know, with donors; nothing: none."""
    foreign = [frame for frame in frames if _elements([frame]) - set(base.elements)]
    if not foreign:
        return []
    try:
        where = f"{len(foreign)} of {len(frames)} frames, first {foreign[0].name}"
        base.require_elements(_elements(foreign), where)
    except TlpotError as error:
        return [str(error)]
    return []


def _elements(frames: Iterable[Frame]) -> set[str]:
    return {symbol for frame in frames for symbol in frame.atoms.symbols}


def _require_labels(
    config: Config, base: Potential, checked: Checked, train: Sequence[Frame]
) -> None:
    """Refuse to train on stresses or on new elements without a frame that has one."""
    weighed = config.training.stress_weight and "stress_weight" in config.training.changed()
    if weighed and all(frame.stress is None for frame in train):
        raise TlpotError(no_effect("training.stress_weight", "without a frame that has a stress"))
    if config.model.train == "new" and not _networks(base, checked) & set(base.clones):
        raise TlpotError(f"model.train: new: no frame holds {' or '.join(base.clones)}")


def _require_partners(config: Config, partners: Mapping[int, Partner]) -> None:
    settings = config.training
    if settings.curvature and "curvature" in settings.changed() and not partners:
        lacking = "without finite displacements (a phonon run) among the training frames"
        raise TlpotError(no_effect("training.curvature", lacking))


def _compared(config: Config, partners: Mapping[int, Partner]) -> Iterator[str]:
    if partners:
        yield (
            f"how forces change between {len(partners)} displaced training frames counts as at a "
            f"displacement of {config.training.curvature:g} Å (training.curvature)"
        )


def _networks(base: Potential, checked: Checked) -> set[str]:
    return base.backbone.networks_of(_elements(checked.frames))


def compact(
    potential: Potential, present: Collection[str], device: torch.device | str
) -> Potential:
    """A copy for the elements that occur; the others' zero columns and networks need no time."""
    small = potential.for_elements(present)
    return Potential(copy.deepcopy(small.backbone), small.reference).to(device)


def _require_effect(config: Config, base: Potential) -> None:
    """Refuse what was set and does nothing with this base, that of `config` made ready."""
    settings, name, backbone = config.training, config.model.base, base.backbone
    for option in ("fine_angles", "moments"):
        asked, has = getattr(settings, option), getattr(backbone, option)
        if option not in settings.changed() or asked is None:
            continue
        lacking = ""
        if has is None:
            lacking = f"with {name}, which is no ANI network"
        elif has and not asked:
            lacking = f"with {name}, which has them"
        elif asked and not has:
            lacking = f"with {name}, whose terms are settled"
            if "input" in config.model.freeze:
                lacking = "with model.freeze: input"
        if lacking:
            raise TlpotError(no_effect(f"training.{option}: {asked}".lower(), lacking))


def _with_reference(
    potential: Potential,
    parts: dict[str, list[Frame]],
    predictions: dict[str, list[Prediction]],
) -> tuple[Potential, dict[str, list[Prediction]]]:
    """On the reference that fits its residual on the training frames, and what it then says."""
    reference = refitted(potential.reference, parts["train"], predictions["train"])
    return (
        Potential(potential.backbone, reference, potential.metadata),
        {
            name: moved(guesses, parts[name], potential.reference, reference)
            for name, guesses in predictions.items()
        },
    )
