"""The one kind of model file: weights and a header of plain data in a safetensors file."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialise
from torch import Tensor

from tlpot.errors import TlpotError, TlpotWarning
from tlpot.files import write_whole

FORMAT = "tlpot-model-1"
SO_FAR = "unfinished"
"""Key of the metadata of a model whose run goes on: ``epoch`` of ``epochs``, ``best_epoch``."""
MODEL = "model.safetensors"
"""In a run folder."""
FOLDERS = re.compile(
    r"(?<![\w.)\]])(?:~[\w.-]*|\$\{?\w+\}?|[A-Za-z]:)?[/\\](?=[^\s/\\])(?:[^/\\\s'\":,;]+[/\\])*"
)
"""Of an absolute path, all but its last part."""


def anonymous(value: Any) -> Any:
    """Plain data with absolute paths cut to their last part: folders are named after people."""
    if isinstance(value, Mapping):
        return {anonymous(k): v if k == "seen" else anonymous(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [anonymous(item) for item in value]
    return FOLDERS.sub("", value) if isinstance(value, str) else value


def write_model(path: str | Path, header: Mapping[str, Any], weights: Mapping[str, Tensor]) -> Path:
    """Write a model atomically, making folders as needed."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    about = json.dumps(anonymous({"format": FORMAT, **header}))
    tensors = {name: weight.detach().cpu().contiguous() for name, weight in weights.items()}
    return write_whole(path, serialise(tensors, {"tlpot": about}))


def located(path: str | Path) -> Path:
    """The model file of a run folder; any other path as it is."""
    path = Path(path)
    return path / MODEL if path.is_dir() else path


def _cut(path: Path) -> str:
    """What is missing of a file that begins as safetensors does; nothing if it is none."""
    content = path.read_bytes()
    if not content:
        return "is empty; copy it again from where it is whole"
    length = int.from_bytes(content[:8], "little")
    header = content[8 : 8 + length]
    if not header.startswith(b"{"):
        return ""
    try:
        tensors = {k: v for k, v in json.loads(header).items() if k != "__metadata__"}
        whole = 8 + length + max(t["data_offsets"][1] for t in tensors.values())
    except (ValueError, KeyError, TypeError, IndexError, AttributeError):
        return "is cut within its header; copy it again from where it is whole"
    if len(content) >= whole:
        return ""
    return (
        f"is cut: {len(content)} of {whole} bytes are there; copy it again from where it is whole"
    )


def read_model(path: str | Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Header and weights of a model file, or of the model in a run folder.

    Raises
    ------
    TlpotError
        If there is no such file or it is not a tlpot model. Nothing is ever unpickled.

    Warns
    -----
    TlpotWarning
        If the run that made it is not finished.
    """
    folder, path = Path(path), located(path)
    if not path.is_file():
        begun = (folder / "manifest.json").is_file()
        hint = "; the run there was stopped before its first epoch ended" if begun else ""
        raise TlpotError(f"{path}: no such model file{hint}")
    try:
        with safe_open(path, "pt") as file:
            header = json.loads((file.metadata() or {}).get("tlpot", "{}"))
            weights = {name: file.get_tensor(name) for name in file.keys()}
    except (SafetensorError, json.JSONDecodeError, OSError) as error:
        flaw = _cut(path) or f"is not a safetensors model file, or a damaged one ({error})"
        raise TlpotError(f"{path} {flaw}") from None
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise TlpotError(f"{path} is no tlpot model: its header does not say {FORMAT}")
    if so_far := header.get("metadata", header).get(SO_FAR):
        warnings.warn(
            f"{path} is of an unfinished run: epoch {so_far['epoch']} of {so_far['epochs']}, the "
            f"best so far that of epoch {so_far['best_epoch']}; --resume ends and judges the run",
            TlpotWarning,
            stacklevel=2,
        )
    return header, weights
