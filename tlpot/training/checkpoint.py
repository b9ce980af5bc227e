"""State of a run on disk: written atomically, read without unpickling code."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch

from tlpot.errors import TlpotError, first_line, storage
from tlpot.files import write_whole

NAME = "checkpoint.pt"
LAST = "last.pt"
"""What a finished run calls it: more epochs begin from there."""


def save_checkpoint(folder: Path, state: dict[str, Any]) -> None:
    """Replace the folder's checkpoint; a kill at any moment leaves the old or the new one."""
    content = io.BytesIO()  # from a file, a full disk or Ctrl-C is a RuntimeError of torch's writer
    torch.save(state, content)
    write_whole(folder / NAME, content.getbuffer())


def load_checkpoint(folder: Path, name: str = NAME) -> dict[str, Any]:
    """The folder's checkpoint (tensors and plain values only), all of it on the CPU.

    So a run goes on where its device is not, and no process fills another's GPU.

    Raises
    ------
    TlpotError
        If there is none or it cannot be read.
    """
    path = folder / name
    if not path.is_file():
        raise TlpotError(f"{folder}: no checkpoint to resume from; run without --resume")
    try:
        with storage(path, "read"):
            return torch.load(path, map_location="cpu", weights_only=True)
    except TlpotError:
        raise
    except Exception as error:
        raise TlpotError(
            f"{path} is cut or damaged ({first_line(error)}); start a new run in another folder"
        ) from None
