"""`tlpot stress`: a model and its base through the same test; counts, cases and pictures."""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import ase.io
import numpy as np

from tlpot.config.bases import BASES, untrained
from tlpot.config.run import load_config
from tlpot.data.write import to_text
from tlpot.errors import TlpotError
from tlpot.model.file import located
from tlpot.model.load import supported_elements
from tlpot.model.potential import Potential
from tlpot.parallel.processes import LOCAL
from tlpot.parallel.shards import in_shards, loaded
from tlpot.parallel.work import at_work, begin_work, end_work, require_free
from tlpot.run_log import log
from tlpot.structure.frames import Frame
from tlpot.structure.soundness import require_sound
from tlpot.trust.settings import Stress
from tlpot.trust.stress import (
    CaseEnd,
    spread_bound,
    stressed,
)
from tlpot.trust.stress_cases import stress_cases
from tlpot.trust.stress_output import STRESS_REPORT, CaseEnds, StressTest, write_stress

SHORT = Stress(count=8, steps=40, scans=6, ramp=0.05)
"""The test of a report."""
SHORT_ATOMS = 200
"""Atoms of the structure over which the short test has half as many cells, and so on."""


def short_test(
    frames: Sequence[Frame], potentials: Mapping[str, Potential], models: Mapping[str, str]
) -> StressTest | None:
    """The test of a report, of the lowest crystal among `frames`, or the lowest molecule.

    Some seconds: larger cells are fewer. None without a frame.
    """
    crystals = [f for f in frames if f.kind == "crystal" and f.atoms.pbc.all()]
    common = Counter(f.formula for f in crystals or frames).most_common(1)
    alike = [f for f in crystals or frames if f.formula == common[0][0]]
    if not alike:
        return None
    lowest = min(alike, key=lambda f: np.inf if f.energy is None else f.energy)
    count = max(2, SHORT.count * SHORT_ATOMS // max(len(lowest), SHORT_ATOMS))
    settings = SHORT.model_copy(update={"count": count})
    return stress_test(replace(lowest, source=lowest.name), potentials, models, settings)


def stress_test(
    structure: Frame,
    potentials: Mapping[str, Potential],
    models: Mapping[str, str],
    settings: Stress,
) -> StressTest:
    """Put potentials in memory, ``model`` and maybe ``base``, through the test."""
    cases = stress_cases(structure.atoms, settings)
    outcomes: dict[str, CaseEnds] = {}
    for who, potential in potentials.items():
        ends = outcomes[who] = {}
        bound = spread_bound(potential, structure.atoms)
        for some in stressed(cases, potential, settings, bound):
            ends |= some
    return StressTest(
        structure.source or structure.name, cases, outcomes, dict(models), settings, []
    )


def run_stress(
    model: str | Path,
    structure: Frame,
    output: str | Path,
    settings: Stress | None = None,
    base: str | None = None,
    device: str = "auto",
    on_case: Callable[[int, int], None] = lambda done, total: None,
) -> StressTest:
    """Put a model and its base through the test and write a folder; call again to go on.

    Parameters
    ----------
    model
        As for `tlpot.model.load.load`.
    structure
        A crystal or a molecule, of which the cases are made.
    output
        New, or left by an interrupted call with the same model, structure and settings. Receives
        ``stress.json``, ``stress.csv`` (a row a case), ``failed.extxyz`` (where the model failed:
        label them and train on them), and pictures of the worst and of the scans.
    base
        What to compare with; None: the base that the model was trained from.
    device
        As for `tlpot.model.load.load_onto`.
    on_case
        Called with the number of cases done and of all.

    Raises
    ------
    TlpotError
        If the structure is not sound, the model does not know its elements, there is nothing to
        test, or the folder holds something else.
    """
    settings, folder = settings or Stress(), Path(output)
    require_free(folder, STRESS_REPORT)
    require_sound([structure])
    cases = stress_cases(structure.atoms, settings)
    if not cases:
        raise TlpotError(
            "there is nothing to test: count, scans and ramp are 0, or the structure has no "
            "molecules; raise one of them"
        )
    potential = loaded(str(model), device)
    potential.require_elements(set(structure.atoms.symbols), structure.name)
    models, remarks = _columns(model, potential, base, structure)
    total = len(cases) * len(models)
    with at_work(folder, STRESS_REPORT):
        begin_work(folder, {"stress": {**settings.model_dump(), "models": [*models.values()]}})
        log.info("%d cases of %s, models %s: %s", len(cases), structure.name, models, settings)
        outcomes: dict[str, CaseEnds] = {}
        for who, path in models.items():
            bound = spread_bound(loaded(path, device), structure.atoms)
            told = settings.model_dump() | {"bound": bound}
            advance = partial(_count, on_case, len(outcomes) * len(cases), total)
            place = (folder, LOCAL, 1, device, len(cases), advance, who)
            paths = in_shards(stress_shard, cases, path, told, *place, here=True)
            outcomes[who] = dict(enumerate(chain(*map(_read, paths))))
        test = StressTest(structure.source, cases, outcomes, models, settings, remarks)
        write_stress(test, folder)
        for who, count in test.as_dict()["failures"].items():
            log.info("%s %s: %d of %d cases failed", who, models[who], count, len(cases))
        end_work(folder)
    return test


def _columns(
    model: str | Path, potential: Potential, base: str | None, structure: Frame
) -> tuple[dict[str, str], list[str]]:
    """What is tested, by ``model`` and ``base``, and why there is no base.

    Raises
    ------
    TlpotError
        If a base that was asked for lacks an element.
    """
    name, why = (base, "") if base is not None else own_base(model, potential)
    models, remarks = {"model": str(model)}, [why] if why else []
    if name is not None:
        missing = sorted(set(structure.atoms.symbols) - set(supported_elements(name)))
        lacking = f"the base {name} does not know {', '.join(missing)}"
        if missing and base is not None:
            raise TlpotError(f"--base: {lacking}; name another")
        if missing:
            remarks.append(f"{lacking}: it has no column")
        else:
            models["base"] = name
    return models, remarks


def own_base(model: str | Path, potential: Potential) -> tuple[str | None, str]:
    """The base that a model was trained from, or the name of an earlier one; a remark on it."""
    about = potential.metadata
    training = about.get("training")
    if not training:
        return None, f"{model} was not fine-tuned: there is no base beside it"
    choice = training.get("model", {})
    if choice.get("init") == "scratch" or untrained(str(choice.get("base"))):
        return None, f"{model} was trained from scratch: it has no base"
    name = str(choice.get("base"))
    with suppress(TlpotError):  # a model file alone, or the config of another tlpot
        name = load_config(located(model).with_name("config.yaml")).model.base or name
    if name in BASES or Path(name).exists():
        return name, ""
    first = about.get("base")
    if first in BASES:
        return first, f"its base {name} is not here: compared with {first}, which that came from"
    return None, f"its base {name} is not here; name it with --base"


def stress_shard(
    model: str, device: str, settings: dict[str, Any], frames: list[Frame]
) -> Iterator[dict[int, str]]:
    """Put cases through the test, each with its place in the whole; a line of JSON for each."""
    potential = loaded(model, device)
    bound = settings.pop("bound")
    engine: Literal["torch-sim", "ase"] = "torch-sim" if find_spec("torch_sim") else "ase"
    for ends in stressed(frames, potential, Stress(**settings), bound, engine):
        yield {i: _line(end) for i, end in ends.items()}


def _line(end: CaseEnd) -> str:
    row = {"verdict": end.verdict, "detail": end.detail, "curve": end.curve}
    return json.dumps({**row, "atoms": to_text(Frame(end.atoms))}) + "\n"


def _read(shard: Path) -> Iterator[CaseEnd]:
    for row in map(json.loads, shard.read_text().splitlines()):
        (atoms,) = ase.io.read(io.StringIO(row["atoms"]), format="extxyz", index=":")
        yield CaseEnd(row["verdict"], row["detail"], atoms, tuple(row["curve"]))


def _count(on_case: Callable[[int, int], None], before: int, total: int, done: int) -> None:
    on_case(before + done, total)
