import numpy as np
import pytest

from common.metrics.reliability import BINS, Reliability


def test_against_a_loop():
    rng = np.random.default_rng(0)
    reliability, images = Reliability(), []
    for shape in ((25, 17), (9, 24)):
        chance = rng.random(shape).astype(np.float32)
        truth = rng.random(shape) < chance**2
        images.append((chance, truth))
        reliability.add(chance, truth)
    count, total, lesion = [0] * BINS, [0.0] * BINS, [0] * BINS
    for chance, truth in images:
        for i in range(chance.shape[0]):
            for j in range(chance.shape[1]):
                at = min(int(chance[i, j] * BINS), BINS - 1)
                count[at] += 1
                total[at] += float(chance[i, j])
                lesion[at] += int(truth[i, j])
    found = reliability.summary()
    assert found["pixels"] == count
    error = unsure = 0.0
    for at in range(BINS):
        assert found["probability"][at] == pytest.approx(total[at] / count[at], rel=1e-5)
        assert found["lesion"][at] == pytest.approx(lesion[at] / count[at], rel=1e-5)
        error += abs(total[at] - lesion[at])
        unsure += abs(total[at] - lesion[at]) if 0 < at < BINS - 1 else 0
    assert found["error"] == pytest.approx(error / sum(count), rel=1e-5)
    assert found["error_unsure"] == pytest.approx(unsure / sum(count[1:-1]), rel=1e-5)


def test_ends_and_nothing():
    reliability = Reliability()
    assert reliability.summary() is None
    reliability.add(np.array([[0.0, 1.0]]), np.array([[False, True]]))
    found = reliability.summary()
    assert found["pixels"][0] == found["pixels"][-1] == 1
    assert found["error"] == 0
    assert found["error_unsure"] is None
    assert found["lesion"][1] is None
    with pytest.raises(ValueError, match="differ in shape"):
        reliability.add(np.zeros((2, 2)), np.zeros((2, 3), bool))
    both = reliability + reliability
    assert sum(both.summary()["pixels"]) == 4
    assert sum(reliability.summary()["pixels"]) == 2
