"""Force constants count in the loss: closed forms, partners, and a run that learns them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from ase import Atoms

from tlpot.config.run import Training
from tlpot.errors import TlpotError
from tlpot.finetuning.run import finetune
from tlpot.model.prediction import Output
from tlpot.structure.frames import Batch, Frame
from tlpot.training.curvature import find_partners, paired
from tlpot.training.loss import count_labels, loss


def displaced(atoms: Atoms, moves: list[tuple[int, int, float]], rest: bool) -> list[Frame]:
    images = [atoms.copy() for _ in range(len(moves) + rest)]
    for image, (atom, axis, size) in zip(images[rest:], moves, strict=True):
        image.positions[atom, axis] += size
    random = np.random.default_rng(0)
    return [Frame(i, -1.0, random.normal(size=(len(atoms), 3))) for i in images]


def test_partners_are_the_rest_or_the_opposite(urea: Atoms) -> None:
    moves = [(0, 0, 0.01), (3, 1, 0.01), (0, 0, -0.01), (3, 1, -0.01)]
    frames = displaced(urea, moves, rest=True)
    partners = find_partners(frames)
    assert {i: p.frame for i, p in partners.items()} == {1: 0, 2: 0, 3: 0, 4: 0}
    assert partners[1].distance == pytest.approx(0.01)
    partners = find_partners(frames[1:])
    assert {i: p.frame for i, p in partners.items()} == {0: 2, 1: 3, 2: 0, 3: 1}
    assert partners[0].distance == pytest.approx(0.02)
    partners = find_partners(frames[1:3])
    assert {i: p.frame for i, p in partners.items()} == {1: 0}  # two alone: one is the rest
    assert find_partners([replace(f, labels="relaxed") for f in frames]) == {}
    assert find_partners([frames[0], frames[0]]) == {}


@pytest.mark.parametrize("rest", [True, False])
def test_the_loss_is_that_of_force_differences(urea: Atoms, rest: bool) -> None:
    """An error that all frames share costs nothing more; one of the curvature (reach / step)²."""
    frames = displaced(urea, [(0, 0, 0.01), (5, 2, -0.01), (0, 0, -0.01)], rest)
    frames[-1] = replace(frames[-1], weight=3.0)
    batches = [Batch.of_frame(frame, 3.0) for frame in frames]
    partners = find_partners(frames)
    chosen = [len(frames) - 1]
    extra, pairs = paired(chosen, partners)
    silent = [replace(batches[i], weight=0.0 * batches[i].weight) for i in extra]
    batch = Batch.join([batches[chosen[0]], *silent])
    assert (batch.n_frames, len(pairs)) == (2, 1)
    settings, off = Training(), Training(curvature=0.0)
    shared = torch.tensor([0.3, -0.1, 0.2], dtype=torch.float64)
    own = torch.zeros((len(batch.numbers), 3), dtype=torch.float64)
    own[:16] = torch.from_numpy(np.random.default_rng(1).normal(size=(16, 3)))

    class Made(Output):
        @property
        def forces(self):
            return (self.batch.forces + self.slopes)[None]

    def total(error: torch.Tensor, settings: Training, pairs) -> float:
        output = Made(batch, torch.zeros((1, len(batch.numbers)), dtype=torch.float64), error)
        alone = count_labels([batches[chosen[0]]])
        some = settings.model_copy(update={"stress_weight": 0.0})
        return float(loss(output, batch, some, alone, None, pairs).total)

    same = shared.expand(32, 3)
    assert total(same, settings, pairs) == pytest.approx(total(same, off, ()), rel=1e-12)
    distance = 0.01 if rest else 0.02
    more = total(own + same, settings, pairs) - total(own + same, off, ())
    wanted = 0.03 * (0.1 / distance) ** 2 * float(own.square().sum()) / 16
    assert more == pytest.approx(wanted, rel=1e-9)


@pytest.fixture
def phonon_run(labelled, teacher, write_frames, base_model, tmp_path) -> dict:
    """Settings of a run on frames of a teacher and the force constants of one more structure."""
    start = labelled(20)[8].atoms
    images = [start]
    for atom in range(len(start)):
        for axis in range(3):
            images.append(start.copy())
            images[-1].positions[atom, axis] += 0.01
    run = [
        Frame(a, p.energy, p.forces, p.stress, "run", i)
        for i, (a, p) in enumerate(zip(images, teacher.predict(images), strict=True))
    ]
    others = [f for f in labelled(16) if not np.allclose(f.atoms.positions[0], start.positions[0])]
    return {
        "data": {
            "files": [
                str(write_frames(tmp_path / "run.extxyz", run)),
                str(write_frames(tmp_path / "frames.extxyz", others)),
            ],
            "split": {"test": 0.2, "validation": 0.2},
        },
        "model": {"base": str(base_model)},
        "training": {"epochs": 2, "batch_size": 2, "device": "cpu"},
        "output": str(tmp_path / "with"),
    }


def test_a_run_says_so_and_counts_them(phonon_run: dict, tmp_path) -> None:
    on = finetune(phonon_run)
    log = (on.folder / "run.log").read_text()
    assert "frames are finite displacements" in log
    assert "displaced training frames counts as at a displacement of 0.1 Å" in log
    training = phonon_run["training"] | {"curvature": 0.0}
    off = finetune(phonon_run | {"training": training, "output": str(tmp_path / "without")})
    assert "training.curvature)" not in (off.folder / "run.log").read_text()
    first = [r.folder.joinpath("history.csv").read_text().splitlines()[1] for r in (on, off)]
    losses = [float(row.split(",")[2]) for row in first]
    assert losses[0] > losses[1]


def test_without_displacements_it_is_refused(settings: dict) -> None:
    settings["training"]["curvature"] = 0.05
    with pytest.raises(TlpotError, match=r"curvature has no effect without finite displacements"):
        finetune(settings)
