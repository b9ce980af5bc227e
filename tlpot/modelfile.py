"""The one kind of model file: weights and a header of plain data in a safetensors file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialise
from torch import Tensor

from tlpot.errors import TlpotError
from tlpot.files import write_whole

FORMAT = "tlpot-model-1"
NAME = "model.safetensors"
"""In a run folder."""


def write_model(path: str | Path, header: Mapping[str, Any], weights: Mapping[str, Tensor]) -> Path:
    """Write a model atomically, making folders as needed."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    about = json.dumps({"format": FORMAT, **header})
    tensors = {name: weight.detach().cpu().contiguous() for name, weight in weights.items()}
    return write_whole(path, serialise(tensors, {"tlpot": about}))


def located(path: str | Path) -> Path:
    """The model file of a run folder; any other path as it is."""
    path = Path(path)
    return path / NAME if path.is_dir() else path


def read_model(path: str | Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Header and weights of a model file, or of the model in a run folder.

    Raises
    ------
    TlpotError
        If there is no such file or it is not a tlpot model. Nothing is ever unpickled.
    """
    path = located(path)
    if not path.is_file():
        raise TlpotError(f"{path}: no such model file")
    try:
        with safe_open(path, "pt") as file:
            header = json.loads((file.metadata() or {}).get("tlpot", "{}"))
            weights = {name: file.get_tensor(name) for name in file.keys()}
    except (SafetensorError, json.JSONDecodeError, OSError) as error:
        raise TlpotError(f"{path} is not a safetensors model file ({error})") from None
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise TlpotError(f"{path} is no tlpot model: its header does not say {FORMAT}")
    return header, weights
