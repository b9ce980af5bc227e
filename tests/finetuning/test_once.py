"""A run predicts each part once with each model."""

from collections import Counter

import pytest

import tlpot
from tlpot.config.run import parse_config
from tlpot.evaluation.metrics import judge
from tlpot.finetuning import prepare as prepare_module
from tlpot.finetuning import run as run_module
from tlpot.finetuning.prepare import prepare
from tlpot.model.potential import Potential
from tlpot.training.potential import PotentialTask
from tlpot.trust.gate import opinion_of


@pytest.fixture
def predicted(monkeypatch) -> Counter:
    """Counts what is predicted: the weights and the frame.

    What epochs are judged by does not count, nor changed frames, which causes of odd labels are
    tried on.
    """
    counts: Counter = Counter()
    evaluate, validate = Potential.evaluate, PotentialTask.validate
    elsewhere = [False]

    def counted(self, batch, training=False, **options):
        if not (training or elsewhere[0]):
            weights = self.backbone.layer("H", "hidden1").weight.detach().numpy().tobytes()
            for i in range(batch.n_frames):
                inside = batch.frame[batch.pairs[0]] == i
                counts[hash(weights), batch.vectors[inside].numpy().tobytes()] += 1
        return evaluate(self, batch, training, **options)

    def uncounted(work):
        def wrapped(*arguments):
            elsewhere[0] = True
            result = work(*arguments)
            elsewhere[0] = False
            return result

        return wrapped

    monkeypatch.setattr(Potential, "evaluate", counted)
    monkeypatch.setattr(PotentialTask, "validate", uncounted(validate))

    def of_all_then_changed(potential):
        predict, asked = opinion_of(potential), []

        def opinion(frames):
            work = uncounted(predict) if asked else predict
            asked.append(len(frames))
            return work(frames)

        return opinion

    monkeypatch.setattr(prepare_module, "opinion_of", of_all_then_changed)
    monkeypatch.setattr(run_module, "opinion_of", lambda p: uncounted(opinion_of(p)))
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
    if isinstance(values, list):
        values = dict(enumerate(values))
    if isinstance(values, str):
        return {}
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
