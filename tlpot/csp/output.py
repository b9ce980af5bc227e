"""The files of a ranking: table, structures, pictures, page."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ase.io

from tlpot import __version__
from tlpot.csp.landscape import SYMPREC, Candidate
from tlpot.csp.page import page
from tlpot.csp.plots import landscape, reference_parity
from tlpot.csp.ranking import Ranked
from tlpot.data.crystals.cif_write import cif_text
from tlpot.data.crystals.read import stem
from tlpot.data.tables.cells import table_text
from tlpot.data.write import write_frames
from tlpot.evaluation.plots import write
from tlpot.files import make_folder, write_whole
from tlpot.parallel.work import at_work, begin_work, end_work
from tlpot.run_log import log
from tlpot.structure.frames import Frame
from tlpot.training.manifest import versions

COLUMNS = {
    "rank": "",
    "name": "",
    "status": "ranked, copy or refused",
    "group": "numbers crystals that cannot be told from the first of their group (90 % interval)",
    "space_group": "within 0.1 Å; cell, Z and cif/ are in its standard setting",
    "Z_prime": "formula units in the asymmetric unit",
    "Z": "formula units in the cell",
    "a_A": "",
    "b_A": "",
    "c_A": "",
    "alpha_deg": "",
    "beta_deg": "",
    "gamma_deg": "",
    "density_g_cm3": "",
    "lattice_energy_kJ_mol": "per mole of formula units, against the relaxed gas molecule",
    "lattice_energy_std_kJ_mol": "spread of the ensemble",
    "relative_kJ_mol": "above the lowest",
    "relative_std_kJ_mol": "spread of that difference",
    "centred_std_kJ_mol": "spread of the difference to the mean of all ranked",
    "not_told_from": "ranks whose order against this one is in doubt (90 % interval)",
    "free_energy_kJ_mol": "lattice energy + harmonic vibrational free energy",
    "lowest_phonon_THz": "negative: imaginary, no minimum",
    "pattern_similarity": "with the measured powder pattern, 1: same",
    "pattern_system_probability": "that the measured pattern is of this one's crystal system",
    "reference_kJ_mol": "above the reference's lowest",
    "experimental": "experimental structure that it matches",
    "rmsd_A": "to it, without hydrogen",
    "reason": "of what is not ranked",
}
"""Columns of ``ranking.csv`` and what they are; a cell without a value is empty."""
CELL_COLUMNS = ("a_A", "b_A", "c_A", "alpha_deg", "beta_deg", "gamma_deg")
STRUCTURE_NOTES = ("name", "rank", "relative_kJ_mol", "relative_std_kJ_mol", "centred_std_kJ_mol")
"""What ``structures.extxyz`` says of each."""
TABLE = "ranking.csv"
"""Written last."""
RANKING_PACKAGES = ("torch", "ase", "pymatgen")


def write_ranking(ranked: Ranked, folder: str | Path) -> Path:
    """Write a ranking into a folder that is new, empty or holds its shards, which are taken away.

    ``ranking.csv`` and ``.json``, ``ranking.html``, ``landscape.png``, with reference energies
    ``parity.png``, the structures in order (``structures.extxyz`` as they were ranked, with the
    model's energies; ``cif/`` moved onto their symmetry) and the relaxed molecules
    (``gas.extxyz``).

    Raises
    ------
    TlpotError
        If the folder has something else in it.
    """
    folder = Path(folder)
    with at_work(folder, TABLE):
        begin_work(folder, {})
        _write(ranked, folder)
        end_work(folder)
        for remark in ranked.remarks:
            log.warning("%s", remark)
        for refused in ranked.refused:
            log.info("left out %s: %s", refused.name, refused.reason)
        log.info("%d ranked, %d copies", len(ranked.candidates), len(ranked.copies))
    return folder


def _write(ranked: Ranked, folder: Path) -> None:
    rows = table(ranked)
    frames, cifs = [], {}
    labelled = {"engine": f"tlpot {__version__}", "settings": f"model {ranked.model}"}
    for i, candidate in enumerate(ranked.candidates):
        notes = {k: rows[i][k] for k in STRUCTURE_NOTES}
        frames.append(Frame(candidate.atoms, candidate.total, info=notes | labelled))
        cifs[f"{i + 1:04d}_{stem(candidate.name)}.cif"] = _cif(candidate, int(rows[i]["Z"]))
    make_folder(folder / "cif")
    for stale in {file.name for file in (folder / "cif").iterdir()} - set(cifs):
        (folder / "cif" / stale).unlink()
    for name, content in cifs.items():
        write_whole(folder / "cif" / name, content, settled=False)
    write_frames(folder / "structures.extxyz", frames)
    write_frames(folder / "gas.extxyz", [Frame(molecule) for molecule in ranked.gas])
    pictures = {"landscape": landscape(ranked)}
    if ranked.scores["n"] > 1:
        pictures["parity"] = reference_parity(ranked)
    for name, picture in pictures.items():
        write(picture, folder / f"{name}.png")
    write_whole(folder / "ranking.json", json.dumps(summary(ranked), indent=2) + "\n")
    write_whole(folder / "ranking.html", page(ranked, rows, summary(ranked), pictures))
    write_whole(folder / TABLE, table_text(COLUMNS, rows, digits=6))


def _cif(candidate: Candidate, z: int) -> bytes:
    """The crystal with its symmetry, or where none is found the atoms of its cell."""
    if candidate.setting is None:
        text = io.BytesIO()
        ase.io.write(text, candidate.atoms, format="cif")
        return text.getvalue()
    moved = f"moved onto its symmetry within {SYMPREC} Å; structures.extxyz has it as it was ranked"
    return cif_text(stem(candidate.name), candidate.setting, z, moved).encode()


def table(ranked: Ranked) -> list[dict[str, Any]]:
    """The rows of ``ranking.csv``: candidates in order, then copies, then what was refused."""
    nan = float("nan")
    empty = {name: nan for name in COLUMNS} | dict.fromkeys(
        ("not_told_from", "space_group", "experimental", "reason"), ""
    )
    factor = ranked.scale.factor if ranked.scale else 1.0
    matched = {id(m.candidate): (n, m.rmsd) for n, m in ranked.experimental.items() if m}
    references = [c.reference for c in ranked.candidates if c.reference is not None]
    rows = []
    for candidate, status in [(c, "ranked") for c in ranked.candidates] + [
        (c, "copy") for c, _ in ranked.copies
    ]:
        members = candidate.energies
        rows.append(
            empty
            | _crystal(candidate)
            | {
                "name": candidate.name,
                "status": status,
                "density_g_cm3": candidate.density,
                "lattice_energy_kJ_mol": candidate.energy,
                "lattice_energy_std_kJ_mol": factor * members.std(ddof=1)
                if len(members) > 1
                else nan,
                "relative_kJ_mol": candidate.energy - ranked.candidates[0].energy,
                **candidate.notes,
            }
        )
        if candidate.reference is not None and references:
            rows[-1]["reference_kJ_mol"] = candidate.reference - min(references)
        if id(candidate) in matched:
            rows[-1]["experimental"], rows[-1]["rmsd_A"] = matched[id(candidate)]
    for i, row in enumerate(rows[: len(ranked.candidates)]):
        doubt = ranked.not_told_from(i)
        row["rank"] = i + 1
        row["relative_std_kJ_mol"] = float(ranked.spread[0, i])
        row["centred_std_kJ_mol"] = float(ranked.doubt[i])
        row["not_told_from"] = "?" if doubt is None else ranges([j + 1 for j in doubt])
    for number, group in enumerate(ranked.groups or [], start=1):
        for i in group:
            rows[i]["group"] = number
    for row, (_, kept) in zip(rows[len(ranked.candidates) :], ranked.copies, strict=True):
        row["reason"] = f"the same as {kept}"
    refused = [
        empty | {"name": r.name, "status": "refused", "reason": r.reason} for r in ranked.refused
    ]
    return rows + refused


def _crystal(candidate: Candidate) -> dict[str, Any]:
    """Space group, Z and cell of the standard setting; without one, of the cell as it is."""
    setting = candidate.setting
    atoms = candidate.atoms if setting is None else setting.atoms
    z = candidate.z * len(atoms) / len(candidate.atoms)
    row: dict[str, Any] = {
        "Z": round(z),
        **dict(zip(CELL_COLUMNS, atoms.cell.cellpar(), strict=True)),
    }
    if setting is not None:
        row |= {"space_group": setting.symbol, "Z_prime": z / len(setting.operations)}
    return row


def summary(ranked: Ranked) -> dict[str, Any]:
    """The content of ``ranking.json``; undefined numbers are null."""
    content = {
        "model": ranked.model,
        "settings": ranked.settings.model_dump(),
        "remarks": ranked.remarks,
        "formula_unit": str(ranked.unit),
        "n": {
            "ranked": len(ranked.candidates),
            "copies": len(ranked.copies),
            "refused": len(ranked.refused),
        },
        "spread": "calibrated" if ranked.scale else "raw",
        "interval_in_std": ranked.quantile,
        "scores": ranked.scores,
        "pattern_opinion": ranked.opinion and ranked.opinion.as_dict(),
        "experimental": {
            name: match
            and {
                "name": match.candidate.name,
                "rank": ranked.place(match.candidate) + 1,
                "rmsd_A": match.rmsd,
                "relative_kJ_mol": float(ranked.relative[ranked.place(match.candidate)]),
            }
            for name, match in ranked.experimental.items()
        },
        "versions": versions(RANKING_PACKAGES),
    }
    return {k: _finite(v) for k, v in content.items()}


def ranges(numbers: Sequence[int]) -> str:
    """``[2, 3, 4, 7]`` as ``2 to 4; 7``, which no spreadsheet takes for a date."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][-1] + 1:
            parts[-1] = [parts[-1][0], number]
        else:
            parts.append([number])
    return "; ".join(" to ".join(map(str, part)) for part in parts)


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: _finite(v) for k, v in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
