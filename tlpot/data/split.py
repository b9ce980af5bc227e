"""Share frames out to training, validation and test."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np

from tlpot.config.data import Data, Split
from tlpot.data.displaced import kept_together, merged
from tlpot.data.fingerprints import Overlap, Role, TrainingSet, overlap
from tlpot.errors import TlpotError
from tlpot.structure.frames import Frame

BLOCK = 10
"""Frames of neighbouring energy that give their shares together."""


@dataclass(frozen=True)
class Splits:
    """Disjoint sorted frame numbers that together name every frame once."""

    train: list[int]
    validation: list[int]
    test: list[int]


def split_frames(frames: Sequence[Frame], split: Split) -> Splits:
    """Hold out test and validation frames.

    Every kind (crystal, molecule), composition and kind of labels gives its share by itself,
    largest first, and within it every `BLOCK` frames of neighbouring energy per atom, so that the
    test frames mirror the whole, rare high energies included (a split stratified by the label);
    what rounding leaves is owed by the next in line. With
    `split.group` all frames that share a file, a composition or an info value stay together
    (a crystal and its molecule have one composition), and the groups, largest first, fill the
    parts up to their shares of all frames. The frames of a phonon run, which differ by one atom's
    small move (`tlpot.data.displaced`), always stay together: of several such runs, test and
    validation take their shares, a single one trains.

    Parameters
    ----------
    frames
        Frames to share out; the result depends on their order and on `split.seed` alone.
    split
        Shares, seed and group. A share of 0 leaves that part empty, any other gives a frame.

    Raises
    ------
    TlpotError
        If there are too few frames or groups, or a frame lacks the info key to group by.
    """
    shares = {"test": split.test, "validation": split.validation}
    wanted = {name: share for name, share in shares.items() if share > 0}
    random = np.random.default_rng(split.seed)
    units = _groups(frames, split.group)
    if len(units) < len(wanted) + 1:
        what = "frames" if split.group is None else f"groups by '{split.group}'"
        if len(units) < len(frames) and split.group is None:
            what = "structures (finite displacements of one stay together)"
        raise TlpotError(
            f"{len(units)} {what} cannot be split into training, {' and '.join(wanted)}: give more "
            f"data, or set data.split.{' or .'.join(wanted)} to 0."
        )
    units = [units[i] for i in random.permutation(len(units))]
    parts = _by_stratum(frames, units, wanted) if split.group is None else _whole(units, wanted)
    return Splits(**{field.name: sorted(parts.get(field.name, [])) for field in fields(Splits)})


def hold_out_unseen(
    splits: Splits, frames: Sequence[Frame], split: Split, seen: Sequence[Role | None]
) -> Splits:
    """Give to training what a base has seen: no test of it would be one.

    Test frames that the base was trained or tuned on go, and validation frames that it was trained
    on, each with its whole group (`split.group`). A part that loses every frame takes one that the
    base never saw, or its group, from the training frames.

    Parameters
    ----------
    seen
        What the base did with each frame (`tlpot.data.fingerprints.TrainingSet.parts`).

    Raises
    ------
    TlpotError
        If there is none.
    """
    parts = {name: set(chosen) for name, chosen in vars(splits).items()}
    units = _groups(frames, split.group)
    random = np.random.default_rng(split.seed)
    for name, earlier in (("test", ("train", "validation")), ("validation", ("train",))):
        before, unseen = bool(parts[name]), []
        for unit in units:
            if not any(seen[i] in earlier for i in unit):
                unseen.append(unit)
            elif parts[name].issuperset(unit):
                parts[name].difference_update(unit)
                parts["train"].update(unit)
        if not before or parts[name]:
            continue
        free = [unit for unit in unseen if parts["train"].issuperset(unit)]
        if not free:
            raise TlpotError(
                f"data.split.{name}: no frame is left for it, the base was trained on them all; "
                f"give frames that it never saw, or set data.split.{name} to 0"
            )
        unit = free[random.integers(len(free))]
        parts[name].update(unit)
        parts["train"].difference_update(unit)
    return Splits(**{name: sorted(chosen) for name, chosen in parts.items()})


def split_unseen(
    frames: Sequence[Frame], split: Split, base_set: TrainingSet
) -> tuple[Splits, Overlap]:
    """`split_frames`, then `hold_out_unseen` of what a base is `base_set` to have been trained on.

    Returns
    -------
    The parts, and how many frames the base has seen.
    """
    seen, drawn = base_set.parts(frames), split_frames(frames, split)
    splits = hold_out_unseen(drawn, frames, split, seen)
    moved = len(set(splits.train).difference(drawn.train))
    return splits, overlap(seen) | {"moved_to_train": moved}


def split_data(
    frames: Sequence[Frame], settings: Data, base_set: TrainingSet
) -> tuple[Splits, Overlap]:
    """Parts as named (`Frame.part`); the other frames as `split_unseen` draws them.

    Raises
    ------
    TlpotError
        As `split_frames`, and if no frame trains.
    """
    drawn = [i for i, frame in enumerate(frames) if frame.part is None]
    if len(drawn) == len(frames):
        return split_unseen(frames, settings.drawn, base_set)
    parts: dict[str, list[int]] = {field.name: [] for field in fields(Splits)}
    for i, frame in enumerate(frames):
        if frame.part is not None:
            parts[frame.part].append(i)
    moved = 0
    if drawn:
        splits, counts = split_unseen([frames[i] for i in drawn], settings.drawn, base_set)
        moved = counts["moved_to_train"]
        for name, chosen in vars(splits).items():
            parts[name] += [drawn[i] for i in chosen]
    if not parts["train"]:
        raise TlpotError("no frame trains: data.files are split, data.train names some")
    splits = Splits(**{name: sorted(chosen) for name, chosen in parts.items()})
    return splits, overlap(base_set.parts(frames)) | {"moved_to_train": moved}


def thin(splits: Splits, fraction: float, seed: int) -> Splits:
    """Leave out training frames until `fraction` of them is left, at least one.

    What a smaller fraction leaves is part of what a larger one leaves (a learning curve adds).
    """
    order = np.random.default_rng(seed).permutation(len(splits.train))
    count = max(round(fraction * len(splits.train)), 1)
    return replace(splits, train=sorted(splits.train[i] for i in order[:count]))


def _groups(frames: Sequence[Frame], group: str | None) -> list[list[int]]:
    """Frame numbers that must stay together, by first appearance."""
    named = [] if group is None else _named_groups(frames, group)
    together = merged([*named, *kept_together(frames)], len(frames))
    alone = set(range(len(frames))).difference(*together)
    return sorted([*together, *([i] for i in alone)])


def _named_groups(frames: Sequence[Frame], group: str) -> list[list[int]]:
    units: dict[object, list[int]] = defaultdict(list)
    for i, frame in enumerate(frames):
        if group == "file":
            key: object = frame.source
        elif group == "composition":
            key = str(frame.atoms.symbols.formula.reduce()[0].format("hill"))
        elif group in frame.info:
            key = str(frame.info[group])
        else:
            names = ", ".join(["file", "composition", *sorted(frame.info)])
            raise TlpotError(
                f"{frame.name}: no '{group}' to group by, which data.split.group asks for; this "
                f"frame has {names}."
            )
        units[key].append(i)
    return list(units.values())


def _by_stratum(
    frames: Sequence[Frame], units: list[list[int]], wanted: dict[str, float]
) -> dict[str, list[int]]:
    """Deal shuffled units out, frames stratum by stratum.

    Roundings carry over to the next stratum; sets of frames are dealt by themselves, each as one.
    """
    strata: dict[tuple[str, str, str], list[int]] = defaultdict(list)
    alone = [unit[0] for unit in units if len(unit) == 1]
    for i in alone:
        strata[frames[i].kind, frames[i].formula, frames[i].labels].append(i)
    parts: dict[str, list[list[int]]] = {"train": [], "validation": [], "test": []}
    owed = dict.fromkeys(wanted, 0.0)
    for unit in units:
        if len(unit) > 1:
            owed = {name: owed[name] + share for name, share in wanted.items()}
            to = next((name for name in wanted if owed[name] >= 0.5), "train")
            if to in owed:
                owed[to] -= 1.0
            parts[to].append(unit)
    owed = dict.fromkeys(wanted, 0.0)
    place = {i: n for n, i in enumerate(alone)}
    for key in sorted(strata, key=lambda key: (key[0], -len(strata[key]))):
        by_energy = sorted(strata[key], key=lambda i: (frames[i].energy or 0.0) / len(frames[i]))
        for start in range(0, len(by_energy), BLOCK):
            members = sorted(by_energy[start : start + BLOCK], key=place.__getitem__)
            size = len(members)
            for name, share in wanted.items():
                owed[name] += share * size
                count = min(int(owed[name] + 0.5), len(members))
                owed[name] -= count
                parts[name] += [[i] for i in members[:count]]
                members = members[count:]
            parts["train"] += [[i] for i in members]
    for name in (*wanted, "train"):
        if not parts[name]:
            largest = max(parts.values(), key=len)
            parts[name].append(largest.pop())
    return {name: [i for unit in some for i in unit] for name, some in parts.items()}


def _whole(units: list[list[int]], wanted: dict[str, float]) -> dict[str, list[int]]:
    """Give whole groups, largest first, to the part that is furthest below its share."""
    total = sum(map(len, units))
    target = {**wanted, "train": 1.0 - sum(wanted.values())}
    parts: dict[str, list[int]] = {name: [] for name in target}
    for left, unit in zip(
        range(len(units), 0, -1), sorted(units, key=len, reverse=True), strict=True
    ):
        empty = [name for name in target if not parts[name]]
        open_to = empty if left <= len(empty) else target
        parts[max(open_to, key=lambda name: target[name] * total - len(parts[name]))] += unit
    return parts
