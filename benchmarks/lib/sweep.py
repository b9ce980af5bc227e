"""What benchmarks that are sweeps share: a reduced size for minutes, the full one for hours.

Reduced: `mini` on ``datasets/urea``, nothing needed but the repository; results in
``results/reduced``. Full: ANI-2x on the crystals of ``$TLPOT_DATA/x23``; results in ``results``.
Both keep finished points under ``runs`` and can be stopped and started again, also on another
machine: a point that the committed results hold, of the same settings, is not run again.
"""

from __future__ import annotations

import argparse
import copy
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from rich.console import Console

from benchmarks.lib.machine import RESULTS, machine, machine_lines, write_results
from tlpot.ablation.run import ablate, finished
from tlpot.ablation.sweep import Outcome, Point, name_of, parse_sweep, points, settings
from tlpot.ablation.table import draw, markdown, tidy
from tlpot.config import parse_config
from tlpot.console import sweep_bar
from tlpot.potential import Potential, load

HERE = Path(__file__).parents[1]
SEEDS = {"reduced": [0, 1], "full": [0, 1, 2]}
SHOWN = 3
"""Data files that a page names one by one."""
FEW = 2
"""Members that ablations train: what a setting changes shows in a quarter of the eight's time."""
KEPT = ("crystals",)
"""Sweeps whose full size keeps its models (132 MB a point): other benchmarks judge them too."""


def reduced_base(**training: Any) -> dict[str, Any]:
    """`mini` on the bundled urea frames; its small networks take larger steps than ANI-2x."""
    return {
        "data": {"files": str(HERE.parent / "datasets" / "urea" / "urea.extxyz")},
        "model": {"base": "mini"},
        "training": {"learning_rate": 1e-3, "epochs": 15, **training},
    }


def full_base(crystal: str = "21_urea", **training: Any) -> dict[str, Any]:
    """ANI-2x on one crystal of X23 (VASP, vdW-DF2)."""
    return {"data": {"files": x23(crystal)}, "model": {"base": "ani2x"}, "training": training}


def x23(crystal: str) -> str:
    return f"$TLPOT_DATA/x23/{crystal}/train.traj"


def with_members(base: str, members: int, folder: Path) -> str:
    """A model file, ``bases/<base>-<members>``, with the first members of a base's ensemble."""
    path = folder / "bases" / f"{base}-{members}.safetensors"
    if not path.exists():
        whole = load(base)
        header = whole.backbone.describe()
        header["architecture"] = {**header["architecture"], "members": members}
        backbone = type(whole.backbone).restore(header).requires_grad_(False)
        kept = {n: p[:members] for n, p in whole.backbone.named_parameters()}
        backbone.load_state_dict(kept, strict=False)
        Potential(backbone, whole.reference, whole.metadata).save(path)
    return str(path)


def study(
    name: str,
    question: str,
    reduced: Mapping[str, Any],
    full: Mapping[str, Any],
    says: Callable[[Sequence[Outcome]], Sequence[str]] = lambda outcomes: [],
    picture: Callable[[Sequence[Outcome]], Figure] | None = None,
    adopts: bool = True,
    members: int | None = None,
) -> None:
    """Run one size of a sweep and write ``<name>.json``, ``.md`` and ``.png``.

    With other ``--members`` they are called ``<name>_<members>_members``.

    Parameters
    ----------
    reduced, full
        The two sweeps, without output.
    members
        Of the base's ensemble, that the full size trains; left out: all.
    says
        Further lines of Markdown, from the outcomes.
    picture
        Draws the outcomes; left out: errors along the first axis.
    adopts
        Whether points of the committed results count; they know no errors by element and size,
        and nothing of a base that was trained anew.
    """
    parser = argparse.ArgumentParser(description=question)
    parser.add_argument("--full", action="store_true", help="hours, resumable; else minutes")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--scheduler", default="local", help="or the address of a Dask scheduler")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--seeds", nargs="+", type=int, help="of split and training")
    parser.add_argument("--epochs", type=int, help="left out: those of the recipe")
    several = members or "all"
    parser.add_argument("--members", type=int, help=f"of the base's; left out: {several} if --full")
    parser.add_argument("--train-fraction", type=float, help="of the training frames")
    parser.add_argument("--have-only", action="store_true", help="run nothing, show what there is")
    given = parser.parse_args()
    size = "full" if given.full else "reduced"
    about = machine()
    values = dict(full if given.full else reduced)
    base = values["base"] = copy.deepcopy(values["base"])
    if given.epochs:
        base["training"]["epochs"] = given.epochs
    if given.train_fraction:
        base["data"]["train_fraction"] = given.train_fraction
    few = given.members or (members if given.full else None)
    if few:
        base["model"]["base"] = with_members(base["model"]["base"], few, given.runs)
    sweep = parse_sweep(
        {
            **values,
            "seeds": given.seeds or values.get("seeds", SEEDS[size]),
            "output": str(given.runs / name / size),
            "keep_models": given.full and name in KEPT,
            "workers": given.workers,
            "scheduler": given.scheduler,
        }
    )
    if given.members and given.members != members:
        name = f"{name}_{given.members}_members"
    folder = RESULTS if given.full else RESULTS / "reduced"
    committed = rows(folder / f"{name}.json") if adopts else {}
    wanted = points(sweep)
    known = [restored(p, committed[p.name]) for p in wanted if p.name in committed]
    if given.have_only:
        here = finished(sweep)
    else:
        with sweep_bar(Console(stderr=True)) as on_point:
            here = ablate(sweep, on_point, known)
    by_name = {o.point.name: o for o in [*known, *here]}
    outcomes = [by_name[p.name] for p in wanted if p.name in by_name]
    seeds = ", ".join(map(str, sweep.seeds))
    lines = [f"# {question}", "", f"- {size} size; {_data(outcomes)}; seeds {seeds}"]
    if len(outcomes) < len(wanted):
        lines.append(f"- so far {len(outcomes)} of {len(wanted)} points; the others have not run")
    earlier = sum(name in committed for name in by_name)
    if earlier:
        lines.append(f"- {earlier} points are of earlier runs with the same settings")
    if few:
        lines.append(f"- of the base's ensemble only the first {few} members")
    lines += [*machine_lines(about), "", markdown(outcomes), *_untouched(outcomes)]
    lines += says(outcomes)
    now = {"commit": about["commit"], "date": about["date"]}
    found = [
        committed.get(o.point.name) or {**tidy(o), "config": settings(o.point.config), **now}
        for o in outcomes
    ]
    data = {"machine": about, "size": size, "points": found}
    write_results(name, data, "\n".join(lines), folder)
    figure = picture(outcomes) if picture else draw(outcomes, next(iter(sweep.axes)))
    figure.savefig(folder / f"{name}.png", dpi=150)


def rows(path: Path) -> dict[str, dict[str, Any]]:
    """Finished points of a committed page, by the name that their settings have today."""
    if not path.exists():
        return {}
    found = json.loads(path.read_text())["points"]
    done = [row for row in found if row["status"] == "done" and "config" in row]
    return {name_of(parse_config(json.loads(row["config"]))): row for row in done}


def restored(point: Point, row: Mapping[str, Any]) -> Outcome:
    """What `tidy` made a row of, as far as the row knows it."""
    metrics: dict[str, Any] = {
        model: {
            "test": {k.removeprefix(f"{model}_"): v for k, v in row.items() if k.startswith(model)}
        }
        for model in ("baseline", "finetuned")
    }
    manifest = {
        "split": {part: range(row[f"n_{part}"]) for part in ("train", "validation", "test")},
        "data": {"files": [{"path": path} for path in point.config.data.files]},
        "seconds": row["seconds"],
        "best_epoch": row["best_epoch"],
    }
    return Outcome(point, metrics, manifest)


def _data(outcomes: Sequence[Outcome]) -> str:
    """Base, files and frames of the sweep, from its manifests."""
    good = [o for o in outcomes if o.manifest is not None]
    bases = sorted({Path(o.point.config.model.base).stem for o in good})
    files = sorted({"/".join(Path(f["path"]).parts[-2:]) for o in good for f in _files(o)})
    epochs = sorted({o.point.config.training.epochs for o in good})
    parts = [
        " or ".join(map(str, sorted({len(o.manifest["split"][part]) for o in good if o.manifest})))
        for part in ("train", "test")
    ]
    named = ", ".join(files[:SHOWN])
    if len(files) > SHOWN:
        named += f" and {len(files) - SHOWN} more files"
    return (
        f"{', '.join(bases)} on {named}; {parts[0]} training and {parts[1]} test frames; "
        f"{' or '.join(map(str, epochs))} epochs"
    )


def _files(outcome: Outcome) -> list[dict[str, Any]]:
    assert outcome.manifest is not None
    return outcome.manifest["data"]["files"]


def _untouched(outcomes: Sequence[Outcome]) -> list[str]:
    """The base itself on the same test frames, reference fitted: one row a data set and seed."""
    found = {}
    for o in outcomes:
        if o.metrics is not None and o.point.config.model.init == "pretrained":
            first, *others = _files(o)
            file = "/".join(Path(first["path"]).parts[-2:])
            file += f" and {len(others)} more files" if others else ""
            found.setdefault((file, o.point.seed), o.metrics["baseline"]["test"])
    lines = ["", "Untouched base, energy reference fitted:", ""]
    for (file, seed), errors in sorted(found.items()):
        lines.append(
            f"- {file}, seed {seed}: {errors['energy_rmse_meV_per_atom']:.2f} meV/atom, "
            f"{errors['force_rmse_meV_per_A_component']:.1f} meV/Å per component"
        )
    return lines
