"""The origin's way of training, written after its description (Parunov 2022).

torchani's ANI-2x with its default neighbour list, one frame at a time, float32, ensemble mean,
self-energies in the energy, L = λ·MSE(F) + (1−λ)·MSE(E/N), torch's default AdamW on all weights.

It needs torch and torchani only, 2.2.4 (the origin's) or newer, so that a venv of its own can run
it: ``python speed_origin.py job.json cpu`` answers each line ``0 1`` on its standard input (the
frames of one step) with the seconds that step took.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import contextlib
import json
import subprocess
import sys
import time
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

import torch
import torchani

HARTREE = 27.211386245988
FORCE_SHARE, RATE, DECAY = 0.9, 1e-4, 0.1


class OriginTraining:
    """Frames are dicts of lists: ``numbers``, ``positions``, ``cell``, ``energy``, ``forces``."""

    def __init__(
        self, frames: Sequence[dict], device: str = "cpu", model: torch.nn.Module | None = None
    ) -> None:
        self.model = model or torchani.models.ANI2x(periodic_table_index=True)
        self.model.to(device).requires_grad_(True)
        self.optimiser = torch.optim.AdamW(self.model.parameters(), lr=RATE, weight_decay=DECAY)
        self.frames = [
            {name: torch.tensor(value, device=device) for name, value in frame.items()}
            for frame in frames
        ]
        self.pbc = torch.tensor([True, True, True], device=device)

    def step(self, chosen: Sequence[int]) -> float:
        """One optimiser step on the frames `chosen`; returns the loss."""
        force_errors, energy_errors = [], []
        for frame in (self.frames[i] for i in chosen):
            positions = frame["positions"][None].clone().requires_grad_()
            inputs = (frame["numbers"][None], positions)
            energy = self.model(inputs, cell=frame["cell"], pbc=self.pbc).energies[0] * HARTREE
            (slope,) = torch.autograd.grad(energy, positions, create_graph=True)
            force_errors.append((-slope[0] - frame["forces"]).square().sum(dim=1))
            energy_errors.append(((energy - frame["energy"]) / len(slope[0])).square())
        forces, energies = torch.cat(force_errors).mean(), torch.stack(energy_errors).mean()
        loss = FORCE_SHARE * forces + (1 - FORCE_SHARE) * energies
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        return loss.item()


class OriginProcess:
    """The same in another interpreter, with its own torchani.

    `job` is a JSON file: ``frames``, and ``architecture`` (`tlpot.backbones.ani.Architecture`) for
    a torchani that cannot download its weights.
    """

    def __init__(self, python: Path, job: Path, device: str) -> None:
        self.process = subprocess.Popen(
            [str(python), __file__, str(job), device],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.versions = json.loads(self._read())

    def step(self, chosen: Sequence[int]) -> float:
        """Seconds of one step, as its own clock measured it."""
        assert self.process.stdin is not None
        self.process.stdin.write(" ".join(map(str, chosen)) + "\n")
        self.process.stdin.flush()
        return float(self._read())

    def close(self) -> None:
        self.process.communicate()

    def _read(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit("--origin-venv: its training ended with an error (above)")
        return line


def untrained(architecture: dict) -> torch.nn.Module:
    """torchani 2.2.4's ANI-2x from its parts, with random weights: as fast as the trained one."""
    symbols, width = architecture["symbols"], len(architecture["symbols"])

    def constant(name: str) -> torch.Tensor:
        return torch.tensor(architecture[name]).view(-1)

    descriptors = torchani.AEVComputer(
        architecture["radial_cutoff"],
        architecture["angular_cutoff"],
        constant("radial_eta"),
        constant("radial_shifts"),
        constant("angular_eta"),
        constant("angular_zeta"),
        constant("angular_shifts"),
        constant("angular_sections"),
        width,
    )

    def network(widths: Sequence[int]) -> torch.nn.Module:
        layers, inputs = [], descriptors.aev_length
        for outputs in widths:
            layers += [torch.nn.Linear(inputs, outputs), torch.nn.CELU(0.1)]
            inputs = outputs
        return torch.nn.Sequential(*layers, torch.nn.Linear(inputs, 1))

    members = [
        torchani.ANIModel(
            OrderedDict(
                (s, network(w)) for s, w in zip(symbols, architecture["widths"], strict=True)
            )
        )
        for _ in range(architecture["members"])
    ]
    return torchani.nn.Sequential(
        torchani.SpeciesConverter(symbols),
        descriptors,
        torchani.nn.Ensemble(members),
        torchani.EnergyShifter([0.0] * width),
    )


def serve(job_file: str, device: str) -> None:
    """Answer `OriginProcess`."""
    job = json.loads(Path(job_file).read_text())
    versions = {"torchani": torchani.__version__, "torch": torch.__version__}
    with contextlib.redirect_stdout(sys.stderr):  # torchani 2.2.4 prints where its files are
        try:
            training = OriginTraining(job["frames"], device)
            versions["weights"] = "ANI-2x"
        except OSError as error:
            print(f"weights cannot be had ({type(error).__name__}), taking random ones")
            training = OriginTraining(job["frames"], device, untrained(job["architecture"]))
            versions["weights"] = "random (ANI-2x could not be downloaded)"
    print(json.dumps(versions), flush=True)
    for line in sys.stdin:
        started = time.perf_counter()
        training.step([int(i) for i in line.split()])
        print(time.perf_counter() - started, flush=True)


if __name__ == "__main__":
    serve(*sys.argv[1:])
