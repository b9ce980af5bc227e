"""The files of a ranking: table, structures, picture, page."""

from __future__ import annotations

import base64
import io
import json
import math
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
from jinja2 import Environment, StrictUndefined
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from tlpot.csp.ranking import Ranked
from tlpot.data.crystals import stem
from tlpot.data.identity import short_names
from tlpot.data.write import write_frames
from tlpot.evaluation.plots import short, write
from tlpot.evaluation.report import formula
from tlpot.files import at_work, begin_work, end_work, make_folder, table_text, write_whole
from tlpot.palette import AFTER, BEFORE, FAINT
from tlpot.run_log import log
from tlpot.structure.frames import Frame
from tlpot.training.manifest import versions

COLUMNS = {
    "rank": "",
    "name": "",
    "status": "ranked, copy or refused",
    "Z": "formula units in the cell",
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
OPTIONAL = (
    "free_energy_kJ_mol",
    "lowest_phonon_THz",
    "pattern_similarity",
    "pattern_system_probability",
    "rmsd_A",
    "reference_kJ_mol",
)
"""Columns that the page shows where they are known."""
STRUCTURE_NOTES = ("name", "rank", "relative_kJ_mol", "relative_std_kJ_mol", "centred_std_kJ_mol")
"""What ``structures.extxyz`` says of each."""
SHOWN_ROWS = 50
"""Structures that the page lists."""
TABLE = "ranking.csv"
"""Written last."""
RANKING_PACKAGES = ("torch", "ase", "pymatgen")


def write_ranking(ranked: Ranked, folder: str | Path) -> Path:
    """Write a ranking into a folder that is new, empty or holds its shards, which are taken away.

    ``ranking.csv`` and ``.json``, ``ranking.html``, ``landscape.png``, the structures in order
    (``structures.extxyz``, ``cif/``) and the relaxed molecules (``gas.extxyz``).

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
    for i, one in enumerate(ranked.candidates):
        row = rows[i]
        frames.append(Frame(one.atoms, info={k: row[k] for k in STRUCTURE_NOTES}))
        text = io.BytesIO()
        ase.io.write(text, one.atoms, format="cif")
        cifs[f"{i + 1:04d}_{stem(one.name)}.cif"] = text.getvalue()
    make_folder(folder / "cif")
    for stale in {file.name for file in (folder / "cif").iterdir()} - set(cifs):
        (folder / "cif" / stale).unlink()
    for name, content in cifs.items():
        write_whole(folder / "cif" / name, content)
    write_frames(folder / "structures.extxyz", frames)
    write_frames(folder / "gas.extxyz", [Frame(molecule) for molecule in ranked.gas])
    picture = io.BytesIO()
    write(landscape(ranked), picture)
    write_whole(folder / "landscape.png", picture.getvalue())
    write_whole(folder / "ranking.json", json.dumps(summary(ranked), indent=2) + "\n")
    write_whole(folder / "ranking.html", page(ranked, rows, picture.getvalue()))
    write_whole(folder / TABLE, table_text(COLUMNS, rows, digits=6))


def table(ranked: Ranked) -> list[dict[str, Any]]:
    """The rows of ``ranking.csv``: candidates in order, then copies, then what was refused."""
    nan = float("nan")
    empty = {name: nan for name in COLUMNS} | dict.fromkeys(
        ("not_told_from", "experimental", "reason"), ""
    )
    factor = ranked.scale.factor if ranked.scale else 1.0
    matched = {id(m.candidate): (n, m.rmsd) for n, m in ranked.experimental.items() if m}
    references = [c.reference for c in ranked.candidates if c.reference is not None]
    rows = []
    for one, status in [(c, "ranked") for c in ranked.candidates] + [
        (c, "copy") for c, _ in ranked.copies
    ]:
        members = one.energies
        rows.append(
            empty
            | {
                "name": one.name,
                "status": status,
                "Z": one.z,
                "density_g_cm3": one.density,
                "lattice_energy_kJ_mol": one.energy,
                "lattice_energy_std_kJ_mol": factor * members.std(ddof=1)
                if len(members) > 1
                else nan,
                "relative_kJ_mol": one.energy - ranked.candidates[0].energy,
                **one.notes,
            }
        )
        if one.reference is not None and references:
            rows[-1]["reference_kJ_mol"] = one.reference - min(references)
        if id(one) in matched:
            rows[-1]["experimental"], rows[-1]["rmsd_A"] = matched[id(one)]
    for i, row in enumerate(rows[: len(ranked.candidates)]):
        doubt = ranked.not_told_from(i)
        row["rank"] = i + 1
        row["relative_std_kJ_mol"] = float(ranked.spread[0, i])
        row["centred_std_kJ_mol"] = float(ranked.doubt[i])
        row["not_told_from"] = "?" if doubt is None else ranges([j + 1 for j in doubt])
    for row, (_, kept) in zip(rows[len(ranked.candidates) :], ranked.copies, strict=True):
        row["reason"] = f"the same as {kept}"
    refused = [
        empty | {"name": r.name, "status": "refused", "reason": r.reason} for r in ranked.refused
    ]
    return rows + refused


def summary(ranked: Ranked) -> dict[str, Any]:
    """The content of ``ranking.json``; undefined numbers are null."""
    found = {
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
    return {k: _finite(v) for k, v in found.items()}


def landscape(ranked: Ranked) -> Figure:
    """Energy above the lowest against density; error bars of the differences to the lowest."""
    figure = Figure(figsize=(7.2, 5.4), layout=ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.08))
    axis = figure.subplots()
    axis.spines[["top", "right"]].set_visible(False)
    density = np.array([c.density for c in ranked.candidates])
    energy, bars = ranked.relative, np.nan_to_num(ranked.spread[0])
    axis.errorbar(
        density, energy, yerr=bars, fmt="none", ecolor=FAINT, elinewidth=0.7, alpha=0.5, zorder=1
    )
    axis.scatter(density, energy, s=28, color=AFTER, alpha=0.8, lw=0, zorder=2)
    for name, match in ranked.experimental.items():
        if match is None:
            continue
        i = ranked.place(match.candidate)
        axis.scatter(density[i], energy[i], s=170, marker="*", color=BEFORE, lw=0, zorder=3)
        axis.annotate(
            stem(name),
            (density[i], energy[i]),
            xytext=(9, -4),
            textcoords="offset points",
            color=BEFORE,
            fontsize=10,
        )
    axis.set_xlabel("density (g/cm³)")
    axis.set_ylabel(f"lattice energy above the lowest (kJ/mol of {formula(str(ranked.unit))})")
    kind = "calibrated" if ranked.scale else "raw"
    if bars.any():
        axis.set_title(
            f"bars: {kind} standard deviation of the difference to the lowest",
            fontsize=9,
            color=FAINT,
            loc="right",
        )
    top = float(energy.max(initial=0.0))
    axis.set_ylim(-0.06 * (top or 1.0), 1.06 * (top or 1.0))
    return figure


def page(ranked: Ranked, rows: Sequence[Mapping[str, Any]], picture: bytes) -> str:
    """``ranking.html``: one page with style and picture inside, that loads nothing."""
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    names = short_names(one.name for one in ranked.candidates)
    environment.filters |= {"short": short, "stem": stem, "name": names.__getitem__}
    source = files("tlpot.csp").joinpath("ranking.html.j2").read_text(encoding="utf-8")
    ordered = [row for row in rows if row["status"] == "ranked"]
    optional = [name for name in OPTIONAL if any(math.isfinite(row[name]) for row in ordered)]
    return environment.from_string(source).render(
        ranked=ranked,
        unit=formula(str(ranked.unit)),
        rows=ordered[:SHOWN_ROWS],
        hidden=max(len(ordered) - SHOWN_ROWS, 0),
        others=[row for row in rows if row["status"] != "ranked"],
        optional=optional,
        columns=COLUMNS,
        summary=summary(ranked),
        picture=base64.b64encode(picture).decode(),
    )


def ranges(numbers: Sequence[int]) -> str:
    """``[2, 3, 4, 7]`` as ``2 to 4 and 7``, which no spreadsheet takes for a date."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][-1] + 1:
            parts[-1] = [parts[-1][0], number]
        else:
            parts.append([number])
    return " and ".join(" to ".join(map(str, part)) for part in parts)


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: _finite(v) for k, v in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
