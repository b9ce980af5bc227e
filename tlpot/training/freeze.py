"""Which layers train: patterns over ``<element>.<layer>``."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from tlpot.backbones.base import Backbone
from tlpot.errors import TlpotError


@dataclass(frozen=True)
class LayerState:
    """One row of the table of what trains; a layer without atoms in the data does not."""

    name: str
    parameters: int
    trainable: bool


def freeze(backbone: Backbone, patterns: Sequence[str]) -> list[LayerState]:
    """Make every layer trainable except those that match a pattern.

    Parameters
    ----------
    patterns
        ``input`` (that layer of every element), ``H.hidden1``, ``O.*``; shell wildcards.

    Returns
    -------
    list of LayerState
        One row a layer, in the backbone's order.

    Raises
    ------
    TlpotError
        If a pattern matches nothing, or nothing is left to train.
    """
    layers: dict[str, list] = {}
    for name, parameter in backbone.named_parameters():
        layers.setdefault(".".join(name.split(".")[1:-1]), []).append(parameter)
    full = {p: p if "." in p else f"*.{p}" for p in patterns}
    for pattern, glob in full.items():
        if not any(fnmatchcase(name, glob) for name in layers):
            kinds = sorted({name.split(".")[-1] for name in layers})
            close = difflib.get_close_matches(pattern, [*kinds, *layers], n=1)
            hint = f"did you mean '{close[0]}'? " if close else ""
            raise TlpotError(
                f"model.freeze: '{pattern}' matches no layer; {hint}Layers are "
                f"{', '.join(kinds)}, alone or as <element>.<layer> with one of the elements "
                f"{', '.join(backbone.symbols)}"
            )
    states = []
    for name, parameters in layers.items():
        trainable = not any(fnmatchcase(name, glob) for glob in full.values())
        for parameter in parameters:
            parameter.requires_grad_(trainable)
        states.append(LayerState(name, sum(p.numel() for p in parameters), trainable))
    if not any(state.trainable for state in states):
        raise TlpotError("model.freeze: every layer is frozen, nothing is left to train")
    return states
