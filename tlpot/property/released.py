"""CGCNN's own checkpoints (github.com/txie-93/cgcnn, ``pre-trained/*.pth.tar``) as model files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tlpot.errors import TlpotError, storage
from tlpot.property.elements import element_table
from tlpot.property.model import PropertyModel
from tlpot.property.network import CGCNN, GraphSizes

NORMS = {"weight": "weight", "bias": "bias", "mean": "running_mean", "variance": "running_var"}


def import_checkpoint(path: str | Path, elements: str, name: str, unit: str = "") -> PropertyModel:
    """Convert a checkpoint; its code is not needed, nothing in it is run.

    Parameters
    ----------
    path
        ``.pth.tar`` of a regression.
    elements
        The ``atom_init.json`` that it was trained with.
    name, unit
        Of the property it predicts, which the file does not say.

    Raises
    ------
    TlpotError
        If the file is missing, is no such checkpoint, or the features do not fit it.
    """
    path = Path(path)
    if not path.is_file():
        raise TlpotError(f"{path}: no such file")
    try:
        with storage(path, "read"):
            stored = torch.load(path, weights_only=True, map_location="cpu")
        given, about, scale = stored["state_dict"], stored["args"], stored["normalizer"]
        if about["task"] != "regression":
            raise TlpotError(
                f"{path}: a checkpoint of a {about['task']}; only regressions are read"
            )
        architecture = GraphSizes(
            features=given["embedding.weight"].shape[1],
            width=about["atom_fea_len"],
            convolutions=about["n_conv"],
            dense=about["h_fea_len"],
            layers=about["n_h"],
        )
    except TlpotError:
        raise
    except Exception as error:
        raise TlpotError(f"{path}: not a checkpoint of CGCNN ({error})") from None
    table = element_table(elements)
    if table.shape[1] != architecture.features:
        raise TlpotError(
            f"{elements}: {table.shape[1]} features an element, {path} needs "
            f"{architecture.features}: give the atom_init.json that belongs to it"
        )
    network = CGCNN(architecture, table)
    network.load_state_dict({"table": table, **_renamed(given, architecture)})
    origin = {"base": path.name, "training": _plain(about), "epoch": stored["epoch"]}
    mean, spread = float(scale["mean"]), float(scale["std"])
    return PropertyModel(network.eval(), name, unit, mean, spread, origin)


def _renamed(given: Mapping[str, Tensor], architecture: GraphSizes) -> dict[str, Tensor]:
    names = {"embedding": "embedding", "conv_to_fc": "dense1", "fc_out": "output"}
    names |= {f"fcs.{i}": f"dense{i + 2}" for i in range(architecture.layers - 1)}
    names |= {f"convs.{i}.fc_full": f"conv{i + 1}" for i in range(architecture.convolutions)}
    weights = {
        f"{new}.{part}": given[f"{old}.{part}"]
        for old, new in names.items()
        for part in ("weight", "bias")
    }
    for i in range(architecture.convolutions):
        for old, new in (("bn1", "messages"), ("bn2", "sums")):
            for ours, theirs in NORMS.items():
                weights[f"conv{i + 1}.{new}.{ours}"] = given[f"convs.{i}.{old}.{theirs}"]
    return weights


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    kept = ("lr", "batch_size", "epochs", "optim", "train_size", "val_size", "test_size")
    return {key: values[key] for key in kept if key in values}
