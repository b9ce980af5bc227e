"""Which layers train: patterns over ``<element>.<layer>``."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from tlpot.backbones.ani import ANI
from tlpot.backbones.base import Backbone
from tlpot.errors import TlpotError


@dataclass(frozen=True)
class LayerState:
    """One row of the table of what trains.

    Of a layer's ``parameters``, ``trained`` are free to change; none without atoms in the data.
    """

    name: str
    parameters: int
    trained: int


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
        count = sum(p.numel() for p in parameters)
        states.append(LayerState(name, count, count if trainable else 0))
    if not any(state.trained for state in states):
        raise TlpotError("model.freeze: every layer is frozen, nothing is left to train")
    return states


def train_only(
    backbone: Backbone, clones: Collection[str], layers: Sequence[LayerState]
) -> list[LayerState]:
    """Of what `freeze` left trainable, keep trainable what belongs to `clones`.

    See `ANI.train_only`; `layers` is what `freeze` returned, and returned anew.

    Raises
    ------
    TlpotError
        If there are no clones, or nothing is left to train.
    """
    if not clones:
        raise TlpotError(
            "model.train: new trains clones alone, and there are none; write one in "
            "model.elements, e.g. {Si: {from: C, as: clone}}, or train: all"
        )
    assert isinstance(backbone, ANI)  # no other has clones
    backbone.train_only(clones)
    columns = {name: int(kept.sum()) for name, kept in backbone.trained_columns().items()}
    trained = dict.fromkeys((layer.name for layer in layers), 0)
    for name, parameter in backbone.named_parameters():
        if parameter.requires_grad:
            width = parameter.shape[-1]
            share = columns.get(name, width)
            trained[".".join(name.split(".")[1:-1])] += parameter.numel() // width * share
    if not any(trained.values()):
        raise TlpotError("model.freeze and train: new leave nothing to train")
    return [LayerState(x.name, x.parameters, trained[x.name]) for x in layers]
