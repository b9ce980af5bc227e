"""Potentials by name or from a file, to use or to start from."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from tlpot.backbones.base import find_backbone
from tlpot.backbones.published import SYMBOLS, load_published
from tlpot.config.bases import BASES, pretrained, untrained
from tlpot.config.run import parse_elements
from tlpot.config.sections import Section
from tlpot.elements.donors import check_elements
from tlpot.engine.device import usable
from tlpot.errors import TlpotError
from tlpot.files import require_unshadowed
from tlpot.model.file import located
from tlpot.model.potential import Potential
from tlpot.model.reference import EnergyReference

BUNDLED = Path(__file__).parents[1] / "backbones"
"""Weights that come with tlpot, ``<base>.safetensors``."""


def load(model: str | Path, device: str = "cpu") -> Potential:
    """Load a potential by its name or from a file.

    Parameters
    ----------
    model
        Path of a model file or of a run folder, or a name: ``ani2x``, ``ani1x`` and ``ani1ccx`` are
        torchani's published weights, which torchani downloads and caches; ``mini`` is a small ANI
        model that ships with tlpot.
    device
        Where the potential computes: ``cpu``, ``cuda``, ``cuda:1`` …; ``auto`` takes a GPU if there
        is one.

    Returns
    -------
    Potential
        On that device, ready to predict.

    Raises
    ------
    TlpotError
        If `model` is neither a name nor a readable model, if it is a name and a file in the working
        folder at once (``./mini`` always means the file), or if the device cannot be used here.
    """
    where = usable(str(device))
    return _load(model).to(where)


def _load(model: str | Path) -> Potential:
    name = str(model)
    if isinstance(model, Path) and model.exists():
        return Potential.load(model)
    require_unshadowed_base(name)
    weights = BASES[name].weights if name in BASES else None
    if weights == "torchani":
        backbone, energies = load_published(name)
        why = f"self-energies of {name} as published"
        potential = Potential(
            backbone.requires_grad_(False), EnergyReference(energies, "self-energies", why)
        )
    elif weights == "bundled":
        potential = Potential.load(BUNDLED / f"{name}.safetensors")
    elif Path(name).exists():
        potential = Potential.load(name)
    elif untrained(name):
        raise TlpotError(
            f"{name} has no pretrained weights: train it (tlpot finetune, model.base: {name})"
        )
    else:
        names = ", ".join(pretrained())
        raise TlpotError(f"'{name}' is neither an existing model file nor one of {names}")
    if weights:
        potential.metadata["base"] = name
    return potential


def load_onto(model: str | Path, device: str = "auto") -> Potential:
    """Load a potential as `load` does, by default onto a GPU if there is one."""
    return load(model, device)


def supported_elements(model: str | Path, asked: Collection[str] = ()) -> tuple[str, ...]:
    """Return the elements that a potential knows, without needing the weights of a published one.

    Parameters
    ----------
    model
        As for `load`.
    asked
        Elements that the potential is to know, or that can at least be added to it.

    Raises
    ------
    TlpotError
        As `load` does, and if an element of `asked` is unknown to the potential and can never be
        added on the weights of another element.
    """
    if str(model) not in SYMBOLS or isinstance(model, Path):
        potential = load(model)
        if not potential.takes_donors:
            potential.require_elements(asked)
        return potential.elements
    require_unshadowed_base(str(model))
    return SYMBOLS[str(model)]


def load_base(
    name: str | Path,
    elements: Mapping[str, Any] | None = None,
    sizes: Section | None = None,
) -> Potential:
    """Load a potential to start a training from, with new elements added to it.

    Parameters
    ----------
    name
        As for `load`, or an architecture without weights, such as ``emodes`` or ``schnet``, which
        is to be trained from scratch.
    elements
        The new elements as in the config. ``{"Si": "C"}`` is an alias: Si uses the networks of C
        and looks like C to its neighbours. ``{"Si": {"from": "C", "as": "clone"}}`` is a clone: Si
        gets networks and descriptor channels of its own (radial, and angular with every element),
        all with the weights of C copied to them. Before training both give the same energies.
    sizes
        The config's section of that architecture's sizes, for one that is trained from scratch.

    Returns
    -------
    Potential
        On the CPU.

    Raises
    ------
    TlpotError
        As `load` and `tlpot.elements.donors.check_elements` do.
    """
    if untrained(name):
        require_unshadowed_base(str(name))
    base = _untrained(str(name), sizes) if untrained(name) else load(name)
    if not elements:
        return base
    if not base.takes_donors:
        raise TlpotError(
            f"model.elements: {name} has no weights of an element that another could begin on; "
            "remove model.elements"
        )
    new = parse_elements(elements)
    check_elements(new, base.elements, base.clones)
    donors, energies = dict(base.backbone.donors), dict(base.reference.values)
    for element, entry in new.items():
        donors[element] = donors.get(entry.donor, entry.donor)
        energies[element] = energies[entry.donor]
    backbone = base.backbone.with_donors(donors)
    metadata = base.metadata
    clones = {element: donors[element] for element in new if new[element].kind == "clone"}
    if clones:
        backbone = backbone.with_elements((*backbone.symbols, *clones))
        metadata = metadata | {"clones": base.clones | clones}
    reference = replace(base.reference, values=energies)
    return Potential(backbone.requires_grad_(False), reference, metadata)


def _untrained(name: str, sizes: Section | None) -> Potential:
    """A backbone without weights: its energy is zero."""
    backbone = find_backbone(BASES[name].backbone).new(**(sizes.model_dump() if sizes else {}))
    reference = EnergyReference(dict.fromkeys(backbone.symbols, 0.0), "none", "never trained")
    return Potential(backbone.requires_grad_(False), reference, {"base": name})


def require_unshadowed_base(name: str) -> None:
    """Refuse the name of a base that is also the name of a model file in the working folder."""
    if name in BASES:
        require_unshadowed(name, f"the base {name}", located(name))
