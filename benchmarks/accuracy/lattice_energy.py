"""What does a fine-tuned model say of lattice energies, against its own functional and DMC?

E_lattice = E_solid/n - E_gas at the geometries of VASP's single points
``$TLPOT_DATA/x23/<crystal>/OUTCAR.{solid,gas}.vdW-DF2``, kJ/mol per molecule. Models: ANI-2x
untouched, and fine-tuned on the crystal's ``train.traj`` (vdW-DF2) with tlpot's default recipe
and the thesis preset: the points of ``crystals.py --full``, taken from finished runs wherever
they are under ``--runs``, else trained (``--have-only``: left out, and said). The energy
reference cancels in a lattice energy, so nothing is fitted to it.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import argparse
import csv
import json
import os
from collections import defaultdict
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np
from ase.units import kJ, mol
from matplotlib.figure import Figure

from benchmarks.lib.machine import RESULTS, machine, machine_lines, table, write_results
from benchmarks.lib.runs import Models, crystal_points
from benchmarks.lib.sweep import SEEDS
from tlpot import load, read_frames
from tlpot.errors import TlpotError
from tlpot.frames import Frame, neighbour_pairs
from tlpot.potential import Potential

RECIPES = ("default", "thesis")
AIM = 1.0
"""kJ/mol of mean absolute error against vdW-DF2 that was asked for."""
SAME = 1e-3
"""Å within which all distances of two structures agree if they are the same."""


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--crystals", nargs="+", default=[], help="of X23; left out: all")
    parser.add_argument("--seeds", nargs="+", type=int, default=SEEDS["full"])
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where models are")
    parser.add_argument("--have-only", action="store_true", help="train nothing")
    parser.add_argument(
        "--adopt",
        nargs="+",
        default=[],
        choices=RECIPES,
        help="recipes, unchanged since, whose committed figures count where no model is here",
    )
    given = parser.parse_args()
    points = crystal_points(given.crystals, given.seeds)
    models = Models(given.runs, train=not given.have_only)
    results: dict[str, Any] = {"machine": machine(), "crystals": {}, "missing": []}
    base, dmc = load("ani2x"), quantum_monte_carlo()
    committed = {}
    if given.adopt:
        committed = json.loads((RESULTS / "lattice_energy.json").read_text())["crystals"]
    for point in points:
        crystal, recipe = point.labels["crystal"], point.labels["recipe"]
        folder, seed = models.folder(point.config), str(point.seed)
        earlier = committed.get(crystal, {"models": {}})["models"].get(recipe, {}).get(seed)
        if folder is None and (earlier is None or recipe not in given.adopt):
            results["missing"].append(f"{crystal} {recipe} {seed}")
            continue
        if crystal not in results["crystals"]:
            results["crystals"][crystal] = reference(crystal, base) | {"DMC": dmc[crystal]}
        solid, gas = single_points(crystal)
        found = results["crystals"][crystal]["models"].setdefault(recipe, {})
        found[seed] = lattice_energy(load(folder), solid, gas) if folder else earlier
        print(crystal, recipe, seed, f"{found[seed]:.2f} kJ/mol", flush=True)
    if not results["crystals"]:
        raise TlpotError(f"no finished model of crystals.py --full under {given.runs}")
    summarise(results)
    write_results("lattice_energy", results, page(results))
    draw(results["crystals"]).savefig(RESULTS / "lattice_energy.png", dpi=150)


def reference(crystal: str, base: Potential) -> dict[str, Any]:
    """What is known of a crystal before any training."""
    solid, gas = single_points(crystal)
    known = read_frames(str(_folder() / crystal / "train.traj"))
    energies = [frame.energy for frame in (solid, gas)]
    return {
        "molecules": len(solid) // len(gas),
        "atoms": len(solid),
        "vdW-DF2": per_molecule(*energies, solid, gas),
        "seen": [f.kind for f in (solid, gas) if any(alike(f, other) for other in known)],
        "models": {"base": {"": lattice_energy(base, solid, gas)}},
    }


def lattice_energy(potential: Potential, solid: Frame, gas: Frame) -> float:
    """Of a potential at given geometries, kJ/mol."""
    whole, one = potential.predict([solid, gas])
    return per_molecule(whole.energy, one.energy, solid, gas)


def per_molecule(whole: float, one: float, solid: Frame, gas: Frame) -> float:
    """E_solid/n - E_gas, eV to kJ/mol."""
    return (whole * len(gas) / len(solid) - one) / (kJ / mol)


def single_points(crystal: str) -> tuple[Frame, Frame]:
    """The crystal and its molecule."""
    paths = (_folder() / crystal / f"OUTCAR.{kind}.vdW-DF2" for kind in ("solid", "gas"))
    solid, gas = (read_frames(str(path))[-1] for path in paths)
    return solid, gas


def quantum_monte_carlo() -> dict[str, list[float]]:
    """Diffusion Monte Carlo and its error bar for each crystal, kJ/mol."""
    with open(_folder() / "lattice_energies.csv") as file:
        rows = list(csv.DictReader(file))
    return {row["system"]: [float(row["DMC"]), float(row["DMC_err"])] for row in rows}


def alike(one: Frame, other: Frame) -> bool:
    """Whether all distances within 5 Å are the same."""
    if one.formula != other.formula:
        return False
    a, b = (np.sort(np.linalg.norm(neighbour_pairs(f.atoms, 5.0)[1], axis=1)) for f in (one, other))
    return len(a) == len(b) and bool(np.abs(a - b).max() < SAME)


def _folder() -> Path:
    return Path(os.environ["TLPOT_DATA"]) / "x23"


def summarise(results: dict[str, Any]) -> None:
    """Add the mean absolute error of each model against vdW-DF2 and DMC.

    Over the crystals that have every model; a crystal's error is the mean over seeds of the
    absolute error.
    """
    errors: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    known = results["crystals"].values()
    names = {name for entry in known for name in entry["models"]}
    for entry in (entry for entry in known if set(entry["models"]) == names):
        dmc = entry["DMC"][0]
        errors["vdW-DF2 itself"]["DMC"].append(abs(entry["vdW-DF2"] - dmc))
        for name, by_seed in entry["models"].items():
            for against, true in (("vdW-DF2", entry["vdW-DF2"]), ("DMC", dmc)):
                errors[name][against].append(fmean(abs(e - true) for e in by_seed.values()))
    results["MAE"] = {
        name: {"crystals": len(found["DMC"])} | {k: fmean(v) for k, v in found.items()}
        for name, found in errors.items()
    }


def page(results: dict[str, Any]) -> str:
    """The results as Markdown."""
    rows = []
    for crystal, entry in results["crystals"].items():
        row = [crystal, entry["atoms"], f"{entry['vdW-DF2']:.2f}"]
        row += [_errors(entry, name) for name in ("base", *reversed(RECIPES))]
        dmc, bar = entry["DMC"]
        row += [f"{dmc:.1f} ± {bar:.1f}", f"{entry['vdW-DF2'] - dmc:+.1f}"]
        values = list(entry["models"].get("default", {}).values())
        rows.append([*row, f"{fmean(values) - dmc:+.1f}" if values else "–"])
    header = ["crystal", "atoms", "vdW-DF2", "base", "thesis", "default", "DMC"]
    header += ["vdW-DF2 − DMC", "default − DMC"]
    maes = [
        [name, m["crystals"], f"{m['vdW-DF2']:.2f}" if "vdW-DF2" in m else "–", f"{m['DMC']:.2f}"]
        for name, m in results["MAE"].items()
    ]
    seen = [f"{c} ({', '.join(e['seen'])})" for c, e in results["crystals"].items() if e["seen"]]
    lines = [
        "# Lattice energies of X23 crystals",
        "",
        "E_solid/n − E_gas, kJ/mol per molecule, at the geometries of VASP's vdW-DF2 single "
        "points. *base*, *thesis*, *default*: error against vdW-DF2 of ANI-2x untouched, and "
        "fine-tuned on the crystal's vdW-DF2 frames with the thesis preset and with tlpot's "
        "default recipe (mean ± standard deviation over seeds, number of seeds; "
        "20 % of the frames held out as everywhere else).",
        "",
        *table(header, rows),
        "",
        "Mean absolute error over the crystals that have every model (of a crystal: the mean over "
        "seeds):",
        "",
        *table(["model", "crystals", "against vdW-DF2", "against DMC"], maes),
        "",
        verdict(results["MAE"].get("default")),
        "",
        "A model of vdW-DF2 cannot be closer to DMC than vdW-DF2 itself but by chance. ANI-2x "
        "knows molecules and clusters, at another level (ωB97X/6-31G*); its column says where "
        "fine-tuning starts.",
        "",
        "Geometries that are also in the crystal's train.traj (before the split), by all distances "
        f"within 5 Å: {', '.join(seen) or 'none'}.",
        "",
    ]
    if results["missing"]:
        some = ", ".join(sorted({name.split()[0] for name in results["missing"]}))
        count = len(results["missing"])
        lines += [f"Left out, not trained to the end: {count} models (of {some}).", ""]
    return "\n".join([*lines, *machine_lines(results["machine"])])


def verdict(default: dict[str, float] | None) -> str:
    if default is None:
        return "No model of the default recipe yet."
    mae, count = default["vdW-DF2"], int(default["crystals"])
    said = "met" if mae <= AIM else f"missed by {mae - AIM:.2f}"
    return f"Asked for: at most {AIM:g} kJ/mol against vdW-DF2; {said} on {count} crystals."


def _errors(entry: dict[str, Any], model: str) -> str:
    errors = [e - entry["vdW-DF2"] for e in entry["models"].get(model, {}).values()]
    if not errors:
        return "–"
    if model == "base":
        return f"{errors[0]:+.1f}"
    spread = f" ± {stdev(errors):.2f}" if len(errors) > 1 else ""
    return f"{fmean(errors):+.2f}{spread} ({len(errors)})"


def draw(crystals: dict[str, Any]) -> Figure:
    """Errors against vdW-DF2, a line a crystal."""
    figure = Figure(figsize=(7, 1.4 + 0.27 * len(crystals)), layout="constrained")
    axis = figure.subplots()
    places = range(len(crystals))
    for recipe, marker, colour in (("thesis", "s", "tab:orange"), ("default", "o", "tab:blue")):
        drawn = [
            (e - entry["vdW-DF2"], place)
            for place, entry in zip(places, crystals.values(), strict=True)
            for e in entry["models"].get(recipe, {}).values()
        ]
        if drawn:
            axis.plot(*zip(*drawn, strict=True), marker, color=colour, alpha=0.8, label=recipe)
    axis.axvspan(-AIM, AIM, color="0.9", zorder=0, label=f"± {AIM:g} kJ/mol")
    axis.axvline(0.0, color="0.5", lw=0.8)
    axis.set_yticks(places, crystals)
    axis.invert_yaxis()
    axis.set_xlabel("lattice energy, model − vdW-DF2, kJ/mol")
    axis.legend(fontsize="small")
    return figure


if __name__ == "__main__":
    main()
