"""How far an atom's surroundings lie from those of training: a Gaussian of descriptors an element.

An ensemble may agree on nonsense: its members share their descriptors and their training frames.
Where no atom of training was, the descriptors say by themselves. Each element has the mean of its
descriptors and their `DIRECTIONS` principal directions; all further directions share one variance
(probabilistic principal components, Tipping and Bishop 1999, J. R. Stat. Soc. B 61, 611), and the
distance is Mahalanobis's. What is far is set by frames that the Gaussians were not fitted to, by
conformal prediction: of n frames like those to come, the one of rank (n + 1)·`INSIDE` is exceeded
by 5 % of them; of fewer than nineteen the largest, by 1 of n + 1. So few often validate: training
frames are asked too, each against Gaussians of the other `CROSS_FOLDS` (cross-conformal, Vovk 2015,
Ann. Math. Artif. Intell. 74, 9). Where those of validation lie farther, being of other runs, they
decide.
"""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from ase.data import chemical_symbols

from tlpot.backbones.base import Backbone
from tlpot.engine.projection import Covariances, principal_components
from tlpot.errors import TlpotError
from tlpot.structure.frames import Batch

DIRECTIONS = 8
INSIDE = 0.95
"""Share of frames like the validation's that are not far."""
CROSS_FOLDS = 5
"""Parts of the training frames, each judged by the others."""
ATOMS_EACH = 10
"""Atoms of an element from which a component of its own is known."""
FLOOR = 1e-4
"""Share of an element's variance that its directions have at least."""
STIFFEST = 1e-4
"""Share of the square of the mean that its variance has at least."""


@dataclass(frozen=True, eq=False)
class Gaussian:
    """Descriptors of one element in training, half-precision numbers: as the model file has them.

    Attributes
    ----------
    mean, directions
        ``(columns,)`` and ``(k, columns)``, orthonormal.
    variances
        ``(k + 1,)`` along each direction, and along any further one.
    """

    mean: np.ndarray
    directions: np.ndarray
    variances: np.ndarray

    @classmethod
    def of(cls, mean: np.ndarray, covariance: np.ndarray, atoms: float) -> Gaussian:
        """The one of a mean, ``(columns, columns)`` covariance and the atoms behind them."""
        count = min(DIRECTIONS, int(atoms) // ATOMS_EACH)
        rows = principal_components(torch.from_numpy(covariance), count).numpy()
        mean, rows = (np.float16(values).astype(float) for values in (mean, rows))
        total = max(float(np.trace(covariance)), STIFFEST * float(mean @ mean), STIFFEST)
        along = np.einsum("kc,cd,kd->k", rows, covariance, rows)
        rest = max(total - float(along.sum()), 0.0) + FLOOR * total
        return cls(mean, rows, np.append(along + FLOOR * total, rest / len(mean)))

    def distances(self, values: np.ndarray) -> np.ndarray:
        """``(n, columns)`` to ``(n,)``: Mahalanobis's over √columns, about 1 in training."""
        moved = values - self.mean
        along = moved @ self.directions.T
        rest = np.maximum(np.square(moved).sum(axis=1) - np.square(along).sum(axis=1), 0.0)
        squares = (np.square(along) / self.variances[:-1]).sum(axis=1) + rest / self.variances[-1]
        return np.asarray(np.sqrt(squares / len(self.mean)))


@dataclass(frozen=True, eq=False)
class Density:
    """Of the surroundings in training.

    Attributes
    ----------
    symbols
        Elements of the backbone (`Backbone.with_elements`) whose columns the descriptors have.
    gaussians
        By element.
    largest
        Distance of a frame's farthest atom that `INSIDE` of frames like the validation's keep to.
    frames
        Those behind it: of validation, and of training.
    """

    symbols: tuple[str, ...]
    gaussians: dict[str, Gaussian]
    largest: float
    frames: int

    @classmethod
    def fit(
        cls, backbone: Backbone, train: Sequence[Batch], validation: Sequence[Batch]
    ) -> Density | None:
        """Of one batch a frame; None where the backbone has no descriptors or nothing calibrates.

        Parameters
        ----------
        backbone
            For the elements that occur, no more.
        """
        present = torch.cat([batch.numbers for batch in train]).unique().cpu()
        folds: list[Covariances] = []
        for k, batch in enumerate(train):
            try:
                with torch.no_grad():
                    values, _ = backbone.features(batch)
            except TlpotError:
                return None
            if len(folds) < CROSS_FOLDS:
                folds.append(Covariances(len(present), values.shape[1]))
            folds[k % CROSS_FOLDS].add(torch.searchsorted(present, batch.numbers.cpu()), values)
        symbols = [chemical_symbols[number] for number in present.tolist()]

        def of(parts: Sequence[Covariances]) -> Density:
            return cls(backbone.symbols, _gaussians(symbols, parts), 1.0, 0)

        density = of(folds)
        own = density._scores(backbone, validation)
        others = []
        for k in range(len(folds)) if len(folds) > 1 else ():
            apart = of([fold for i, fold in enumerate(folds) if i != k])
            others += apart._scores(backbone, train[k::CROSS_FOLDS])
        calibrating = [scores for scores in (own, own + others) if scores]
        if not calibrating:
            return None
        largest = max(float(np.quantile(s, INSIDE, method="weibull")) for s in calibrating)
        return replace(density, largest=largest, frames=len(own + others))

    def _scores(self, backbone: Backbone, batches: Sequence[Batch]) -> list[float]:
        """Distance of the farthest atom of each; none of frames with an element that is new."""
        scores = [float(self.distances(backbone, batch).max()) for batch in batches]
        return [score for score in scores if np.isfinite(score)]

    def distances(self, backbone: Backbone, batch: Batch) -> np.ndarray:
        """``(atoms,)`` in units of `largest`; inf of elements that training had none of.

        Raises
        ------
        TlpotError
            If the descriptors of the backbone are others.
        """
        with torch.no_grad():
            values = backbone.features(batch)[0].double().cpu().numpy()
        symbols = np.array(chemical_symbols)[batch.numbers.cpu().numpy()]
        distances = np.full(len(symbols), np.inf)
        for symbol in set(symbols.tolist()) & self.gaussians.keys():
            gaussian, atoms = self.gaussians[symbol], symbols == symbol
            if len(gaussian.mean) != values.shape[1]:
                raise TlpotError("the model's density is of other descriptors than its own")
            distances[atoms] = gaussian.distances(values[atoms]) / self.largest
        return distances

    def as_dict(self) -> dict[str, Any]:
        """Plain data for a model file, 11 kB an element of 448 columns."""
        return {
            "symbols": list(self.symbols),
            "largest": self.largest,
            "frames": self.frames,
            "elements": {
                symbol: {
                    "variances": gaussian.variances.tolist(),
                    "values": _encoded(np.vstack([gaussian.mean, gaussian.directions])),
                }
                for symbol, gaussian in self.gaussians.items()
            },
        }

    @classmethod
    def from_dict(cls, about: Mapping[str, Any]) -> Density:
        """The inverse of `as_dict`."""
        gaussians = {}
        for symbol, part in about["elements"].items():
            variances = np.array(part["variances"], dtype=float)
            mean, *directions = _decoded(part["values"], len(variances))
            rows = np.array(directions).reshape(len(variances) - 1, len(mean))
            gaussians[symbol] = Gaussian(mean, rows, variances)
        return cls(tuple(about["symbols"]), gaussians, float(about["largest"]), about["frames"])


def _gaussians(symbols: Sequence[str], parts: Sequence[Covariances]) -> dict[str, Gaussian]:
    """Of the elements that some frames hold."""
    sums = Covariances.joined(parts)
    return {
        symbol: Gaussian.of(sums.mean(i).numpy(), sums.of(i).numpy(), float(sums.counts[i]))
        for i, symbol in enumerate(symbols)
        if sums.counts[i]
    }


def _encoded(rows: np.ndarray) -> str:
    return urlsafe_b64encode(rows.astype("<f2").tobytes()).decode()


def _decoded(text: str, rows: int) -> np.ndarray:
    return np.frombuffer(urlsafe_b64decode(text), "<f2").astype(float).reshape(rows, -1)
