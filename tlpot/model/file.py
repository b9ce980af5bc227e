"""The one kind of model file: weights and a header of plain data in a safetensors file."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save as serialise
from torch import Tensor

from tlpot.errors import TlpotError, TlpotWarning, storage
from tlpot.files import make_folder, write_whole

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


def content(header: Mapping[str, Any], weights: Mapping[str, Tensor]) -> bytes:
    """What a model file holds."""
    about = json.dumps(anonymous({"format": FORMAT, **header}))
    tensors = {name: weight.detach().cpu().contiguous() for name, weight in weights.items()}
    return serialise(tensors, {"tlpot": about})


def write_model(path: str | Path, header: Mapping[str, Any], weights: Mapping[str, Tensor]) -> Path:
    """Write a model atomically, making folders as needed."""
    path = Path(path)
    make_folder(path.parent)
    return write_whole(path, content(header, weights))


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
    except (LookupError, ValueError, TypeError, AttributeError, RecursionError):
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
        with storage(path, "read"), safe_open(path, "pt") as file:
            header = json.loads((file.metadata() or {}).get("tlpot", "{}"))
            weights = {name: file.get_tensor(name) for name in file.keys()}
    except TlpotError:
        raise
    except Exception as error:
        flaw = _cut(path) or f"is not a safetensors model file, or a damaged one ({error})"
        raise TlpotError(f"{path} {flaw}") from None
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise TlpotError(f"{path} is no tlpot model: its header does not say {FORMAT}")
    with fitting(path):
        for part in (header.get("architecture"), header.get("property"), header.get("powder")):
            _require_held(part, weights)
        note = ""
        if so_far := header.get("metadata", header).get(SO_FAR):
            note = (
                f"{path} is of an unfinished run: epoch {so_far['epoch']} of {so_far['epochs']}, "
                f"the best so far that of epoch {so_far['best_epoch']}; --resume ends and judges "
                "the run"
            )
    if note:
        warnings.warn(note, TlpotWarning, stacklevel=2)
    return header, weights


@contextmanager
def fitting(path: str | Path) -> Iterator[None]:
    """What making a model of header and weights stumbles over is told of their file.

    Raises
    ------
    TlpotError
        In the place of anything that is raised.
    """
    try:
        yield
    except TlpotError as error:
        told = str(error)
        raise TlpotError(told if told.startswith(str(path)) else f"{path}: {told}") from None
    except Exception as error:  # of damaged headers: no list of these is finite
        what = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        raise TlpotError(f"{path}: damaged, its header does not fit it ({what})") from None


def require_shapes(claimed: Mapping[str, Tensor], held: Mapping[str, Tensor]) -> None:
    """Refuse weights other than those of an architecture, before memory is taken for these.

    Raises
    ------
    TlpotError
        Naming the first that is missing or of another shape.
    """
    for name, tensor in claimed.items():
        if name not in held or held[name].shape != tensor.shape:
            raise TlpotError(f"the weights do not fit the architecture it states ({name})")


LOOPS = ("convolutions", "interactions", "layers")
"""Sizes that count tensors, not the numbers in one."""


def _require_held(about: Any, weights: Mapping[str, Tensor], key: str = "") -> None:
    """Refuse sizes that so many weights cannot have."""
    if isinstance(about, Mapping):
        for name, value in about.items():
            _require_held(value, weights, name)
    elif isinstance(about, list):
        for value in about:
            _require_held(value, weights, key)
    elif isinstance(about, int) and about > 1000:
        limit = sum(tensor.numel() for tensor in weights.values())
        if about > (len(weights) if key in LOOPS else limit):
            raise TlpotError(f"damaged, its header claims {key} {about}, which it cannot hold")
