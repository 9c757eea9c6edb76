import numpy as np
import pytest
from PIL import Image

from common.datasets import load_dataset, phantoms
from common.images import write_radiograph
from common.metrics.overlap import counts, dice
from common.prompts import parse
from common.prompts.zones import composite_prior
from common.runtime.text_prior import THRESHOLDS, fit_threshold, score_prior


@pytest.fixture(scope="module")
def items(tmp_path_factory):
    root = tmp_path_factory.mktemp("phantoms")
    phantoms.write(root, count=20, size=64, seed=3, inbox=0)
    return load_dataset("auto", root, "train")


def test_threshold_and_scores_equal_a_search_by_hand(items):
    best = (-1.0, 0.0)
    for threshold in THRESHOLDS:
        totals = np.zeros(3)
        for item in items:
            truth = np.asarray(Image.open(item["label"])) > 127
            findings = parse(item["text_prompt"], item["laterality"])
            mask = np.zeros(truth.shape, bool)
            if any(findings.zones):
                mask = composite_prior(findings.zones, truth.shape) > threshold
            totals += counts(mask, truth)
        best = max(best, (dice(*totals), -float(threshold)))
    threshold = fit_threshold(items, "radiograph")
    assert threshold == -best[1]
    rows = score_prior(items, "radiograph", threshold)
    assert dice(*np.sum([[row["tp"], row["fp"], row["fn"]] for row in rows], axis=0)) == pytest.approx(best[0])
    assert best[0] > 0.2


def test_the_mask_is_compared_as_displayed(tmp_path):
    """A radiograph that is stored mirrored, its mask in the stored grid; and a sentence about nothing."""
    prior = composite_prior((0, 0, 1, 0, 0, 0), (40, 60))
    write_radiograph(tmp_path / "a.dcm", np.full((40, 60), 90, np.uint8), patient_orientation=("R", "F"))
    Image.fromarray(((prior > 0.4)[:, ::-1] * 255).astype(np.uint8)).save(tmp_path / "a.png")
    item = {"image": str(tmp_path / "a.dcm"), "label": str(tmp_path / "a.png"), "laterality": "image"}
    said = item | {"text_prompt": "Unilateral pulmonary infection, lower left lung."}
    (row,) = score_prior([said], "radiograph", 0.4)
    assert row["dice"] == 1 and row["laterality_prediction"]
    (row,) = score_prior([item | {"text_prompt": "No pulmonary infection."}], "radiograph", 0.4)
    assert row["tp"] == row["fp"] == 0
