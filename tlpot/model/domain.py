"""Does a model know its way in a structure? Elements, contacts, spread, density of training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers, covalent_radii

from tlpot.backbones.base import Backbone
from tlpot.errors import TlpotError
from tlpot.model.density import INSIDE, Density
from tlpot.model.prediction import Prediction
from tlpot.structure.contacts import CONTACT_REACH, contacts_of, shortest_contacts
from tlpot.structure.frames import Batch, Frame

OVERLAP = 0.5
"""Times the sum of covalent radii: the shortest contact allowed where training gives none."""

NEAR = 0.9
"""Times the shortest contact in training: the shortest allowed."""

DOUBT = 3.0
"""Times the largest spread per √N on the training frames, and times the distance that
frames held out keep to: where a guard stops."""


def training_domain(
    frames: Sequence[Frame], predictions: Sequence[Prediction], density: Density | None = None
) -> dict[str, Any]:
    """What a model file says of the frames it was trained on.

    Parameters
    ----------
    predictions
        Those of the trained model on `frames`.

    Returns
    -------
    ``contacts``, the shortest distance (Å) of each pair of elements, ``spread``, the largest of
    the ensemble's energies per √N (eV, calibrated as the model is), if it is one, and ``density``.
    """
    domain: dict[str, Any] = {"contacts": shortest_contacts(frame.atoms for frame in frames)}
    spread = max(
        extent.energy_std / np.sqrt(len(frame))
        for extent, frame in zip(predictions, frames, strict=True)
    )
    domain |= {"spread": spread} if spread > 0 else {}
    return domain | ({"density": density.as_dict()} if density else {})


class Domain:
    """Where a model is at home.

    Parameters
    ----------
    about
        As of `training_domain`; empty of a model that does not say.
    backbone
        The model's.
    """

    def __init__(self, about: Mapping[str, Any], backbone: Backbone) -> None:
        self.stated = bool(about)
        self.contacts: dict[str, float] = about.get("contacts", {})
        self.spread: float | None = about.get("spread")
        self.density = Density.from_dict(about["density"]) if "density" in about else None
        self._whole = backbone

    @cached_property
    def _backbone(self) -> Backbone:
        assert self.density
        if missing := set(self.density.symbols) - set(self._whole.symbols):
            raise TlpotError(
                f"the potential is without {', '.join(sorted(missing))}, which it was trained on: "
                "ask the whole one what lies outside its domain"
            )
        return self._whole.with_elements(self.density.symbols)

    def distances(self, atoms: Atoms, batch: Batch | None = None) -> np.ndarray:
        """``(n,)`` how far each atom's surroundings lie from training's.

        In units of the distance that `tlpot.model.density.INSIDE` of frames held out keep to; inf
        for all if training had none of an element, zero of a model without a density.

        Parameters
        ----------
        batch
            The structure with its neighbours within the backbone's cutoff, if they are at hand.
        """
        if self.density is None:
            return np.zeros(len(atoms))
        if set(atoms.symbols) - self.density.gaussians.keys():
            return np.full(len(atoms), np.inf)
        batch = batch or Batch.of_frame(Frame(atoms), self._backbone.cutoff)
        return self.density.distances(self._backbone, batch.to(self._backbone.device))

    def doubts(
        self,
        atoms: Atoms,
        energy_std: float,
        max_spread: float | None = None,
        max_distance: float = DOUBT,
        batch: Batch | None = None,
    ) -> Iterator[str]:
        """Why the model is not to be trusted with a structure: by its spread, by its descriptors.

        Parameters
        ----------
        energy_std
            eV, of the ensemble, calibrated as in training.
        max_spread
            eV per √N; None: `DOUBT` times the largest in training.
        max_distance
            Largest of `distances`.
        batch
            As `distances`'.
        """
        if max_spread is None and self.spread is not None:
            max_spread = DOUBT * self.spread
        spread = energy_std / np.sqrt(len(atoms))
        if max_spread is not None and spread > max_spread:
            yield (
                f"the ensemble's spread is {1e3 * spread:.1f} meV per √N, "
                f"more than {1e3 * max_spread:.1f}"
            )
        distances = self.distances(atoms, batch)
        farthest = int(distances.argmax())
        if distances[farthest] == np.inf > max_distance:
            assert self.density
            new = sorted(set(atoms.symbols) - self.density.gaussians.keys())
            yield f"no frame in training holds {' or '.join(new)}"
        elif distances[farthest] > max_distance:
            yield (
                f"the surroundings of {atoms.symbols[farthest]} atom {farthest} are "
                f"{distances[farthest]:.1f} times as far from training's as those of {INSIDE:.0%} "
                "of frames held out"
            )

    def reason(self, atoms: Atoms, energy_std: float, batch: Batch) -> str | None:
        """Why a structure lies outside: contacts, spread, surroundings; None: it does not."""
        near = None
        if self._whole.cutoff >= CONTACT_REACH:
            near = contacts_of(
                atoms.numbers, batch.pairs.cpu().numpy(), batch.vectors.cpu().numpy()
            )
        close = too_close(atoms, self.contacts, near)
        doubts = self.doubts(atoms, energy_std, max_distance=1.0, batch=batch)
        return "; ".join(filter(None, (close, *doubts))) or None

    def judged(self, atoms: Atoms, prediction: Prediction, batch: Batch) -> Prediction:
        """With `Prediction.outside`, and why."""
        reason = self.reason(atoms, prediction.energy_std, batch)
        outside = reason is not None if self.stated or reason else None
        return replace(prediction, outside=outside, reason=reason)


def too_close(
    atoms: Atoms, contacts: dict[str, float], near: dict[str, float] | None = None
) -> str | None:
    """The worst contact shorter than the model knows, or None.

    Parameters
    ----------
    contacts
        As `shortest_contacts` of the training frames; a pair of elements that is not among them
        may come as close as `OVERLAP` times its covalent radii.
    near
        The structure's own, if they are at hand.
    """
    worst = (1.0, "")
    for pair, distance in (shortest_contacts([atoms]) if near is None else near).items():
        radii = sum(covalent_radii[atomic_numbers[symbol]] for symbol in pair.split("-"))
        closest = contacts.get(pair)
        allowed = OVERLAP * radii if closest is None else NEAR * closest
        if distance / allowed < worst[0]:
            why = f"{OVERLAP} × their covalent radii are {allowed:.2f}"
            why = why if closest is None else f"the closest in training is {closest:.2f}"
            worst = (distance / allowed, f"{pair} atoms {distance:.2f} Å apart; {why} Å")
    return worst[1] or None
