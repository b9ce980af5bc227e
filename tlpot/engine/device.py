"""Which device torch computes on."""

from __future__ import annotations

import torch

from tlpot.errors import TlpotError


def usable(name: str = "auto", what: str = "device") -> torch.device:
    """A device as torch calls it; ``auto`` is a GPU when there is one, and the CPU else.

    Raises
    ------
    TlpotError
        If torch cannot compute there; `what` says where the name came from.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, dtype=torch.float64, device=device).cpu()  # mps has no such numbers
    except (RuntimeError, AssertionError, TypeError) as error:
        reason = str(error).partition("\n")[0]
        raise TlpotError(f"{what}: '{name}' cannot be used here ({reason})") from None
    return device
