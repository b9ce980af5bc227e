"""A run predicts each part once with each model."""

from collections import Counter

import pytest

import tlpot
from tlpot.config.run import parse_config
from tlpot.evaluation.metrics import judge
from tlpot.finetuning.prepare import prepare
from tlpot.model.potential import Potential
from tlpot.training.potential import PotentialTask


@pytest.fixture
def predicted(monkeypatch) -> Counter:
    """Counts what is predicted: the weights and the frame, but not what epochs are judged by."""
    counts: Counter = Counter()
    evaluate, validate = Potential.evaluate, PotentialTask.validate
    of_an_epoch = [False]

    def counted(self, batch, training=False, **options):
        if not (training or of_an_epoch[0]):
            weights = self.backbone.layer("H", "hidden1").weight.detach().numpy().tobytes()
            for i in range(batch.n_frames):
                inside = batch.frame[batch.pairs[0]] == i
                counts[hash(weights), batch.vectors[inside].numpy().tobytes()] += 1
        return evaluate(self, batch, training, **options)

    def of_validation(self):
        of_an_epoch[0] = True
        row = validate(self)
        of_an_epoch[0] = False
        return row

    monkeypatch.setattr(Potential, "evaluate", counted)
    monkeypatch.setattr(PotentialTask, "validate", of_validation)
    return counts


def test_base_and_tuned_predict_each_frame_once(settings, predicted):
    run = tlpot.finetune(settings)
    frames = sum(run.metrics["finetuned"][part]["n_frames"] for part in ("train", "test"))
    frames += run.metrics["finetuned"]["validation"]["n_frames"]
    assert len({weights for weights, _ in predicted}) == 2
    assert len(predicted) == 2 * frames
    assert set(predicted.values()) == {1}


def numbers(values: object, name: str = "") -> dict[str, float]:
    """What metrics hold, flat."""
    if isinstance(values, dict):
        return {k: v for key in values for k, v in numbers(values[key], f"{name}/{key}").items()}
    return {name: float("nan") if values is None else values}


def test_what_is_used_again_is_what_base_and_model_file_predict(settings):
    """On the fitted reference, and calibrated."""
    run = tlpot.finetune(settings)
    prepared = prepare(parse_config(settings))
    fresh = judge(prepared.base, tlpot.load(run.folder), prepared.parts).metrics
    for model in ("baseline", "finetuned"):
        expected = pytest.approx(numbers(fresh[model]), rel=1e-3, abs=1e-3, nan_ok=True)
        assert numbers(run.metrics[model]) == expected
