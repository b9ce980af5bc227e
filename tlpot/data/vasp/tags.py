"""What the tags of a VASP run say of its level of theory, in the words of `tlpot.data.levels`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from ase.data import atomic_numbers

GGA = {
    "PE": "PBE",
    "PS": "PBEsol",
    "RP": "RPBE",
    "RE": "revPBE",
    "91": "PW91",
    "CA": "LDA",
    "PZ": "LDA",
    "AM": "AM05",
    "B3": "B3LYP",
    "B5": "B3LYP",
    "BF": "BEEF",
    "BL": "BLYP",
}
"""Functionals by VASP's two letters; others keep the letters."""

DATA_SET = {"PAW_PBE": "PBE", "PAW_GGA": "PW91", "PAW": "LDA", "US": "LDA"}
"""Functional of a POTCAR, which holds where no tag names another."""

NONLOCAL = {
    "RE": "vdW-DF",
    "OR": "optPBE-vdW",
    "BO": "optB88-vdW",
    "MK": "optB86b-vdW",
    "ML": "vdW-DF2",
    "CX": "vdW-DF-cx",
}
IVDW = {
    1: "D2",
    10: "D2",
    11: "D3(zero)",
    12: "D3(BJ)",
    13: "D4",
    2: "TS",
    20: "TS",
    21: "TS with iterative Hirshfeld",
    202: "MBD",
    263: "MBD with fractional ions",
    3: "dDsC",
    4: "dDsC",
}
UNNAMED = "unnamed"
"""Dispersion that is in the energies while no tag tells which."""

HYBRIDS = {"PBE0": 0.0, "HSE06": 0.2, "HSE03": 0.3}
"""Hybrids of PBE with a quarter of exact exchange, by HFSCREEN in Å⁻¹."""

RESPONSE = (7, 8)
"""IBRION of density-functional perturbation theory."""
PHONONS = (5, 6, *RESPONSE)
"""IBRION of what computes force constants; 5 and 6 by finite displacements."""


def potcar_element(title: str) -> str | None:
    """The element that a POTCAR's title names (``PAW_PBE Ti_sv 26Sep2005``), if it names one."""
    words = title.split()
    symbol = re.split(r"[^A-Za-z]", words[1] if len(words) > 1 else "")[0]
    return symbol if symbol in atomic_numbers else None


class Tags(dict[str, str]):
    """A run's tags by upper-case name, as its output lists them."""

    def note(self, name: str, value: str) -> None:
        """Keep a value; a later one counts, unless Fortran could not print it.

        OUTCAR uses two names twice: LEXCH is first the POTCAR's, METAGGA last an obsolete switch.
        """
        name, value = name.strip().upper(), value.strip()
        switch = name == "METAGGA" and re.match(r"\.?(T|F|TRUE|FALSE)\b", value)
        if name not in self or not (switch or "*" in value or name == "LEXCH"):
            self[name] = value

    def text(self, name: str) -> str:
        """The first word of a value, upper case; empty where there is none."""
        words = self.get(name, "").split()
        return words[0].upper() if words else ""

    def flag(self, name: str) -> bool:
        """Whether a logical tag is on (``T``, ``.TRUE.``)."""
        return self.text(name).lstrip(".").startswith("T")

    def number(self, name: str, default: float) -> float:
        """A number; `default` where it is absent or starred."""
        try:
            return float(self.text(name))
        except ValueError:
            return default

    @property
    def responds(self) -> bool:
        """Whether the run computes a linear response, whose iterations are no ionic steps."""
        responding = self.number("IBRION", -1) in RESPONSE
        return responding or self.flag("LEPSILON") or self.flag("LCALCEPS")

    def notes(self, titles: Iterable[str], dispersed: bool | None) -> dict[str, object]:
        """What a frame's ``info`` says of its level.

        Parameters
        ----------
        titles
            Of the POTCARs, in the order of the species.
        dispersed
            Whether the energies contain a classical dispersion energy; None: unknown.
        """
        titles = list(titles)
        named = {title: potcar_element(title) for title in titles}
        data_sets = {f"{named[t]}={' '.join(t.split()[:2])}" for t in titles if named[t]}
        notes: dict[str, object] = {
            "xc": self._functional(titles),
            "dispersion": self._dispersion(dispersed),
            "hubbard": self._hubbard([named[title] for title in titles]),
            "potentials": ", ".join(sorted(data_sets)),
            "spin_treatment": self._spin(),
            "prec": self.text("PREC")[:1],
        }
        if images := int(self.number("IMAGES", 0)):
            notes["images"] = images
        if (ibrion := self.number("IBRION", -1)) in PHONONS:
            notes["ibrion"] = int(ibrion)
        cutoff = self.number("ENCUT", self.number("ENMAX", 0.0))
        if cutoff:
            notes["encut"] = cutoff
        if "LASPH" in self:
            notes["lasph"] = self.flag("LASPH")
        return {key: value for key, value in notes.items() if value != ""}

    def _functional(self, titles: list[str]) -> str:
        potcar = self.text("LEXCH") if self.text("LEXCH") in GGA else ""  # or VASP's own number
        code = self.text("GGA").strip("-") or potcar
        of_potcar = [DATA_SET.get(title.split()[0], "") for title in titles if title.split()]
        name = GGA.get(code, code) or next(iter(of_potcar), "")
        meta = self.text("METAGGA").strip("-.")
        libxc = [part for tag in ("LIBXC1", "LIBXC2") if (part := self.text(tag).strip("-"))]
        if "LI" in (code[:2], meta[:2]) and libxc:
            name = "+".join(libxc)
        elif meta not in ("", "F", "T", "FALSE", "TRUE", "NONE"):
            name = meta
        if self.flag("LUSE_VDW"):
            name = self._nonlocal(code, name)
        if not self.flag("LHFCALC"):
            return name
        exchange, screening = self.number("AEXX", 0.25), self.number("HFSCREEN", 0.0)
        if name == "PBE" and exchange == 0.25:
            for hybrid, value in HYBRIDS.items():
                if abs(screening - value) < 0.01:
                    return hybrid
        if name == "B3LYP":
            return name
        return f"{name} + {exchange:g} exact exchange, HFSCREEN = {screening:g}"

    def _nonlocal(self, code: str, name: str) -> str:
        if self.number("IVDW_NL", 1) == 2 or (name not in GGA.values() and code not in NONLOCAL):
            return f"{name}+rVV10, BPARAM = {self.number('BPARAM', 6.3):g}"
        steep = "*" in self.text("ZAB_VDW") or self.number("ZAB_VDW", -0.8491) < -1.0
        if code == "MK" and steep:
            return "rev-vdW-DF2"
        return NONLOCAL.get(code, f"{name} + vdW-DF{'2' if steep else ''}")

    def _dispersion(self, dispersed: bool | None) -> str:
        number = int(self.number("IVDW", 1 if self.flag("LVDW") else 0))
        corrections = []
        if number:
            corrections.append(f"{IVDW.get(number, 'dispersion')} (IVDW = {number})")
        elif dispersed:
            corrections.append(UNNAMED)
        if self.flag("LUSE_VDW"):
            corrections.append("nonlocal (LUSE_VDW)")
        if not corrections and dispersed is None and "IVDW" not in self:
            return ""
        return " and ".join(corrections) or "none"

    def _hubbard(self, elements: list[str | None]) -> str:
        if not self.flag("LDAU"):
            return "none"
        columns = [re.findall(r"-?[\d.]+", self.get(t, "")) for t in ("LDAUL", "LDAUU", "LDAUJ")]
        terms = []
        for i, element in enumerate(elements):
            values = [float(column[i]) if i < len(column) else 0.0 for column in columns]
            if element and values[0] >= 0 and any(values[1:]):
                terms.append(f"{element}=l {values[0]:g} U {values[1]:g} J {values[2]:g}")
        kind = self.number("LDAUTYPE", 2)
        return ", ".join(f"{term} type {kind:g}" for term in sorted(set(terms))) or "none"

    def _spin(self) -> str:
        if self.flag("LSORBIT"):
            return "spin-orbit"
        if self.flag("LNONCOLLINEAR"):
            return "non-collinear"
        return {"1": "ISPIN = 1", "2": "ISPIN = 2"}.get(self.text("ISPIN"), "")


def parameters(line: str) -> Mapping[str, str]:
    """Tags of one line of an OUTCAR, as ``NELM = 60; NELMIN = 2`` or after words of text."""
    values = dict(re.findall(r"(?:^|;)\s*(\w+)\s*=\s*([^;\n]*)", line))
    for name, value in re.findall(r" (LDAUTYPE|LDAUL|LDAUU|LDAUJ|NIONS|NKPTS)\s*=([^;\n]*)", line):
        values[name] = value
    return values
