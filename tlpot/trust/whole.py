"""What is wrong with all frames of a file alike, and zeros that nobody computed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from tlpot.config.hints import hint
from tlpot.model.prediction import Prediction
from tlpot.structure.frames import Frame, movable
from tlpot.trust.causes import ORDER_MEND, explain_forces, usual_orders
from tlpot.trust.consistency import near_pairs
from tlpot.trust.expectation import FEWEST_LIKE
from tlpot.trust.geometry import BOHR_MEND, STRETCHED, Predict, explain_geometry, spacing
from tlpot.trust.scales import Cause, force_unit, magnitude

BLOCK_SAMPLE = 24
"""Frames of a block that stand for all."""
ENOUGH_COMPONENTS = 100
"""Components of forces from which a correlation tells of a block."""
FOLLOWS = 0.5
"""Correlation with the base from which labels follow it."""
UNRELATED = 0.25
"""Correlation below which they have nothing to do with it."""
GAIN = 0.3
"""Correlation that another frame's prediction must have more than a frame's own."""
RESTORED = 0.75
"""Share of the error that a cause in common to a block may leave."""
DFT_OVER_BASE = 0.8
"""Of DFT forces over a base's, as it is on crystals that it errs on (X23: 0.66 to 0.89)."""
STRONG = 0.3
"""eV/Å (RMS) of forces that a base should follow."""
RELATED = 0.8
"""Correlation of energies with the base's from which their factor counts."""
BELONG = 0.9
"""Correlation of energy differences with the work of forces from which their ratio counts."""
MOST_PAIRS = 0.75
"""Share of the pairs that a cause must bring nearer to the work."""
RATIO = 1.6
"""Their ratio up to which they belong together."""
EXPECTED = 0.05
"""eV/Å (RMS) that a base expects where zeros are none."""
ZERO_MEND = (
    "set {data.relaxed}: true if these are DFT minima; leave the frames out, or compute the forces"
)
HELD_MEND = "mark the atoms as held fast (move_mask, FixAtoms): then their zeros are no labels"


def placeholders(
    frames: Sequence[Frame], predictions: Sequence[Prediction]
) -> Iterator[tuple[int, Cause]]:
    """Frames with forces of exactly zero where the base expects some, unless atoms are held."""
    for i, (frame, guess) in enumerate(zip(frames, predictions, strict=True)):
        if frame.forces is None or frame.labels != "full":
            continue
        zero = ~np.any(frame.forces, axis=1)
        held = ~movable(frame.atoms).all(axis=1)
        zero &= ~held
        if not zero.any() or magnitude(guess.forces[zero]) < EXPECTED:
            continue
        size = magnitude(guess.forces[zero])
        if zero.sum() == (~held).sum():
            yield i, Cause("forces all zero: a placeholder, no label", hint(ZERO_MEND), size)
        else:
            atoms = np.flatnonzero(zero).tolist()
            listed = ", ".join(map(str, atoms[:6])) + (" …" if len(atoms) > 6 else "")
            text = f"forces of exactly zero on {len(atoms)} atoms ({listed}), as of atoms held fast"
            yield i, Cause(text, HELD_MEND, size)


def explain_block(
    frames: Sequence[Frame], guesses: Sequence[Prediction], predict: Predict, weak: bool
) -> tuple[Cause, str, bool] | None:
    """What all frames have in common that keeps their forces from following the base, or energy.

    Parameters
    ----------
    frames
        With atoms in one order.
    weak
        Whether the base knows not all of their elements.

    Returns
    -------
    Cause, evidence, whether it is certain; or None.
    """
    some = [
        k for k, f in enumerate(frames) if f.forces is not None and magnitude(f.forces) > EXPECTED
    ]
    if not some:
        return None
    if verdict := _per_atom(frames, guesses, weak):
        return verdict
    if weak:
        return _by_work([frames[k] for k in some if frames[k].energy is not None])
    picks = [some[k] for k in np.unique(np.linspace(0, len(some) - 1, BLOCK_SAMPLE).astype(int))]
    own = [frames[k] for k in picks]
    labels = np.array([np.asarray(frame.forces) for frame in own])
    base = np.array([guesses[k].forces for k in picks])
    before = _correlation(labels, base)
    if labels.size < ENOUGH_COMPONENTS or before > FOLLOWS:
        return None
    symbols = own[0].atoms.symbols
    left = RESTORED if len(own) >= 8 else None
    cause = explain_geometry(own, DFT_OVER_BASE, magnitude(labels - DFT_OVER_BASE * base), predict)
    cause = cause or explain_forces(labels, DFT_OVER_BASE * base, symbols, left)
    every = [(frames[k], guesses[k]) for k in some]
    cause = cause or _other_frames(*zip(*every, strict=True))
    evidence = f"correlation with the base {before:.2f} in {len(own)} frames"
    if cause:
        return cause, f"{evidence}; undone: {cause.error:.2g} eV/Å off", not cause.guess
    if (
        abs(before) < UNRELATED
        and labels.size > 3 * ENOUGH_COMPONENTS
        and magnitude(labels) > STRONG
    ):
        text = "forces have nothing to do with what the base expects"
        mend = "look at the order of atoms, the order of frames, the unit of length"
        return Cause(text, mend, magnitude(labels)), evidence, False
    return None


def _per_atom(
    frames: Sequence[Frame], guesses: Sequence[Prediction], weak: bool
) -> tuple[Cause, str, bool] | None:
    """That energies differ by as much less than the base's as there are atoms, or molecules."""
    pairs = [(f.energy, g.energy) for f, g in zip(frames, guesses, strict=True) if f.energy]
    if weak or len(pairs) < BLOCK_SAMPLE:
        return None
    labels, base = np.array(pairs, dtype=float).T
    labels, base = labels - np.median(labels), base - np.median(base)
    correlation, _ = _fit(labels, base)
    factor = float(np.median(np.abs(base)) / max(float(np.median(np.abs(labels))), 1e-12))
    size = len(frames[0])
    if correlation < RELATED or not 2.5 < factor < 1.8 * size:
        return None
    shares = [count for count in range(3, size + 1) if size % count == 0]
    count = min(shares, key=lambda count: abs(np.log(factor / count)))
    if abs(np.log(factor / count)) > np.log(RATIO):
        return None
    what = "atom" if count == size else f"molecule, {count} of which there are"
    mend = "give total energies of the whole cell in eV"
    evidence = f"they vary {factor:.3g} times less than the base expects ({correlation:.2f})"
    return Cause(f"energies per {what}", mend, 0.0), evidence, count == size


def _other_frames(frames: Sequence[Frame], guesses: Sequence[Prediction]) -> Cause | None:
    """That most have the forces of another."""
    labels = np.array([np.asarray(frame.forces).ravel() for frame in frames])
    base = np.array([guess.forces.ravel() for guess in guesses])
    labels = labels / np.linalg.norm(labels, axis=1, keepdims=True)
    base = base / np.maximum(np.linalg.norm(base, axis=1, keepdims=True), 1e-12)
    fits = labels @ base.T
    best = fits.argmax(axis=1)
    better = fits.max(axis=1) > np.maximum(FOLLOWS, np.diag(fits) + GAIN)
    moved = (best != np.arange(len(frames))) & better
    if len(frames) < FEWEST_LIKE or moved.mean() < 0.5:
        return None
    first = int(moved.argmax())
    text = (
        f"forces of other frames: #{frames[first].index} has those of #{frames[best[first]].index}"
    )
    return Cause(text, "put each frame's labels back to its geometry", 0.0)


def _by_work(frames: Sequence[Frame]) -> tuple[Cause, str, bool] | None:
    """What keeps energy differences from being the work of the forces."""
    if len(frames) < 3:
        return None
    pairs, energies, moves = near_pairs(frames)
    if len(pairs) < 6:
        return None
    forces = np.array([np.asarray(frame.forces) for frame in frames])
    mean = (forces[pairs[:, 0]] + forces[pairs[:, 1]]) / 2
    done = -np.einsum("pik,pik->p", mean, moves)
    before, ratio = _fit(energies, done)
    evidence = f"energy differences of {len(pairs)} pairs of near frames are {ratio:.3g} × the work"
    off = not 1 / RATIO < ratio < RATIO
    if abs(before) > BELONG and off and _nearer(energies, ratio * done, done):
        if spacing(frames[0].atoms) > STRETCHED:
            return Cause("positions in Bohr", BOHR_MEND, 0.0), evidence, True
        name = force_unit(ratio) or "another unit"
        text = f"forces × {1 / ratio:.3g}: {name}; or their energies × {ratio:.3g}"
        if abs(np.log(abs(ratio) * len(frames[0]))) < np.log(RATIO):
            text += ", as per atom"
        mend = "give energies in eV and forces in eV/Å"
        return Cause(text, mend, 0.0), evidence, True
    if before > FOLLOWS:
        return None
    evidence = (
        f"energy differences follow the work of the forces with a correlation of {before:.2f}"
    )
    for words, order in usual_orders(list(frames[0].atoms.symbols)):
        other = -np.einsum("pik,pik->p", mean[:, order], moves)
        after, ratio = _fit(energies, other)
        if after > BELONG and 1 / RATIO < ratio < RATIO and _nearer(energies, other, done):
            text = f"forces in another order of atoms: {words}"
            return Cause(text, ORDER_MEND, 0.0), f"{evidence}; undone: {after:.2f}", True
    return None


def _nearer(energies: np.ndarray, works: np.ndarray, before: np.ndarray) -> bool:
    """Whether most pairs, and not a few large ones, have energies nearer to these works."""
    nearer = np.abs(energies - works) < np.abs(energies - before)
    return float(nearer.mean()) > MOST_PAIRS


def _fit(energies: np.ndarray, works: np.ndarray) -> tuple[float, float]:
    """Correlation about zero, and the factor of energies over works."""
    size = float(np.linalg.norm(energies) * np.linalg.norm(works))
    product = float(energies @ works)
    return (product / size, product / float(works @ works)) if size else (1.0, 1.0)


def _correlation(labels: np.ndarray, base: np.ndarray) -> float:
    """Median over the frames."""
    products = (labels * base).sum(axis=(1, 2))
    sizes = np.linalg.norm(labels, axis=(1, 2)) * np.linalg.norm(base, axis=(1, 2))
    return float(np.median(products / np.maximum(sizes, 1e-12)))
