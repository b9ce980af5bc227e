import numpy as np
import pytest

from tlpot.powder.judge import judge_systems


def test_figures_of_a_small_case():
    shares = np.full((4, 7), 0.02)
    shares[[0, 1, 2, 3], [6, 6, 0, 0]] = 0.88
    found = judge_systems(shares, [6, 6, 6, 0])
    assert found["n"] == 4
    assert found["accuracy"] == 0.75
    assert found["balanced_accuracy"] == pytest.approx((2 / 3 + 1) / 2)
    cubic, triclinic = found["by_system"]["cubic"], found["by_system"]["triclinic"]
    assert (cubic["precision"], cubic["recall"], cubic["f1"]) == pytest.approx((1, 2 / 3, 0.8))
    assert (triclinic["precision"], triclinic["recall"]) == (0.5, 1.0)
    assert found["macro_f1"] == pytest.approx((0.8 + 2 / 3) / 2)
    assert found["by_system"]["trigonal"] == {"n": 0, "precision": None, "recall": None, "f1": None}
    assert np.array(found["confusion"])[6].tolist() == [1, 0, 0, 0, 0, 0, 2]
    assert found["calibration_error"] == pytest.approx(0.13)
    assert found["log_loss"] == pytest.approx(-(3 * np.log(0.88) + np.log(0.02)) / 4)
    assert judge_systems(np.zeros((0, 7)), []) == {"n": 0}
