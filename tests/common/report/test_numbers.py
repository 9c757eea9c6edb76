import json

import pytest

from common.errors import UserError
from common.report.numbers import numbers


def run(folder, seed, dice, sha="a"):
    weights = folder / "run" / "model.pt"
    weights.parent.mkdir(parents=True)
    value = {"value": dice, "low": 0, "high": 1, "n": 2}
    pair = {"micro": value, "per_image": value}
    (folder / "summary.json").write_text(
        json.dumps(
            {
                "weights": str(weights), "data": {"sha256": sha}, "images": 2, "split": "test", "grid": "source",
                "dice": pair, "iou": pair, "hd95": {"px": None}, "assd": {"px": value | {"value": 3.0}},
                "consistency": {"laterality": {"prediction": None}},
            }
        )
    )  # fmt: skip
    sidecar = {"seed": seed, "epoch": 2, "commit": "c" * 40, "versions": {"torch": "1"}, "device": "cpu"}
    weights.with_suffix(".json").write_text(json.dumps(sidecar | {"data": {"items": 9}}))
    (weights.parent / "history.csv").write_text("epoch,steps,seconds\n1,10,1.4\n2,20,1.4\n")
    return folder


def test_seeds_are_averaged_and_shown(tmp_path):
    text = numbers(
        {"A": [run(tmp_path / "0", 0, 0.5), run(tmp_path / "1", 1, 0.6)], "B": [run(tmp_path / "2", 0, 0.25)]}
    )
    lines = text.splitlines()
    assert "| A | 0, 1 | 2 | 55.00 (50.00, 60.00) | 55.00 (50.00, 60.00) |" in lines[2]
    assert lines[3].startswith("| B | 0 | 2 | 25.00 | 25.00 | 25.00 | 25.00 |  | 3.00 |")
    assert "A, seed 1: 9 training images, 20 steps in 3 s with validation, best epoch 2 of 2" in text


def test_weights_that_several_rows_share_are_told_once(tmp_path):
    first = run(tmp_path / "0", 0, 0.5)
    text = numbers({"A": [first], "A, mirrored": [first], "B": [run(tmp_path / "1", 0, 0.5)]})
    assert "- A (and rows below, of the same weights), seed 0: 9 training images" in text
    assert "- B, seed 0: " in text
    assert text.count("training images") == 2


def test_refusals(tmp_path):
    with pytest.raises(UserError, match="no evaluation with its weights"):
        numbers({"A": [tmp_path]})
    with pytest.raises(UserError, match="scored on different images"):
        numbers({"A": [run(tmp_path / "0", 0, 0.5), run(tmp_path / "1", 1, 0.6, sha="b")]})
