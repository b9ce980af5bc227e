"""Transfer learning of interatomic potentials: from VASP files to a calculator you can trust."""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

os.environ.setdefault("TORCHANI_NO_WARN_EXTENSIONS", "1")

if TYPE_CHECKING:
    from tlpot.data.read import read_frames
    from tlpot.errors import TlpotError
    from tlpot.finetuning.run import finetune
    from tlpot.model.calculator import TLPotCalculator
    from tlpot.model.load import load

__version__ = "0.1.0"

__all__ = ["TLPotCalculator", "TlpotError", "finetune", "load", "read_frames"]

_HOMES = {
    "TLPotCalculator": "tlpot.model.calculator",
    "TlpotError": "tlpot.errors",
    "finetune": "tlpot.finetuning.run",
    "load": "tlpot.model.load",
    "read_frames": "tlpot.data.read",
}


def __getattr__(name: str) -> Any:
    """Load torch only when something needs it: `tlpot --help` answers at once."""
    if name not in _HOMES:
        raise AttributeError(f"module 'tlpot' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    """What ``tlpot.<TAB>`` offers."""
    return sorted(__all__)
