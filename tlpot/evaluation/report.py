"""The verdict for people: one self-contained HTML page, and a table for the terminal."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure

from tlpot.config.bases import BASES
from tlpot.config.run import Config
from tlpot.data.fingerprints import base_lines
from tlpot.evaluation.metrics import PARTS, Metrics
from tlpot.evaluation.panels import short
from tlpot.evaluation.plots import History, png
from tlpot.files import write_whole
from tlpot.structure.units import KJ_PER_MOL, MEV

ROWS = (
    ("energy RMSE", "meV/atom", "energy_rmse_meV_per_atom"),
    ("energy RMSE, centred", "meV/atom", "energy_rmse_centered_meV_per_atom"),
    ("energy MAE", "meV/atom", "energy_mae_meV_per_atom"),
    ("energy MAE, centred", "meV/atom", "energy_mae_centered_meV_per_atom"),
    ("force RMSE, per component", "meV/Å", "force_rmse_meV_per_A_component"),
    ("force RMSE, per vector", "meV/Å", "force_rmse_meV_per_A_vector"),
    ("force MAE, per component", "meV/Å", "force_mae_meV_per_A_component"),
    ("force MAE, per vector", "meV/Å", "force_mae_meV_per_A_vector"),
    ("stress RMSE", "meV/Å³", "stress_rmse_meV_per_A3"),
)
"""The errors that tables show: name, unit, key in `metrics`."""
MAIN_ROWS = (ROWS[0], ROWS[1], ROWS[4], ROWS[5])
FRAME_ROWS = (("energy error", "meV/atom", "energy_error_meV_per_atom"), ROWS[4])

CARDS = (
    ("Energy RMSE", "energy_rmse_meV_per_atom", "meV/atom"),
    ("Energy RMSE, centred", "energy_rmse_centered_meV_per_atom", "meV/atom"),
    ("Force RMSE per component", "force_rmse_meV_per_A_component", "meV/Å"),
    ("Force RMSE per vector", "force_rmse_meV_per_A_vector", "meV/Å"),
)
"""The headline, as far as it is known."""

BREAKDOWNS = (
    ("by_system", "By system", "composition"),
    ("by_kind", "Crystals and molecules", "kind"),
    ("by_element", "By element", "element"),
    ("by_size", "By frame size", "atoms"),
    ("by_labels", "By kind of labels", "labels"),
)

JUDGED = (
    ("energy RMSE", "energy_rmse_meV_per_atom"),
    ("force RMSE", "force_rmse_meV_per_A_vector"),
)
MODELS = {"baseline": "before", "finetuned": "after"}

POLYMORPH_GAP = 2.0
"""kJ/mol: more than half of 508 polymorphic molecules' pairs lie closer than this
(Nyman and Day, CrystEngComm 2015, 17, 5154)."""


def write_report(
    path: str | Path,
    *,
    config: Config,
    metrics: Mapping[str, Any],
    manifest: Mapping[str, Any],
    history: History,
    figures: Mapping[str, Figure],
    card: Iterable[tuple[str, str]] = (),
) -> None:
    """Write ``report.html``: one page with style and pictures inside, that loads nothing.

    Parameters
    ----------
    path
        File to write.
    config
        The resolved config of the run.
    metrics
        The content of ``metrics.json``: `Judgement.metrics`, and what of the data the base has
        seen (``seen_by_base``).
    manifest
        The content of ``manifest.json``.
    history
        The columns of ``history.csv``, as `read_history` gives them.
    figures
        As `figures` gives them; those that are missing are left out.
    card
        As `tlpot.model.card.card_rows` gives it.
    """
    part = judged_part(metrics)
    before, after = (metrics[model][part] for model in MODELS)
    template = environment("tlpot.evaluation").get_template("report.html.j2")
    page = template.render(
        title=_title(config, manifest, after),
        part=part,
        before=before,
        after=after,
        lattice=lattice_error(after),
        gap=POLYMORPH_GAP,
        remarks=list(_remarks(metrics, part, history)),
        cards=[card for card in CARDS if after[card[1]] is not None],
        kinds={
            kind: entry
            for kind, entry in after.get("by_kind", {}).items()
            if entry["energy_rmse_meV_per_atom"] is not None
        },
        offsets=after.get("by_offset", {}),
        worst=rows_of(after.get("by_frame", ()), FRAME_ROWS),
        metrics=metrics,
        parts=[name for name in PARTS if metrics["finetuned"][name]["n_frames"]],
        rows=rows_of(metrics["finetuned"].values()),
        models=MODELS,
        breakdowns=[
            (heading, column, name, rows_of(after[name].values(), MAIN_ROWS))
            for name, heading, column in BREAKDOWNS
            if len(after.get(name, ())) > 1
        ],
        figures={name: inline(figure) for name, figure in figures.items()},
        layers=_layer_table(manifest["trainable_parameters"]["layers"]),
        epochs=len(history["epoch"]),
        best=_best_epoch(history),
        config=config,
        manifest=manifest,
        card=list(card),
    )
    write_whole(path, page)


def environment(package: str) -> Environment:
    """Templates of a package, with the house's ``style.html.j2`` and filters.

    Filters: ``short`` (three digits), ``percent``, ``duration`` (of seconds), ``formula``,
    ``sentence``.
    """
    templates = Environment(
        loader=ChoiceLoader([PackageLoader(p, "") for p in (package, "tlpot.evaluation")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters |= {
        "short": short,
        "percent": percent,
        "duration": _duration,
        "formula": formula,
        "sentence": sentence,
    }
    return templates


def lattice_error(entry: Metrics) -> dict[str, Any] | None:
    """What the centred energy error means for the crystals of one molecule.

    Returns
    -------
    dict or None
        For the largest group of like molecular crystals: ``system``, ``atoms`` per molecule,
        ``per_molecule`` (centred RMSE, kJ/mol) and ``difference`` (√2 × that: the error of the
        difference between two structures whose errors are independent). None without one.
    """
    name, system = max(
        (
            (name, system)
            for name, system in entry.get("by_system", {}).items()
            if name.endswith(" crystal")
            and system["atoms_per_molecule"]
            and system["energy_rmse_centered_meV_per_atom"] is not None
        ),
        key=lambda item: item[1]["n_frames"],
        default=(None, None),
    )
    if system is None:
        return None
    atoms = system["atoms_per_molecule"]
    per_molecule = system["energy_rmse_centered_meV_per_atom"] * atoms * MEV / KJ_PER_MOL
    return {
        "system": name,
        "atoms": atoms,
        "per_molecule": per_molecule,
        "difference": math.sqrt(2) * per_molecule,
    }


def rows_of(
    entries: Iterable[Metrics], rows: Iterable[tuple[str, str, str]] = ROWS
) -> list[tuple[str, str, str]]:
    """Those of `rows` of which any of the entries knows the error."""
    entries = list(entries)
    return [row for row in rows if any(entry.get(row[2]) is not None for entry in entries)]


def _title(config: Config, manifest: Mapping[str, Any], after: Metrics) -> str:
    name = config.model.base
    base = (BASES[name].title or name) if name in BASES else Path(name).name
    systems = sorted({formula(name.rpartition(" ")[0]) for name in after.get("by_system", {})})
    if len(systems) > 4:
        systems = [f"{len(systems)} systems"]
    elif not systems:
        systems = [Path(file["path"]).name for file in manifest["data"]["files"][:3]]
    made = "fine-tuned" if config.model.init == "pretrained" else "trained from scratch"
    return f"{base}, {made} on {', '.join(systems)}"


def judged_part(metrics: Mapping[str, Mapping[str, Metrics]]) -> str:
    """The part whose errors are the headline: the first of `PARTS` that holds a frame."""
    return next((part for part in PARTS if metrics["finetuned"][part]["n_frames"]), "test")


def made_worse(before: Metrics, after: Metrics) -> Iterable[str]:
    """A sentence for each error that training made larger."""
    for label, key in JUDGED:
        old, new = before[key], after[key]
        if old is not None and new is not None and new > old:
            yield f"Fine-tuning made the {label} worse."


def outlier_lines(entry: Metrics) -> Iterable[str]:
    """A sentence for each frame that makes an RMSE."""
    made = entry.get("by_one_frame", {})
    for frame, only in dict.fromkeys((m["frame"], m["only"]) for m in made.values()):
        errors = "; ".join(
            f"{label} {short(made[key]['rmse'])} instead of {short(entry[key])} {unit}"
            for label, unit, key in MAIN_ROWS
            if made.get(key, {}).get("frame") == frame
        )
        who = f"{frame} (the only {only})" if only else frame
        mend = "More of its kind would tell" if only else "Look at it"
        yield f"One frame makes the error: without {who}: {errors}. {mend}."


def epoch_lines(history: History) -> Iterable[str]:
    """A sentence if the best epoch is the last of several."""
    last = int(history["epoch"][-1])
    if last > 1 and _best_epoch(history) == last:
        yield (
            "The best epoch is the last: the validation loss was still falling. Train longer: with "
            f"--resume and training.epochs above {last} the same command goes on."
        )


def _remarks(metrics: Mapping[str, Any], part: str, history: History) -> Iterable[str]:
    """Reasons to trust the headline less."""
    before, after = (metrics[model][part] for model in MODELS)
    train = metrics["finetuned"]["train"]
    for line in base_lines(metrics["seen_by_base"]):
        yield sentence(line)
    if part != "test":
        yield (
            f"No test frames were held out: these are the errors on {part} frames, which the "
            "training has used. They do not tell how good the model is elsewhere."
        )
    yield from made_worse(before, after)
    yield from outlier_lines(after)
    yield from epoch_lines(history)
    for label, key in JUDGED:
        new, seen = after[key], train[key]
        if new is not None and seen and part == "test" and new > 2 * seen:
            yield (
                f"The {label} on test frames is {new / seen:.1f} times that on training frames: "
                "the model overfits, and more training frames would help most."
            )
    if 1 < after["n_energies"] < 100:
        doubt = 100 / math.sqrt(2 * after["n_energies"])
        yield (
            f"With {after['n_energies']} energies the energy RMSE is itself uncertain by about "
            f"{doubt:.0f} %, more where frames are neighbours in one MD run."
        )


def _layer_table(layers: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Layers ``H.hidden1`` as a table, element down, layer across."""
    cells = {tuple(layer["name"].rpartition(".")[::2]): layer for layer in layers}
    rows, columns = (list(dict.fromkeys(names)) for names in zip(*cells, strict=True))
    return {"rows": rows, "columns": columns, "cells": cells}


def _best_epoch(history: History) -> int | None:
    loss = history["validation_loss"]
    return int(history["epoch"][np.nanargmin(loss)]) if np.isfinite(loss).any() else None


def inline(figure: Figure) -> str:
    """A figure as PNG in base64, for a page that loads nothing."""
    return base64.b64encode(png(figure)).decode()


def percent(share: float | None) -> str:
    """A share as text; a dash where there is none."""
    return "–" if share is None else f"{100 * share:.1f} %"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def sentence(text: str) -> str:
    """With a capital and a full stop."""
    return f"{text[:1].upper()}{text[1:].removesuffix('.')}."


def formula(text: str) -> str:
    """Digits as subscripts, for people."""
    return text.translate(str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉"))
