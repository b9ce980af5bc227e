"""Models for other programs: `tlpot export`."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Literal

from tlpot.errors import TlpotError
from tlpot.files import is_cut_off, require_absent
from tlpot.model.load import load

Format = Literal["metatomic", "torchani"]
SUFFIX: dict[Format, str] = {"metatomic": ".pt", "torchani": ".py"}


def export(
    model: str | Path, output: Path, to: Format, elements: Collection[str] | None = None
) -> Path:
    """Write a model in another program's format.

    Parameters
    ----------
    model
        As for `tlpot.model.load.load`.
    output
        File to write: ``.pt`` for metatomic; ``.py`` for torchani, with the weights beside it.
    elements
        Leave out all others: the same energies, fewer descriptors. None keeps all.

    Returns
    -------
    The file to load.

    Raises
    ------
    TlpotError
        If the file is there already, the backbone has no such form, the model does not know one of
        the elements, or a package is missing.
    """
    if output.suffix != SUFFIX[to]:
        raise TlpotError(f"{output}: a model for {to} is written as {SUFFIX[to]}; name such a file")
    if not is_cut_off(output):
        for path in {output, output.with_suffix(".safetensors") if to == "torchani" else output}:
            require_absent(path)
    potential = load(model)
    if elements:
        if strange := sorted(set(elements) - set(potential.elements)):
            raise TlpotError(
                f"--elements {strange[0]}: the model knows {', '.join(potential.elements)}; repeat "
                "the option for each"
            )
        potential = potential.for_elements(set(elements))
    if to == "metatomic":
        from tlpot.interfaces.metatomic import export_metatomic

        return export_metatomic(potential, output)
    from tlpot.interfaces.torchani import export_torchani

    return export_torchani(potential, output)
