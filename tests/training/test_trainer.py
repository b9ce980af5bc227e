import csv
import signal
import time
from pathlib import Path

import pytest
import torch

from tlpot.config.run import Training
from tlpot.errors import TlpotError
from tlpot.model.potential import Potential
from tlpot.structure.frames import Batch
from tlpot.training.checkpoint import load_checkpoint, save_checkpoint
from tlpot.training.loss import loss
from tlpot.training.potential import PotentialTask
from tlpot.training.trainer import FINAL_RATE, Trainer

COLUMNS = [
    "epoch",
    "learning_rate",
    "train_loss",
    "train_force_loss",
    "train_energy_loss",
    "validation_loss",
    "validation_energy_rmse_meV_per_atom",
    "validation_force_rmse_meV_per_A_component",
    "seconds",
]


@pytest.fixture
def trainer(small, labelled, tmp_path):
    """Builds a trainer of a small potential on seven frames, three for validation."""

    def build(validation: int = 3, folder: str = "", **settings) -> Trainer:
        defaults = {"epochs": 4, "batch_size": 3, "warmup_epochs": 0, "lambda": 0.2}
        potential = small().for_elements({"H", "C", "N", "O"})
        potential.backbone.requires_grad_()
        batches = [potential.batch([frame]) for frame in labelled(7 + validation)]
        path = Path(tmp_path, folder)
        path.mkdir(exist_ok=True)
        training = Training.model_validate(defaults | settings)
        return Trainer(PotentialTask(potential, batches[:7], batches[7:], training), training, path)

    return build


def weights(trainer: Trainer) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in trainer.parameters])


def trained(trainer: Trainer) -> tuple[torch.Tensor, list[dict]]:
    history = trainer.fit().history
    return weights(trainer), history


def column(history: list[dict], name: str) -> list[float]:
    return [row[name] for row in history]


@pytest.mark.parametrize("fit", ["mean", "members"])
def test_loss_falls_on_training_and_validation_frames(trainer, fit):
    _, history = trained(trainer(epochs=50, fit=fit, learning_rate=5e-4))
    assert history[-1]["train_loss"] < 0.3 * history[0]["train_loss"]
    assert history[-1]["validation_loss"] < 0.95 * history[0]["validation_loss"]


def test_the_seed_decides_and_nothing_else(trainer):
    first, _ = trained(trainer(seed=1))
    again, _ = trained(trainer(seed=1))
    other, _ = trained(trainer(seed=2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_the_reported_losses_are_those_of_the_data(trainer):
    """One step an epoch: the training loss is that of the weights before it."""
    made = trainer(epochs=1, batch_size=7, ema=0)
    settings, potential = made.settings, made.task.potential
    whole = Batch.join(made.task.train)
    before = loss(potential.evaluate(whole, members=True), whole, settings)
    (row,) = made.fit().history
    assert row["train_loss"] == pytest.approx(before.total.item(), rel=1e-9)
    assert row["train_force_loss"] == pytest.approx(before.forces.item(), rel=1e-9)
    assert row["train_energy_loss"] == pytest.approx(before.energy.item(), rel=1e-9)


def test_the_best_epoch_is_the_lowest_validation_loss_and_its_weights_are_left(trainer):
    made = trainer(epochs=12, learning_rate=0.05, schedule="constant", clip=None)
    progress = made.fit()
    losses = column(progress.history, "validation_loss")
    assert losses[progress.best_epoch - 1] == min(losses) == progress.best_loss
    assert progress.best_epoch < 12, "the test needs a run whose last epoch is not its best"
    settings = made.settings.model_copy(update={"fit": "mean"})
    batch = Batch.join(made.task.validation)
    judged = loss(made.task.potential.evaluate(batch), batch, settings).total
    assert judged.item() == pytest.approx(min(losses), rel=1e-9)


def test_cosine_falls_to_its_end(trainer):
    _, history = trained(trainer(epochs=10, learning_rate=1e-3))
    rates = column(history, "learning_rate")
    assert rates == sorted(rates, reverse=True)
    assert rates[0] > 0.9e-3
    assert rates[-1] == pytest.approx(FINAL_RATE * 1e-3)


@pytest.mark.parametrize("schedule", ["cosine", "plateau", "constant"])
def test_warm_up_rises_step_by_step(trainer, schedule):
    _, history = trained(trainer(epochs=4, schedule=schedule, warmup_epochs=2, learning_rate=1e-3))
    rates = column(history, "learning_rate")  # after each epoch of three steps
    assert rates[:2] == pytest.approx([4 / 7 * 1e-3, 1e-3])
    assert (rates[3] < 0.9e-3) == (schedule == "cosine")


def test_plateau_halves_the_rate_after_ten_epochs_without_progress(trainer):
    _, history = trained(trainer(epochs=13, schedule="plateau", learning_rate=1e-13))
    assert column(history, "learning_rate")[:11] == [1e-13] * 11
    assert history[-1]["learning_rate"] == pytest.approx(0.5e-13)


def test_constant_stays(trainer):
    _, history = trained(trainer(schedule="constant", learning_rate=1e-4))
    assert column(history, "learning_rate") == [1e-4] * 4


def test_ema_averages_weights_and_leaves_training_alone(trainer):
    options = {"epochs": 1, "batch_size": 7, "validation": 0}
    start = weights(trainer())
    raw, _ = trained(trainer(ema=0, **options))
    average, _ = trained(trainer(ema=0.99, **options))
    torch.testing.assert_close(average, start + (1 - 2 / 11) * (raw - start))
    _, without = trained(trainer(ema=0))
    _, with_ema = trained(trainer(ema=0.99))
    assert column(without, "train_loss") == column(with_ema, "train_loss")
    assert column(without, "validation_loss") != column(with_ema, "validation_loss")


def test_clip_bounds_the_gradient(trainer):
    options = {"weight_decay": 0.0, "ema": 0}
    start = weights(trainer())
    free, _ = trained(trainer(clip=None, **options))
    loose, _ = trained(trainer(clip=1e9, **options))
    tight, _ = trained(trainer(clip=1e-14, **options))
    assert torch.equal(free, loose)
    assert (free - start).abs().max() > 1e-4
    assert (tight - start).abs().max() < 1e-8


def test_weight_decay_shrinks(trainer):
    options = {"ema": 0, "lambda": 1.0, "clip": 1e-14, "epochs": 1, "schedule": "constant"}
    made = trainer(weight_decay=0.1, learning_rate=1e-2, validation=0, **options)
    start = weights(made)
    after, _ = trained(made)
    torch.testing.assert_close(after, start * (1 - 1e-3) ** 3, rtol=0, atol=1e-7)


def test_patience_stops(trainer):
    progress = trainer(epochs=20, learning_rate=1e-300, ema=0, patience=3, weight_decay=0).fit()
    assert (progress.best_epoch, progress.epoch) == (1, 4)


def test_stress_weight_has_an_effect(trainer):
    without, _ = trained(trainer())
    with_stress, history = trained(trainer(stress_weight=1.0))
    assert not torch.equal(without, with_stress)
    assert torch.isfinite(with_stress).all()
    assert history[0]["train_loss"] > 0.2 * history[0]["train_force_loss"]


def test_without_validation_the_last_epoch_is_left(trainer):
    made = trainer(validation=0, ema=0, schedule="plateau", patience=1)
    progress = made.fit()
    assert progress.epoch == progress.best_epoch == 4
    assert column(progress.history, "validation_loss") == [None] * 4
    state = load_checkpoint(made.folder)
    assert torch.equal(weights(made), torch.cat([w.flatten() for w in state["weights"]]))


def test_history_is_written_every_epoch(trainer):
    made, seen = trainer(), []

    def look(row: dict) -> None:
        with (made.folder / "history.csv").open() as file:
            seen.append(list(csv.DictReader(file)))
        assert float(seen[-1][-1]["train_loss"]) == row["train_loss"]

    made.fit(look)
    assert [len(rows) for rows in seen] == [1, 2, 3, 4]
    assert list(seen[-1][0]) == COLUMNS
    assert [row["epoch"] for row in seen[-1]] == ["1", "2", "3", "4"]


def test_a_run_that_blows_up_says_so(trainer):
    with pytest.raises(TlpotError, match=r"diverged in epoch \d.*learning_rate"):
        trainer(learning_rate=1e80, clip=None, epochs=9).fit()


# --- resuming (a real kill: tests/test_run.py) ---------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"schedule": "cosine", "warmup_epochs": 1, "ema": 0.9},
        {"schedule": "plateau", "warmup_epochs": 1, "ema": 0, "learning_rate": 1e-3},
        {"schedule": "constant", "ema": 0.99, "validation": 0},
        {"patience": 2, "learning_rate": 0.05, "epochs": 9},
    ],
    ids=lambda options: "-".join(map(str, options.values())),
)
@pytest.mark.parametrize("stop", [1, 3])
def test_a_resumed_run_is_bit_identical(trainer, options, stop):
    expected, history = trained(trainer(folder="whole", **options))
    first = trainer(folder="broken", **options)

    def interrupt(row: dict) -> None:
        if row["epoch"] == stop:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        first.fit(interrupt)
    second = trainer(folder="broken", **options)
    second.resume()
    found, resumed = trained(second)
    assert torch.equal(found, expected)
    for name in COLUMNS[:-1]:
        assert column(resumed, name) == column(history, name)


def test_components_resume_from_the_checkpoint(small, labelled, tmp_path):
    """Another processor may have fitted them with other roundings, even signs."""

    def build(sign: float) -> tuple[Trainer, torch.Tensor]:
        small_one = small(fine=None).for_elements({"H", "C", "N", "O"})
        potential = Potential(
            small_one.backbone.with_fine_angles(components=8), small_one.reference
        )
        batches = [potential.batch([frame]) for frame in labelled(4)]
        potential.backbone.fit_components(batches)
        potential.backbone.projection.mul_(sign)
        potential.backbone.requires_grad_()
        training = Training(epochs=2, batch_size=2)
        task = PotentialTask(potential, batches[:3], batches[3:], training)
        return Trainer(task, training, tmp_path), potential.backbone.projection

    first, settled = build(1.0)
    first.fit()
    second, other = build(-1.0)
    assert not torch.equal(other, settled)
    second.resume()
    assert torch.equal(other, settled)
    assert settled.any()


def test_a_checkpoint_that_cannot_be_read_is_refused(trainer):
    made = trainer()
    with pytest.raises(TlpotError, match="no checkpoint"):
        made.resume()
    made.fit()
    checkpoint = made.folder / "checkpoint.pt"
    checkpoint.write_bytes(checkpoint.read_bytes()[:100])
    with pytest.raises(TlpotError, match=r"checkpoint\.pt is cut or damaged"):
        made.resume()


def test_ctrl_c_while_a_checkpoint_is_written_is_ctrl_c(tmp_path):
    """Not a RuntimeError of torch's writer, wherever it falls; the checkpoint stays whole."""
    state = {f"weight{i}": torch.full((1000,), float(i)) for i in range(100)}
    start = time.perf_counter()
    save_checkpoint(tmp_path, state)
    seconds = time.perf_counter() - start
    hears = signal.signal(signal.SIGALRM, signal.default_int_handler)
    stops = 0
    try:
        for share in range(1, 50):
            try:
                signal.setitimer(signal.ITIMER_REAL, seconds * share / 50)
                save_checkpoint(tmp_path, state)
                signal.setitimer(signal.ITIMER_REAL, 0)
            except KeyboardInterrupt:
                stops += 1
            assert len(load_checkpoint(tmp_path)) == len(state)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, hears)
    assert stops, "every checkpoint was written before its stop"


def test_a_transposed_gradient_is_followed_like_any_other(tmp_path):
    """torch 2.13's fused AdamW pairs gradient and parameter by their place in memory."""
    x = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(0))

    class Task:
        terms = ("loss",)

        def __init__(self) -> None:
            self.weight = torch.nn.Parameter(torch.ones(2, 4, 3))

        def __len__(self) -> int:
            return 1

        def named_parameters(self):
            return iter([("weight", self.weight)])

        def settled(self):
            return []

        def step(self, mine, chosen):
            return {"loss": torch.bmm(x, self.weight.mT).pow(3).sum()}

    trained, plain = Task(), Task()
    (gradient,) = torch.autograd.grad(plain.step([0], [0])["loss"], [plain.weight])
    assert not gradient.is_contiguous(), "the test needs a transposed gradient"
    values = {"learning_rate": 1e-2, "clip": None, "warmup_epochs": 0, "schedule": "constant"}
    settings = Training.model_validate(values)
    made = Trainer(trained, settings, tmp_path)
    other = torch.optim.AdamW([plain.weight], lr=1e-2, weight_decay=settings.weight_decay)
    for _ in range(3):
        made.step([0])
        other.zero_grad()
        plain.step([0], [0])["loss"].backward()
        other.step()
    torch.testing.assert_close(trained.weight, plain.weight, rtol=1e-5, atol=1e-6)
