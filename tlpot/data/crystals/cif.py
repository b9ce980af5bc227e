"""Crystals out of CIFs, each checked against what its data block says of itself.

ASE believes occupancies and standard settings, pymatgen drops blocks and reasons; here every block
that describes a crystal is one entry, read or refused for a reason of its own.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms

from tlpot.data.compression import open_binary
from tlpot.data.crystals.asymmetric import Site, cell_of, whole_cell
from tlpot.data.crystals.cif_text import UNKNOWN, Block, decode, parse_blocks
from tlpot.data.crystals.contents import ELEMENTS, ISOTOPES, Contents, formula_of
from tlpot.data.crystals.spacegroups import IDENTITY, Operators, point_order, settings_of
from tlpot.errors import MachineError, TlpotError
from tlpot.optional import MissingLibraryError
from tlpot.structure.soundness import closest

CENTRED = ("A", "B", "C", "I", "F")
_LENGTHS = tuple(f"_cell_length_{x}" for x in "abc")
_ANGLES = tuple(f"_cell_angle_{x}" for x in ("alpha", "beta", "gamma"))
_OPERATORS = (
    *("_space_group_symop_operation_xyz", "_symmetry_equiv_pos_as_xyz"),
    *("_space_group_symop_xyz", "_symmetry_equiv_pos_xyz"),
)
_HALL = ("_space_group_name_Hall", "_symmetry_space_group_name_Hall")
_SYMBOL = (
    *("_space_group_name_H-M_alt", "_symmetry_space_group_name_H-M"),
    *("_space_group_name_H-M_full", "_space_group_name_H-M_ref", "_space_group_name_H-M"),
)
DISORDER = ("disorder_assembly", "disorder_group")
_NUMBER = ("_space_group_IT_number", "_symmetry_Int_Tables_number")


@dataclass(frozen=True)
class Unreadable:
    """An entry of a file that is no structure: `name`, if it has one, and `reason`."""

    name: str
    reason: str

    def __str__(self) -> str:
        return f"block {self.name}: {self.reason}" if self.name else self.reason


def read_cif(path: Path) -> list[Atoms | Unreadable]:
    """One entry for each data block with a cell or atoms; others (text, reflections) are no entry.

    ``info["block"]`` is the block's name. Symmetry is applied as the operators say, or those of
    the Hall or Hermann-Mauguin symbol in its setting, or of the number if it has one setting.

    Raises
    ------
    TlpotError
        If the file has no data block of a crystal.
    """
    with open_binary(path) as file:
        blocks = parse_blocks(decode(file.read()))
    if not blocks:
        raise TlpotError(f"{path}: cannot be read as CIF: it has no line 'data_…'")
    crystals = [block for block in blocks if _describes_crystal(block)]
    if not crystals:
        raise TlpotError(f"{path}: none of its {len(blocks)} data blocks has a cell and atoms")
    entries: list[Atoms | Unreadable] = []
    for block in crystals:
        try:
            entries.append(_crystal(block))
        except MachineError:
            raise
        except TlpotError as error:
            name = block.name if len(crystals) > 1 else ""
            entries.append(Unreadable(name, str(error)))
    return entries


def number_of(text: str) -> float:
    """``1.234(5)``, ``1/3`` and the like; NaN for ``?`` and ``.``.

    Raises
    ------
    TlpotError
        If it is no number.
    """
    if text in UNKNOWN:
        return np.nan
    plain = re.sub(r"\(\d*\)?$", "", text)
    try:
        top, _, bottom = plain.partition("/")
        return float(top) / float(bottom or 1)
    except (ValueError, ZeroDivisionError):
        raise TlpotError(f"'{text}' is no number") from None


def element_of(text: str, symbols: Collection[str] = (), label: bool = False) -> str:
    """The element of a type symbol (``N3-``, ``CL``, ``D``) or label (``C1``, ``OW2``).

    Parameters
    ----------
    known
        Elements of the file's formula, which tell C-alpha from calcium.
    label
        It is a label, whose second capital may be no part of the element.

    Raises
    ------
    TlpotError
        If it means none, or could mean two.
    """
    match = re.match(r"[A-Za-z]+", text)
    letters = match[0] if match else " "
    pair, single = (ISOTOPES.get(s, s) for s in (letters[:2].capitalize(), letters[0].upper()))
    fits = [s for s in dict.fromkeys((pair, single)) if s in ELEMENTS]
    named = [s for s in fits if s in symbols]
    if len(letters) > 2 and letters[1:].islower():  # Wat, Cent: words
        fits = []
    elif letters[1:2].islower() and pair not in ELEMENTS and letters[1] != "w":
        fits = named
    elif named or letters[1:2].islower() or not label or pair in ("Cl", "Br"):
        fits = (named or fits)[:1]
    if len(fits) == 1:
        return fits[0]
    if fits:
        raise TlpotError(f"{text} may be {' or '.join(fits)}; add _atom_site_type_symbol")
    raise TlpotError(f"'{text}' is no known element; mend the file")


def _describes_crystal(block: Block) -> bool:
    tags = {*block.tags, *block.broken}
    return not tags.isdisjoint((*_LENGTHS, "_atom_site_label", "_atom_site_fract_x"))


def _crystal(block: Block) -> Atoms:
    contents = _contents(block)
    parameters = [number_of(block.value(tag) or "?") for tag in (*_LENGTHS, *_ANGLES)]
    missing = [t for t, x in zip((*_LENGTHS, *_ANGLES), parameters, strict=True) if np.isnan(x)]
    if missing:
        raise TlpotError(f"it gives no {missing[0]}: without a cell it is no crystal")
    cell = cell_of(parameters)
    sites = _read_sites(block, contents.formula)
    listed = block.column(*_OPERATORS)
    if not listed:
        atoms = _in_a_setting(block, sites, cell, contents)
    else:
        atoms = _as_listed(block, listed, sites, cell, contents)
    atoms.info["block"] = block.name
    return atoms


def _as_listed(
    block: Block, listed: list[str], sites: list[Site], cell: np.ndarray, contents: Contents
) -> Atoms:
    """With the operators that the block lists, if they agree with what else it says."""
    operators = Operators.of_text(listed)
    if not operators.fit(cell):
        raise TlpotError("its symmetry operators do not fit the lengths and angles of its cell")
    atoms = whole_cell(sites, operators, cell)
    flaw = contents.contradiction(atoms)
    if len(operators) < _least_order(block, cell) and (flaw or not contents.certain):
        group = block.value(*_SYMBOL) or block.value(*_NUMBER)
        short = f"it lists {len(operators)} symmetry operators, space group {group} has more"
        flaw = f"{flaw}; {short}" if flaw else short
        flaw += "; list all, or call it P 1 if its atoms are those of the cell"
    if flaw:
        raise TlpotError(flaw)
    return atoms


def _least_order(block: Block, cell: np.ndarray) -> int:
    """How many operators the space group that a block names has at least."""
    number, symbol = _group_number(block), block.value(*_SYMBOL) or ""
    if number:
        return point_order(number) * (2 if symbol.strip()[:1].upper() in CENTRED else 1)
    with suppress(MissingLibraryError):
        return min(map(len, settings_of(None, symbol, None, cell)), default=1) if symbol else 1
    return 1


def _in_a_setting(block: Block, sites: list[Site], cell: np.ndarray, contents: Contents) -> Atoms:
    """With the operators of the setting that the block names, if there is one such alone."""
    hall, symbol, number = block.value(*_HALL), block.value(*_SYMBOL), _group_number(block)
    named = symbol or hall or (f"number {number}" if number else None)
    settings = settings_of(hall, symbol, number, cell) if named else [IDENTITY]
    if not settings:
        raise TlpotError(
            f"it lists no symmetry operators, and no tabulated setting of space group {named} fits "
            "its cell; list them (_space_group_symop_operation_xyz)"
        )
    if named is None and not contents.certain:
        raise TlpotError(
            "it says nothing of its symmetry; list its operators, or call it P 1 if its atoms are "
            "those of the cell"
        )
    made = [whole_cell(sites, operators, cell) for operators in settings]
    flaws = [contents.contradiction(atoms) or closest(atoms) for atoms in made]
    good = [atoms for atoms, flaw in zip(made, flaws, strict=True) if flaw is None]
    if len(good) == 1:
        return good[0]
    if good:
        raise TlpotError(
            f"it lists no symmetry operators, and space group {named} has {len(good)} settings "
            "that fit; list them (_space_group_symop_operation_xyz)"
        )
    unsaid = "it lists no symmetry operators" + ("" if named else " and names no space group")
    raise TlpotError(f"{flaws[0]}; {unsaid}")


def _group_number(block: Block) -> int | None:
    text = block.value(*_NUMBER)
    return None if text is None else int(number_of(text))


def _contents(block: Block) -> Contents:
    z, density = (
        None if text is None else number_of(text)
        for text in (
            block.value("_cell_formula_units_Z"),
            block.value("_exptl_crystal_density_diffrn"),
        )
    )
    return Contents(formula_of(block.value("_chemical_formula_sum")), z or None, density)


def _read_sites(block: Block, formula: Collection[str]) -> list[Site]:
    labels = block.column("_atom_site_label") or block.column("_atom_site_type_symbol")
    if not labels:
        raise TlpotError("it holds no atoms (_atom_site_label)")
    columns: list[list[str]] = [block.column(f"_atom_site_fract_{x}") or [] for x in "xyz"]
    if not all(columns):
        raise TlpotError("it has no fractional coordinates (_atom_site_fract_x, y and z)")
    types, occupancies, flags, assemblies, groups = (
        block.column(f"_atom_site_{name}") or ["."] * len(labels)
        for name in ("type_symbol", "occupancy", "calc_flag", *DISORDER)
    )
    others = (types, occupancies, flags, assemblies, groups)
    if any(len(column) != len(labels) for column in (*columns, *others)):
        raise TlpotError("cannot be read: its columns of atoms (_atom_site_…) differ in length")
    sites, unplaced = [], []
    alternatives: dict[str, dict[str, str]] = defaultdict(dict)
    for label, kind, share, flag, assembly, group, *xyz in zip(
        labels, *others, *columns, strict=True
    ):
        occupancy = 1.0 if share in UNKNOWN else number_of(share)
        if flag == "dum" or occupancy == 0.0:
            continue
        if group not in (*UNKNOWN, "0") and occupancy == 1.0:
            alternatives[assembly].setdefault(group, label)
        position = np.array([number_of(x) for x in xyz])
        if not np.isfinite(position).all():
            unplaced.append(label)
        typed = kind not in UNKNOWN
        symbol = element_of(kind if typed else label, formula, label=not typed)
        sites.append(Site(label, symbol, position, occupancy))
    if unplaced:
        more = f" and {len(unplaced) - 4} more" if len(unplaced) > 4 else ""
        raise TlpotError(
            f"the coordinates of {', '.join(unplaced[:4])}{more} are unknown (? or .); give them, "
            "or delete the atoms"
        )
    if not sites:
        raise TlpotError("it holds no atoms: none of its list counts")
    if several := next((x for x in alternatives.values() if len(x) > 1), None):
        raise TlpotError(
            f"disordered: {' and '.join(several.values())} are of different disorder groups "
            f"({', '.join(several)}) and all fully occupied; keep the atoms of one group"
        )
    return sites
