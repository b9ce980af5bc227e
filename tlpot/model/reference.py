"""The energy reference: where the labels' zero lies against the network's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from ase.data import atomic_numbers
from torch import Tensor

from tlpot.errors import TlpotError
from tlpot.model.prediction import Prediction
from tlpot.structure.frames import Frame

_CPU = torch.device("cpu")


@dataclass(frozen=True)
class EnergyReference:
    """Energy that each atom adds to the network's, eV.

    Attributes
    ----------
    values
        eV per element symbol.
    kind
        ``"per element"``, ``"per atom"``, ``"minimum norm"`` (fitted) or ``"self-energies"``
        (the base's own).
    why
        One sentence for the report.
    """

    values: dict[str, float]
    kind: str
    why: str

    def table(self, device: torch.device = _CPU) -> Tensor:
        """``Tensor[119]`` float64, eV by atomic number; NaN where undefined. Not to be changed."""
        return _table(tuple(self.values.items()), device)


@lru_cache
def _table(values: tuple[tuple[str, float], ...], device: torch.device) -> Tensor:
    table = torch.full((119,), float("nan"), dtype=torch.float64)
    for symbol, value in values:
        table[atomic_numbers[symbol]] = value
    return table.to(device)


def fit_reference(
    frames: Sequence[Frame], network_energies: np.ndarray, prior: Mapping[str, float]
) -> EnergyReference:
    """Least-squares fit of the labels' residual on the compositions of the training frames.

    The residual label − network, per atom, is first given one value per atom; what is left goes
    to the elements by the minimum-norm least-squares solution. With as many independent
    compositions as elements that is the ordinary fit per element; with a single composition it
    stays one value per atom.

    Parameters
    ----------
    frames
        Training frames with an energy.
    network_energies
        ``(frames,)`` eV, the network's energy without any reference.
    prior
        eV per element, kept for elements that do not occur in `frames`.
    """
    symbols = _elements(frames)
    shares = _shares(frames, symbols)
    sizes = np.array([len(f) for f in frames])
    labels = np.array([f.energy for f in frames], float)
    residual = (labels - np.asarray(network_energies, float)) / sizes
    rank = int(np.linalg.matrix_rank(shares))
    per_atom = float(residual.mean())
    per_element = np.linalg.lstsq(shares, residual - per_atom, rcond=1e-10)[0]
    if rank == 1:
        per_element = np.zeros(len(symbols))
    fitted = dict(zip(symbols, (per_atom + per_element).tolist(), strict=True))
    kind, why = _explain(rank, symbols)
    return EnergyReference({**prior, **fitted}, kind, why)


def refitted(
    reference: EnergyReference, frames: Sequence[Frame], predictions: Sequence[Prediction]
) -> EnergyReference:
    """The reference that fits the labels of `frames` best, of a potential that predicts on another.

    As `fit_reference`; `predictions` are on `reference`.
    """
    table = reference.table()
    own = [table[torch.as_tensor(frame.atoms.numbers)].sum().item() for frame in frames]
    network = np.array([prediction.energy for prediction in predictions]) - own
    return fit_reference(frames, network, reference.values)


def moved(
    predictions: Sequence[Prediction],
    frames: Sequence[Frame],
    old: EnergyReference,
    new: EnergyReference,
) -> list[Prediction]:
    """Predictions of `frames` on the `old` reference, on the `new` one."""
    change = (new.table() - old.table()).numpy()
    pairs = zip(predictions, frames, strict=True)
    return [prediction.shifted(change[frame.atoms.numbers]) for prediction, frame in pairs]


def compositions(frames: Sequence[Frame]) -> int:
    """How many independent compositions there are: what `fit_reference` determines."""
    return int(np.linalg.matrix_rank(_shares(frames, _elements(frames))))


def require_determined(train: Sequence[Frame], held_out: Sequence[Frame]) -> None:
    """Refuse held-out compositions whose energy zero the training frames leave open.

    Raises
    ------
    TlpotError
        If a composition is no linear combination of those of the training frames.
    """
    symbols = _elements([*train, *held_out])
    trained, asked = _shares(train, symbols), _shares(held_out, symbols)
    fit = np.linalg.lstsq(trained.T, asked.T, rcond=1e-10)[0]
    open_ones = np.abs(trained.T @ fit - asked.T).max(axis=0, initial=0.0) > 1e-6
    if open_ones.any():
        frame = held_out[int(open_ones.argmax())]
        raise TlpotError(
            f"{frame.name} ({frame.formula}) is held out, and the compositions of the training "
            "frames do not determine its energy zero. Give its composition a training frame: more "
            "frames of it, another data.split.seed, or smaller shares in data.split."
        )


def _elements(frames: Sequence[Frame]) -> list[str]:
    return sorted({s for f in frames for s in f.atoms.symbols}, key=atomic_numbers.__getitem__)


def _shares(frames: Sequence[Frame], symbols: Sequence[str]) -> np.ndarray:
    """``(frames, elements)`` mole fractions."""
    counts = [[f.atoms.symbols.count(s) for s in symbols] for f in frames]
    sizes = np.array([len(f) for f in frames], float)
    return np.array(counts, float).reshape(len(frames), len(symbols)) / sizes[:, None]


def _explain(rank: int, symbols: Sequence[str]) -> tuple[str, str]:
    n = len(symbols)
    count = f"{rank} independent composition{'s' if rank > 1 else ''} for {n} elements"
    if rank == n:
        return "per element", f"{count}: every element's value is determined"
    if rank == 1:
        return "per atom", f"{count}: only one value per atom is determined"
    return "minimum norm", f"{count}: smallest corrections to one value per atom that fit"
