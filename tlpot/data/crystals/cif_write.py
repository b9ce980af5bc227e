"""Write a crystal as CIF with its symmetry."""

from __future__ import annotations

from collections import Counter

from tlpot.structure.symmetry import Setting

CELL_TAGS = ("length_a", "length_b", "length_c", "angle_alpha", "angle_beta", "angle_gamma")


def cif_text(name: str, setting: Setting, z: int, remark: str = "") -> str:
    """CIF of the asymmetric unit; `tlpot.data.crystals.cif` reads the whole cell back.

    Parameters
    ----------
    name
        Of the data block.
    z
        Formula units in the cell.
    remark
        A comment.
    """
    atoms = setting.atoms
    places = atoms.get_scaled_positions(wrap=False)
    counts: Counter[str] = Counter()
    rows = []
    for site, multiplicity in setting.sites.items():
        symbol = atoms.symbols[site]
        counts[symbol] += 1
        at = " ".join(f"{x:.8f}" for x in places[site])
        rows.append(f"{symbol}{counts[symbol]} {symbol} {multiplicity} {at} 1")
    unit = {s: n // z for s, n in atoms.symbols.formula.convert("hill").count().items()}
    lines = [
        *([f"# {remark}"] if remark else []),
        "data_" + "".join(c if c.isascii() and c.isprintable() and c != " " else "_" for c in name),
        f"_chemical_formula_sum '{' '.join(f'{s}{n}' for s, n in unit.items())}'",
        f"_cell_formula_units_Z {z}",
        *(f"_cell_{k} {x:.6f}" for k, x in zip(CELL_TAGS, atoms.cell.cellpar(), strict=True)),
        f"_cell_volume {atoms.get_volume():.4f}",
        f"_space_group_name_H-M_alt '{setting.symbol}'",
        f"_space_group_IT_number {setting.number}",
        "loop_",
        "_space_group_symop_operation_xyz",
        *(f"'{operation}'" for operation in setting.operations),
        "loop_",
        *(f"_atom_site_{k}" for k in ("label", "type_symbol", "symmetry_multiplicity")),
        *(f"_atom_site_fract_{axis}" for axis in "xyz"),
        "_atom_site_occupancy",
        *rows,
    ]
    return "\n".join(lines) + "\n"
