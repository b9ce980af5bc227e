"""Studies that are sweeps over settings: a reduced size for minutes, the full one for hours.

Reduced: `mini` on ``datasets/urea``, nothing needed but the repository. Full: ANI-2x on the
crystals of ``$TLPOT_DATA/x23``. Both keep finished points under ``runs`` and can be stopped and
started again; the full one also on another machine: a point that the committed results hold, of the
same settings, is not run again.
"""

from __future__ import annotations

import argparse
import copy
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from rich.console import Console

from benchmarks.lib.machine import machine_lines
from benchmarks.lib.page import ENERGY, FORCE
from benchmarks.lib.runs import with_members
from benchmarks.lib.study import Results, Study
from tlpot import TlpotError
from tlpot.ablation.run import ablate, finished
from tlpot.ablation.sweep import Outcome, Point, name_of, parse_sweep, points, settings
from tlpot.ablation.table import draw, markdown, tidy
from tlpot.cli.training import sweep_display
from tlpot.config.run import parse_config

SEEDS = {"reduced": [0, 1], "full": [0, 1, 2]}
SHOWN = 3
"""Data files that a page names one by one."""
GONE = {"training": ("keep_gb",)}
"""Settings of earlier versions that changed no result."""


@dataclass(frozen=True)
class Question:
    """What a sweep asks.

    Attributes
    ----------
    reduced, full
        The two sweeps, without output.
    members
        Of the base's ensemble, that the full size trains; None: all.
    keep_models
        Of the full size (132 MB a point), for studies that judge them too.
    remarks
        Further lines of Markdown, from the outcomes.
    """

    title: str
    reduced: Mapping[str, Any]
    full: Mapping[str, Any]
    members: int | None = None
    keep_models: bool = False
    remarks: Callable[[Sequence[Outcome]], Sequence[str]] = lambda outcomes: []


class SweepStudy(Study):
    """One or several sweeps with one command line, by the names of their results."""

    def __init__(self, script: str, document: str | None, questions: dict[str, Question]) -> None:
        super().__init__(script, document, self._page, self._draw, tuple(questions), full=True)
        self.questions = questions
        add = self.options.add_argument
        add("--only", nargs="+", choices=self.names, default=self.names, help="of the sweeps")
        add("--seeds", nargs="+", type=int, help="of split and training; two, with --full three")
        add("--workers", type=int, default=1, help="points that run at once")
        add("--scheduler", default="local", help="or the address of a Dask scheduler")
        add("--epochs", type=int, help="left out: those of the recipe")
        add("--members", type=int, help="of the base's; results get a name of their own")
        add("--train-fraction", type=float, help="of the training frames")
        add("--have-only", action="store_true", help="run nothing, show what there is")

    def run(self, given: argparse.Namespace) -> Iterator[Results]:
        """`main`'s measurement."""
        for name in given.only:
            given.name = name
            yield self._sweep(name, self.questions[name], given)

    def _sweep(self, name: str, question: Question, given: argparse.Namespace) -> Results:
        size = "full" if given.full else "reduced"
        values = dict(question.full if given.full else question.reduced)
        base = values["base"] = copy.deepcopy(values["base"])
        if given.epochs:
            base["training"]["epochs"] = given.epochs
        if given.train_fraction:
            base["data"]["train_fraction"] = given.train_fraction
        members = given.members or (question.members if given.full else None)
        base["model"]["base"] = with_members(base["model"]["base"], members, given.runs)
        sweep = parse_sweep(
            values
            | {
                "seeds": given.seeds or SEEDS[size],
                "output": str(given.runs / name / size),
                "keep_models": given.full and question.keep_models,
                "workers": given.workers,
                "scheduler": given.scheduler,
            }
        )
        if given.members and given.members != question.members:
            given.name = f"{name}_{given.members}_members"
        wanted = points(sweep)
        rows = by_settings(self.committed(given)) if given.full else {}
        committed = [outcome(rows[p.name], p) for p in wanted if p.name in rows]
        if given.have_only:
            here = finished(sweep)
        else:
            with sweep_display(Console(stderr=True)) as (on_point, on_epoch):
                here = ablate(sweep, on_point, committed, on_epoch)
        by_name = {o.point.name: o for o in [*committed, *here]}
        now = {key: given.machine[key] for key in ("commit", "date")}
        done = [
            relabelled(rows[p.name], p)
            if p.name in rows
            else {**tidy(by_name[p.name]), "config": settings(p.config), **now}
            for p in wanted
            if p.name in by_name
        ]
        if not done:
            raise TlpotError(f"no point of {name} ({size}) has finished; nothing to show")
        return {"size": size, "points": done, "wanted": len(wanted)}

    def _question(self, results: Results) -> Question:
        return self.questions[re.sub(r"_\d+_members$", "", results["name"])]

    def _page(self, results: Results) -> str:
        rows, about, question = results["points"], results["machine"], self._question(results)
        outcomes = [outcome(row) for row in rows]
        seeds = sorted({row["seed"] for row in rows})
        lines = [f"# {question.title}", "", f"- {results['size']} size; {_data(rows)}; seeds "]
        lines[-1] += ", ".join(map(str, seeds))
        axes = [{o.point.labels[axis] for o in outcomes} for axis in outcomes[0].point.labels]
        wanted = results.get("wanted", len(seeds) * prod(map(len, axes)))
        if len(rows) < wanted:
            lines.append(f"- so far {len(rows)} of {wanted} points; the others have not run")
        now = (about["commit"], about["date"])
        if earlier := sum((row["commit"], row["date"]) != now for row in rows):
            lines.append(f"- {earlier} points are of earlier runs with the same settings")
        if few := re.search(r"-(\d+)$", Path(_config(rows[0])["model"]["base"]).stem):
            lines.append(f"- of the base's ensemble only the first {few[1]} members")
        lines += [*machine_lines(about), "", markdown(outcomes), *_untouched(rows)]
        return "\n".join([*lines, *question.remarks(outcomes)])

    def _draw(self, results: Results) -> Figure:
        outcomes = [outcome(row) for row in results["points"]]
        return draw(outcomes, next(iter(outcomes[0].point.labels)))


def by_settings(results: Results) -> dict[str, dict[str, Any]]:
    """Finished points of committed results, by the name that their settings have today."""
    named = {}
    for row in results.get("points", ()):
        if row["status"] == "done":
            try:
                named[name_of(parse_config(_config(row)))] = row
            except TlpotError:  # it had settings that are gone
                continue
    return named


def relabelled(row: Mapping[str, Any], point: Point) -> dict[str, Any]:
    """A row under the labels that its settings have in the sweep of today."""
    keys = list(row)
    measured = {key: row[key] for key in keys[keys.index("seed") :]}
    return {"point": point.name, **point.labels, **measured}


def outcome(row: Mapping[str, Any], point: Point | None = None) -> Outcome:
    """What `tidy` made a row of, as far as the row knows it."""
    keys = list(row)
    labels = {axis: row[axis] for axis in keys[1 : keys.index("seed")]}
    point = point or Point(labels, row["seed"], parse_config(_only_data(row)), row["point"])
    if row["status"] != "done":
        return Outcome(point, reason=row["reason"])
    metrics: dict[str, Any] = {
        model: {
            "test": {k.removeprefix(f"{model}_"): v for k, v in row.items() if k.startswith(model)}
        }
        for model in ("baseline", "finetuned")
    }
    manifest = {
        "split": {part: range(row[f"n_{part}"]) for part in ("train", "validation", "test")},
        "seconds": row["seconds"],
        "best_epoch": row["best_epoch"],
    }
    return Outcome(point, metrics, manifest)


def _only_data(row: Mapping[str, Any]) -> dict[str, Any]:
    """Enough of a config to name a point; earlier versions had settings that may be gone."""
    return {"data": {"files": _config(row)["data"]["files"]}}


def _config(row: Mapping[str, Any]) -> dict[str, Any]:
    config = json.loads(row["config"])
    for section, names in GONE.items():
        for name in names:
            config[section].pop(name, None)
    return config


def _files(row: Mapping[str, Any]) -> list[str]:
    """Folder and name of each data file."""
    files = _config(row)["data"]["files"]
    return ["/".join(Path(f.partition("@")[0]).parts[-2:]) for f in files]


def _data(rows: Sequence[Mapping[str, Any]]) -> str:
    """Base, files and frames of a sweep's finished points."""
    good = [row for row in rows if row["status"] == "done"]
    configs = [_config(row) for row in good]
    files = sorted({file for row in good for file in _files(row)})
    named = ", ".join(files[:SHOWN])
    if len(files) > SHOWN:
        named += f" and {len(files) - SHOWN} more files"

    def choices(values: Sequence[int]) -> str:
        return " or ".join(map(str, sorted(set(values))))

    bases = ", ".join(sorted({Path(c["model"]["base"]).stem for c in configs}))
    frames = [choices([row[f"n_{part}"] for row in good]) for part in ("train", "test")]
    epochs = choices([c["training"]["epochs"] for c in configs])
    return f"{bases} on {named}; {frames[0]} training and {frames[1]} test frames; {epochs} epochs"


def _untouched(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The base itself on the same test frames, reference fitted: one row a data set and seed."""
    first: dict[tuple[str, int], Mapping[str, Any]] = {}
    for row in rows:
        if row["status"] == "done" and _config(row)["model"]["init"] == "pretrained":
            file, *others = _files(row)
            file += f" and {len(others)} more files" if others else ""
            first.setdefault((file, row["seed"]), row)
    return ["", "Untouched base, energy reference fitted:", ""] + [
        f"- {file}, seed {seed}: {row[f'baseline_{ENERGY}']:.2f} meV/atom, "
        f"{row[f'baseline_{FORCE}']:.1f} meV/Å per component"
        for (file, seed), row in sorted(first.items())
    ]
