"""Dispersion on top of a potential whose labels have none: D3(BJ) or D4."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal

from ase.calculators.calculator import Calculator

from tlpot.config.bases import BASES
from tlpot.data.levels import same_functional, stated
from tlpot.errors import TlpotError
from tlpot.labelling.engines import d3bj
from tlpot.model.potential import Potential
from tlpot.optional import require

Dispersion = Literal["d3", "d4"]

HAS_DISPERSION = re.compile(r"d3|d4|vdw|mbd|vv10|beef|gfn|xtb|3c|\+ts\b|-[dv]\b|ccsd|mp2", re.I)
"""How engines, functionals and settings with dispersion are called."""
XC = re.compile(r"(?:^|[ ,])xc[= ](\S+)", re.I)
"""In the settings of `tlpot label`."""


def dispersion(kind: Dispersion, model: Potential, functional: str | None = None) -> Calculator:
    """D3(BJ), two-body terms as in VASP (Grimme 2011), or D4 (Caldeweyher 2019), to be added.

    Parameters
    ----------
    functional
        Whose damping parameters to use; left out, that of the model's training labels. For a
        model that does not say how its labels were made, naming it states that they are of this
        functional without dispersion.

    Raises
    ------
    TlpotError
        If the labels contain dispersion already or are of another functional, if nobody says, or
        if there are no parameters.
    """
    trained, why = label_functional(model.metadata)
    if trained is None and why:
        raise TlpotError(f"--dispersion {kind}: {why}, which contain dispersion already; leave out")
    if trained and functional and not same_functional(trained, functional):
        raise TlpotError(
            f"--functional {functional}: the model's training labels are of {trained}; leave the "
            "option out"
        )
    functional = trained or functional
    if functional is None:
        raise TlpotError(
            f"--dispersion {kind}: the model does not say whether its training labels contain "
            "dispersion. If they do, leave the option out; if not, name their functional: "
            "--functional PBE"
        )
    if kind == "d3":
        return d3bj(functional)
    library = require("dftd4.ase", "use", "D4 dispersion")
    try:
        require("dftd4.interface", "use", "D4 dispersion").DampingParam(method=functional)
    except RuntimeError:
        raise TlpotError(f"--functional: D4 has no parameters for '{functional}'") from None
    calculator: Calculator = library.DFTD4(method=functional)
    return calculator


def label_functional(metadata: Mapping[str, Any]) -> tuple[str | None, str]:
    """Functional of the training labels, and what tells that they contain dispersion.

    Returns
    -------
    ``(functional, "")`` if they have none, ``(None, why)`` if they have, ``(None, "")`` where
    the model does not say.
    """
    if "training" not in metadata:
        base = str(metadata.get("base"))
        labels = BASES[base].labels if base in BASES else None
        if labels and HAS_DISPERSION.search(labels):
            return None, f"{base} was trained on {labels} energies"
        return labels, ""
    functionals = set()
    for level in metadata.get("data", {}).get("levels", []):
        facts = stated(level)
        if why := _dispersed(facts):
            return None, f"the model was trained on labels of {why}"
        xc = XC.search(facts.get("settings", ""))
        functionals.add(facts.get("xc") or (xc[1].strip(",") if xc else None))
    return (functionals.pop() if len(functionals) == 1 else None), ""


def _dispersed(facts: Mapping[str, str]) -> str:
    """The words that tell of dispersion in a level's facts, if there are any."""
    if facts.get("dispersion", "none") != "none":
        return f"{facts.get('xc', '')} with dispersion {facts['dispersion']}".strip()
    vasp = facts.get("engine", "").startswith("VASP")  # whose settings are facts already
    names = ("engine", "xc", "level_of_theory", *(() if vasp else ("settings",)))
    text = ", ".join(f"{name} {facts[name]}" for name in names if name in facts)
    return text if HAS_DISPERSION.search(text) else ""
