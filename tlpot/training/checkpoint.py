"""State of a run on disk: written atomically, read without unpickling code."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from tlpot.errors import TlpotError

NAME = "checkpoint.pt"


def save_checkpoint(folder: Path, state: dict[str, Any]) -> None:
    """Replace the folder's checkpoint; a kill at any moment leaves the old or the new one."""
    partial = folder / (NAME + ".part")
    with partial.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, folder / NAME)


def load_checkpoint(folder: Path) -> dict[str, Any]:
    """The folder's checkpoint (tensors and plain values only).

    Raises
    ------
    TlpotError
        If there is none or it cannot be read.
    """
    path = folder / NAME
    if not path.is_file():
        raise TlpotError(f"{folder}: no checkpoint to resume from; run without --resume")
    try:
        return torch.load(path, weights_only=True)
    except Exception as error:
        raise TlpotError(f"{path} cannot be read ({error}); start a new run") from None
