"""What benchmarks that are sweeps share: a reduced size for minutes, the full one for hours.

Reduced: `mini` on ``datasets/urea``, nothing needed but the repository; results in
``results/reduced``. Full: ANI-2x on the crystals of ``$TLPOT_DATA/x23``; results in ``results``.
Both keep finished points under ``runs`` and can be stopped and started again.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from common import RESULTS, machine, machine_lines, write_results
from rich.console import Console

from tlpot.ablation.run import ablate
from tlpot.ablation.sweep import Outcome, parse_sweep
from tlpot.ablation.table import draw, markdown, tidy
from tlpot.console import sweep_bar

HERE = Path(__file__).parent
SEEDS = {"reduced": [0, 1], "full": [0, 1, 2]}
KEPT = ("crystals",)
"""Sweeps whose full size keeps its models (55 MB a point): other benchmarks judge them too."""


def reduced_base(**training: Any) -> dict[str, Any]:
    """`mini` on the bundled urea frames; its small networks take larger steps than ANI-2x."""
    return {
        "data": {"files": str(HERE.parent / "datasets" / "urea" / "urea.extxyz")},
        "model": {"base": "mini"},
        "training": {"learning_rate": 1e-3, "epochs": 25, **training},
    }


def full_base(crystal: str = "21_urea", **training: Any) -> dict[str, Any]:
    """ANI-2x on one crystal of X23 (VASP, vdW-DF2)."""
    return {"data": {"files": x23(crystal)}, "model": {"base": "ani2x"}, "training": training}


def x23(crystal: str) -> str:
    return f"{os.environ.get('TLPOT_DATA', '$TLPOT_DATA')}/x23/{crystal}/train.traj"


def study(
    name: str,
    question: str,
    reduced: Mapping[str, Any],
    full: Mapping[str, Any],
    says: Callable[[Sequence[Outcome]], Sequence[str]] = lambda outcomes: [],
) -> None:
    """Run one size of a sweep and write ``<name>.json``, ``.md`` and ``.png``.

    Parameters
    ----------
    reduced, full
        The two sweeps, without output.
    says
        Further lines of Markdown, from the outcomes.
    """
    parser = argparse.ArgumentParser(description=question)
    parser.add_argument("--full", action="store_true", help="hours, resumable; else minutes")
    parser.add_argument("--seeds", nargs="+", type=int, help="some of the seeds")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--scheduler", default="local", help="or the address of a Dask scheduler")
    given = parser.parse_args()
    size = "full" if given.full else "reduced"
    about = machine()
    sweep = parse_sweep(
        {
            "seeds": given.seeds or SEEDS[size],
            **(full if given.full else reduced),
            "output": str(Path("runs") / name / size),
            "keep_models": given.full and name in KEPT,
            "workers": given.workers,
            "scheduler": given.scheduler,
        }
    )
    with sweep_bar(Console(stderr=True)) as on_point:
        outcomes = ablate(sweep, on_point)
    seeds = ", ".join(map(str, sweep.seeds))
    lines = [f"# {question}", "", f"- {size} size; {_data(outcomes)}; seeds {seeds}"]
    lines += [*machine_lines(about), "", markdown(outcomes), *_untouched(outcomes)]
    lines += says(outcomes)
    folder = RESULTS if given.full else RESULTS / "reduced"
    data = {"machine": about, "size": size, "points": [tidy(o) for o in outcomes]}
    write_results(name, data, "\n".join(lines), folder)
    draw(outcomes, next(iter(sweep.axes))).savefig(folder / f"{name}.png", dpi=150)


def _data(outcomes: Sequence[Outcome]) -> str:
    """Base, files and frames of the sweep, from its manifests."""
    good = [o for o in outcomes if o.manifest is not None]
    bases = sorted({o.point.config.model.base for o in good})
    files = sorted({"/".join(Path(f["path"]).parts[-2:]) for o in good for f in _files(o)})
    counts = sorted({len(o.manifest["split"]["test"]) for o in good if o.manifest})
    return f"{', '.join(bases)} on {', '.join(files)}; {' or '.join(map(str, counts))} test frames"


def _files(outcome: Outcome) -> list[dict[str, Any]]:
    assert outcome.manifest is not None
    return outcome.manifest["data"]["files"]


def _untouched(outcomes: Sequence[Outcome]) -> list[str]:
    """The base itself on the same test frames, reference fitted: one row a data set and seed."""
    found = {}
    for o in outcomes:
        if o.metrics is not None and o.point.config.model.init == "pretrained":
            file = "/".join(Path(_files(o)[0]["path"]).parts[-2:])
            found.setdefault((file, o.point.seed), o.metrics["baseline"]["test"])
    lines = ["", "Untouched base, energy reference fitted:", ""]
    for (file, seed), errors in sorted(found.items()):
        lines.append(
            f"- {file}, seed {seed}: {errors['energy_rmse_meV_per_atom']:.2f} meV/atom, "
            f"{errors['force_rmse_meV_per_A_component']:.1f} meV/Å per component"
        )
    return lines
