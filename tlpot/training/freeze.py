"""Which layers train: patterns over ``<network>.<layer>``, as ``H.hidden1``."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from torch.nn import Parameter

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
    """Make every layer of a backbone trainable except those that match a pattern.

    Parameters
    ----------
    patterns
        ``input`` (that layer of every network), ``H.hidden1``, ``O.*``; shell wildcards.

    Returns
    -------
    list of LayerState
        One row a layer, in the backbone's order.

    Raises
    ------
    TlpotError
        As `freeze_layers`.
    """
    layers: dict[str, list[Parameter]] = {}
    for name, parameter in backbone.named_parameters():
        layers.setdefault(".".join(name.split(".")[1:-1]), []).append(parameter)
    networks = ", ".join(dict.fromkeys(name.split(".")[0] for name in layers))
    return freeze_layers(
        layers, patterns, f", alone or as <network>.<layer> with one of the networks {networks}"
    )


def freeze_layers(
    layers: Mapping[str, Sequence[Parameter]], patterns: Sequence[str], names: str = ""
) -> list[LayerState]:
    """Make layers trainable except those that match a pattern.

    Parameters
    ----------
    layers
        Weights by the name of their layer, ``<layer>`` or ``<network>.<layer>``.
    patterns
        Shell wildcards; without a dot they stand for that layer of every network.
    names
        How layers may be named, for the error message.

    Raises
    ------
    TlpotError
        If a pattern matches nothing, or nothing is left to train.
    """
    for pattern in patterns:
        if not any(matches(name, pattern) for name in layers):
            kinds = sorted({name.split(".")[-1] for name in layers})
            close = difflib.get_close_matches(pattern, [*kinds, *layers], n=1)
            hint = f"did you mean '{close[0]}'? " if close else ""
            raise TlpotError(
                f"model.freeze: '{pattern}' matches no layer; {hint}Layers are "
                f"{', '.join(kinds)}{names}"
            )
    states = []
    for name, parameters in layers.items():
        trainable = not any(matches(name, pattern) for pattern in patterns)
        for parameter in parameters:
            parameter.requires_grad_(trainable)
        count = sum(p.numel() for p in parameters)
        states.append(LayerState(name, count, count if trainable else 0))
    if not any(state.trained for state in states):
        raise TlpotError("model.freeze: every layer is frozen, nothing is left to train")
    return states


def matches(layer: str, pattern: str) -> bool:
    """Whether a pattern names a layer, ``<layer>`` or ``<network>.<layer>``."""
    return fnmatchcase(layer if "." in pattern else layer.split(".")[-1], pattern)


def idle_patterns(
    patterns: Sequence[str], layers: Sequence[LayerState], used: Collection[str]
) -> Iterator[str]:
    """What to say of patterns that name none of the networks that are `used`."""
    for pattern in patterns:
        networks = dict.fromkeys(x.name.split(".")[0] for x in layers if matches(x.name, pattern))
        if not networks.keys() & used:
            yield f"model.freeze: '{pattern}' changes nothing: no frame has {' or '.join(networks)}"


def train_only(
    backbone: Backbone, clones: Collection[str], layers: Sequence[LayerState]
) -> list[LayerState]:
    """Of what `freeze` left trainable, keep trainable what belongs to `clones`.

    See `Backbone.train_only`; `layers` is what `freeze` returned, and returned anew.

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
