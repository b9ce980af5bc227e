"""Is a structure where the model knows its way? Contacts, bonds and the ensemble's spread."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers, covalent_radii

from tlpot.model.potential import Potential
from tlpot.model.prediction import Prediction
from tlpot.structure.bonds import changed_bonds
from tlpot.structure.contacts import shortest_contacts
from tlpot.structure.frames import Frame

OVERLAP = 0.5
"""Times the sum of covalent radii: the shortest contact allowed where training gives none."""

NEAR = 0.9
"""Times the shortest contact in training: the shortest allowed."""

DOUBT = 3.0
"""Times the largest spread per √N on the training frames: the largest allowed."""


def training_domain(
    potential: Potential,
    frames: Sequence[Frame],
    predictions: Sequence[Prediction] | None = None,
) -> dict[str, Any]:
    """What a model file says of the frames it was trained on.

    Parameters
    ----------
    predictions
        Those of `potential` on `frames`, if they are there.

    Returns
    -------
    ``contacts``, the shortest distance (Å) of each pair of elements, and ``spread``, the largest
    of the ensemble's energies per √N (eV, calibrated as the potential is), if it is one.
    """
    domain: dict[str, Any] = {"contacts": shortest_contacts(frame.atoms for frame in frames)}
    if predictions is None:
        predictions = potential.predict(frames)
    spreads = [
        extent.energy_std / np.sqrt(len(frame))
        for extent, frame in zip(predictions, frames, strict=True)
    ]
    return domain | ({"spread": max(spreads)} if max(spreads) > 0 else {})


def too_close(atoms: Atoms, contacts: dict[str, float]) -> str | None:
    """The worst contact shorter than the model knows, or None.

    Parameters
    ----------
    contacts
        As `shortest_contacts` of the training frames; a pair of elements that is not among them
        may come as close as `OVERLAP` times its covalent radii.
    """
    worst = (1.0, "")
    for pair, distance in shortest_contacts([atoms]).items():
        radii = sum(covalent_radii[atomic_numbers[symbol]] for symbol in pair.split("-"))
        closest = contacts.get(pair)
        allowed = OVERLAP * radii if closest is None else NEAR * closest
        if distance / allowed < worst[0]:
            why = f"{OVERLAP} × their covalent radii are {allowed:.2f}"
            why = why if closest is None else f"the closest in training is {closest:.2f}"
            worst = (distance / allowed, f"{pair} atoms {distance:.2f} Å apart; {why} Å")
    return worst[1] or None


def allowed_spread(potential: Potential, given: float | None) -> float | None:
    """eV per √N: as `given`, or what the model's training allows; None where nobody says."""
    trained = potential.metadata.get("domain", {}).get("spread")
    return DOUBT * trained if given is None and trained is not None else given


def outside(
    before: Atoms,
    after: Atoms,
    prediction: Prediction,
    potential: Potential,
    max_spread: float | None = None,
    bonds: bool = True,
) -> str | None:
    """Why the model is not to be trusted with what a relaxation led to, or None.

    Parameters
    ----------
    max_spread
        As for `allowed_spread`.
    bonds
        Whether `after` must have the bonds of `before`.
    """
    domain = potential.metadata.get("domain", {})
    if reason := too_close(after, domain.get("contacts", {})):
        return reason
    if bonds and (changes := changed_bonds(before, after)):
        return changes
    max_spread = allowed_spread(potential, max_spread)
    spread = prediction.energy_std / np.sqrt(len(after))
    if max_spread is not None and spread > max_spread:
        return (
            f"the ensemble's spread is {1e3 * spread:.1f} meV per √N, "
            f"more than {1e3 * max_spread:.1f}"
        )
    return None
