"""The self-test of `tlpot doctor`, a process of its own: a line of JSON for all that it sees."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import tlpot
from tlpot.cli.health import HOST, Check, reachable
from tlpot.errors import first_line

CLOSE = {"energy": 1e-3, "forces": 2e-3, "slope": 1e-4}
"""How far energies (eV) and forces (eV/Å) of float32 may be from those of float64, and these from
the slope of the energy (eV/Å)."""
SHIFT = 1e-4
"""Of the slope, Å."""


def main() -> None:
    """Do all; what fails is a line too, and the rest is tried."""
    for test in (devices, weights, cache, forces, training):
        print(json.dumps({"begun": test.__name__}), flush=True)
        for check in _safely(test):
            print(json.dumps(vars(check)), flush=True)


def _safely(test: Callable[[], Iterator[Check]]) -> Iterator[Check]:
    try:
        yield from test()
    except Exception as error:  # whatever is broken is what is asked for
        seen = f"{type(error).__name__}: {first_line(error)}"
        lacking = error.name if isinstance(error, ModuleNotFoundError) else None
        mend = f"pip install {lacking}" if lacking else "tlpot doctor's other lines may say why"
        yield Check(test.__name__, "wrong", seen, mend)


def devices() -> Iterator[Check]:
    """Cores and threads; GPUs."""
    import torch

    from tlpot.engine.threads import cores

    seen = f"{cores()} cores, {torch.get_num_threads()} threads"
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    if torch.version.cuda and not gpus:
        seen += f"; no GPU, though torch is built for CUDA {torch.version.cuda}"
    yield Check("device", "ok", "; ".join([seen, *gpus]))


def weights() -> Iterator[Check]:
    """ANI-2x's weights: there, and whole."""
    import torchani

    from tlpot.backbones.published import has_weights, load_published

    folder = torchani.paths.state_dicts_dir()
    if has_weights("ani2x"):
        load_published("ani2x")
        yield Check("ANI-2x", "ok", f"in {folder}")
        return
    if reachable():
        yield Check("ANI-2x", "note", f"not in {folder}: downloaded when first used")
        return
    mend = (
        "connect once (tlpot info ani2x), or copy StateDicts/*.pt from a machine that has them and "
        "set TORCHANI_DATA_DIR to the folder that holds StateDicts; model.base=mini needs none"
    )
    yield Check("ANI-2x", "wrong", f"not in {folder}, and {HOST} does not answer", mend)


def cache() -> Iterator[Check]:
    """Where numba keeps what it compiled."""
    from numba.core.caching import FunctionCache

    from tlpot.engine import compiled

    try:
        yield Check("numba cache", "ok", FunctionCache(compiled.kernel).cache_path)
    except RuntimeError:
        seen = "no folder to write to: every process compiles anew, a quarter of a minute"
        mend = "export NUMBA_CACHE_DIR=FOLDER, one that you may write to"
        yield Check("numba cache", "wrong", seen, mend)


def forces() -> Iterator[Check]:
    """Energy and forces of a crystal by the engine in use, by float64, and by differences."""
    import torch

    from tlpot.engine.compiled import compiled
    from tlpot.model.potential import Potential

    potential, atoms = _mini()
    begin = time.perf_counter()
    fast = potential.predict(atoms)
    seconds = time.perf_counter() - begin
    exact = Potential(copy.deepcopy(potential.backbone).double(), potential.reference)
    slow = exact.predict(atoms)
    ends = [atoms.copy(), atoms.copy()]
    for end, way in zip(ends, (SHIFT, -SHIFT), strict=True):
        end.positions[0, 2] += way
    high, low = (end.energy for end in exact.predict(ends))
    apart = {
        "energy": abs(fast.energy - slow.energy),
        "forces": abs(fast.forces - slow.forces).max(),
        "slope": abs(slow.forces[0, 2] + (high - low) / (2 * SHIFT)),
    }
    ours = compiled(torch.device("cpu"), torch.float32)
    name = "compiled" if ours else "torch"
    seen = f"energy, forces, slope apart by {', '.join(f'{x:.0e}' for x in apart.values())}"
    good = all(apart[key] <= CLOSE[key] for key in CLOSE)
    mend = "" if good else "TLPOT_ENGINE=torch computes without numba; please report this"
    yield Check(
        f"engine {name}", "ok" if good else "wrong", f"{seen} eV, eV/Å; {seconds:.1f} s", mend
    )
    if not ours:
        mend = "pip install -U numba (or unset TLPOT_ENGINE): several times faster"
        yield Check("kernels", "wrong", "not compiled", mend)


def training() -> Iterator[Check]:
    """One step of the default recipe; the loss falls."""
    import torch

    from tlpot.config.run import Training
    from tlpot.structure.frames import Frame
    from tlpot.training.potential import PotentialTask

    potential, atoms = _mini()
    now = potential.predict(atoms)
    frame = Frame(atoms, now.energy + 0.1, 0.9 * now.forces)
    potential.backbone.requires_grad_(True)
    batch = potential.batch([frame])
    task = PotentialTask(potential, [batch], [batch], Training())
    before = float(task.validate()["loss"] or 0.0)
    optimiser = torch.optim.AdamW([p for _, p in task.named_parameters()], lr=1e-4)
    begin = time.perf_counter()
    with task.threads():
        task.step([0], [0])["loss"].backward()
        optimiser.step()
    seconds = time.perf_counter() - begin
    after = float(task.validate()["loss"] or 0.0)
    good = after < before
    seen = f"a step, {seconds:.2g} s: loss {before:.3g} → {after:.3g}"
    yield Check("training", "ok" if good else "wrong", seen, "" if good else "please report this")


def _mini() -> tuple[Any, Any]:
    """The bundled model, and a crystal of the bundled urea."""
    from ase.io import read

    data = Path(tlpot.__file__).parent / "bundled/datasets/urea/urea.extxyz"
    atoms: Any = read(data, index=0)
    atoms.calc = None
    return tlpot.load("mini"), atoms


if __name__ == "__main__":
    main()
