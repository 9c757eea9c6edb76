"""Rows, summary, table, files: the rules for empty masks one by one, and identities between the definitions."""

import csv
import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from common.errors import UserError
from common.metrics import COLUMNS, format_table, score_case, summarise, write_scores
from common.prompts import parse

SHAPE = (12, 16)
masks = arrays(bool, SHAPE)
sets = st.lists(st.tuples(masks, masks), min_size=1, max_size=6)


def box(top, bottom, left, right):
    mask = np.zeros(SHAPE, bool)
    mask[top:bottom, left:right] = True
    return mask


NONE, A, B = box(0, 0, 0, 0), box(2, 6, 2, 6), box(4, 8, 2, 6)  # A and B share 8 of 16 pixels each


def score(pred, truth, name="a.png", subject=None, **more):
    return score_case(pred, truth, case={"image": name, "subject": subject}, **more)


def scores(pairs):
    return [score(pred, truth, f"{i}.png") for i, (pred, truth) in enumerate(pairs)]


def summary(pairs, **more):
    return summarise(scores(pairs), resamples=50, **more)


def micro_loop(pairs):
    both = size = 0
    for pred, truth in pairs:
        for p, t in zip(pred.ravel().tolist(), truth.ravel().tolist(), strict=True):
            both += 1 if p and t else 0
            size += (1 if p else 0) + (1 if t else 0)
    return 2 * both / size if size else None


def mean_loop(pairs):
    values = []
    for pred, truth in pairs:
        if truth.any():
            both = sum(1 for p, t in zip(pred.ravel(), truth.ravel(), strict=True) if p and t)
            values.append(2 * both / (int(pred.sum()) + int(truth.sum())))
    return sum(values) / len(values) if values else None


@given(sets)
def test_both_dice_equal_loops(pairs):
    found = summary(pairs)["dice"]
    assert found["micro"]["value"] == pytest.approx(micro_loop(pairs))
    assert found["per_image"]["value"] == pytest.approx(mean_loop(pairs))


@given(sets)
def test_micro_iou_is_f_of_dice_and_the_mean_iou_at_least_that(pairs):
    found = summary(pairs)
    d, i = (found[name]["micro"]["value"] for name in ("dice", "iou"))
    if d is not None:
        assert i == pytest.approx(d / (2 - d))
    d, i = (found[name]["per_image"]["value"] for name in ("dice", "iou"))
    if d is not None:
        assert i >= d / (2 - d) - 1e-12


def test_a_row_has_the_columns_in_order_and_plain_values():
    row = score(A, B, spacing=(0.5, 0.25))
    assert tuple(row) == COLUMNS
    assert json.loads(json.dumps(row)) == row
    assert (row["tp"], row["fp"], row["fn"]) == (8, 8, 8)
    assert row["dice"] == 0.5 and row["iou"] == pytest.approx(1 / 3)
    assert (row["height"], row["width"], row["row_mm"], row["column_mm"]) == (12, 16, 0.5, 0.25)


def test_distances_in_mm_follow_the_spacing():
    row = score(box(2, 3, 2, 3), box(5, 6, 2, 3), spacing=(0.5, 0.25))
    assert (row["hd95_px"], row["assd_px"], row["hd95_mm"], row["assd_mm"]) == pytest.approx((3, 3, 1.5, 1.5))
    assert score(A, B)["hd95_mm"] is None


# --- empty masks, rule by rule


def test_empty_truth_has_no_per_image_score():
    for pred in (NONE, A):
        row = score(pred, NONE, spacing=(1, 1))
        assert row["empty_truth"] is True
        assert [row[k] for k in ("dice", "iou", "hd95_px", "assd_px", "hd95_mm", "assd_mm")] == [None] * 6
    found = summary([(A, A), (A, NONE)])
    for name in ("dice", "iou"):
        assert found[name]["per_image"]["value"] == 1 and found[name]["per_image"]["n"] == 1
    assert found["hd95"]["px"]["n"] == found["assd"]["px"]["n"] == 1


def test_empty_truth_stays_in_the_micro_sums():
    found = summary([(A, A), (A, NONE)])
    assert found["dice"]["micro"]["value"] == pytest.approx(2 * 16 / (2 * 16 + 16))
    assert found["dice"]["micro"]["n"] == 2


def test_lvits_rule_scores_empty_truth_0_even_when_the_prediction_is_empty_too():
    found = summary([(A, A), (A, NONE), (NONE, NONE), (A, B)])
    assert found["dice"]["lvit_rule"]["value"] == pytest.approx((1 + 0.5) / 4)
    assert found["iou"]["lvit_rule"]["value"] == pytest.approx((1 + 1 / 3) / 4)
    assert found["dice"]["lvit_rule"]["n"] == 4


def test_empty_truth_gives_the_specificity():
    found = summary([(A, A), (A, NONE), (NONE, NONE), (NONE, NONE)])
    assert found["specificity"]["value"] == pytest.approx(2 / 3) and found["specificity"]["n"] == 3
    assert found["empty_truth"] == 3


def test_a_missed_lesion_has_dice_0_and_the_diagonal():
    row = score(NONE, A, spacing=(0.5, 0.25))
    assert row["dice"] == row["iou"] == 0 and row["empty_prediction"] is True
    assert row["hd95_px"] == row["assd_px"] == math.hypot(12, 16) == 20
    assert row["hd95_mm"] == row["assd_mm"] == math.hypot(6, 4)
    assert score(np.zeros((224, 224)), np.eye(224))["hd95_px"] == pytest.approx(316.8, abs=0.05)


def test_missed_lesions_are_counted_and_lower_the_sensitivity():
    found = summary([(A, A), (NONE, A), (NONE, NONE), (B, A)])
    assert found["missed"] == 1
    assert found["sensitivity"]["value"] == pytest.approx(2 / 3) and found["sensitivity"]["n"] == 3
    assert found["dice"]["per_image"]["value"] == pytest.approx((1 + 0 + 0.5) / 3)


def test_what_nothing_is_known_of_is_none():
    found = summary([(NONE, NONE)])
    assert found["dice"]["per_image"] == {"value": None, "low": None, "high": None, "n": 0}
    assert found["dice"]["micro"]["value"] is None
    assert found["sensitivity"]["value"] is None and found["specificity"]["value"] == 1
    json.dumps(found, allow_nan=False)
    assert "nan" not in format_table(found)


def test_no_rows_are_refused():
    with pytest.raises(ValueError, match="no scores to summarise"):
        summarise([])


# --- subjects


def test_images_of_a_subject_are_drawn_together_and_nameless_ones_singly():
    pairs = [(A, A), (A, A), (A, B), (A, B)]
    together = summarise([score(*p, f"{i}.png", "one") for i, p in enumerate(pairs)])
    singly = summarise(scores(pairs))
    assert (together["subjects"], together["images_without_subject"]) == (1, 0)
    assert (singly["subjects"], singly["images_without_subject"]) == (4, 4)
    assert together["dice"]["per_image"]["low"] == together["dice"]["per_image"]["high"] == 0.75
    assert singly["dice"]["per_image"]["low"] < 0.75 < singly["dice"]["per_image"]["high"]


def test_the_interval_holds_the_value_and_follows_the_seed():
    pairs = [(A, A), (A, B), (NONE, A), (B, A), (A, NONE)] * 3
    found = summary(pairs)
    for statistic in (*found["dice"].values(), *found["iou"].values(), found["hd95"]["px"], found["specificity"]):
        assert statistic["low"] <= statistic["value"] <= statistic["high"]
    assert summary(pairs) == found
    assert summary(pairs, seed=1)["dice"]["micro"]["low"] != found["dice"]["micro"]["low"]


# --- sentence


def sentence_rows():
    left, right = np.zeros((224, 224), bool), np.zeros((224, 224), bool)
    left[120:150, 40:80] = right[120:150, 150:190] = True
    findings = parse("Unilateral pulmonary infection, one infected area, lower left lung.", "image")
    return [score(left, left, "1", findings=findings), score(right, left, "2", findings=findings)]


def test_the_ceiling_stands_beside_the_prediction():
    found = summarise(sentence_rows(), resamples=50)["consistency"]
    assert found["laterality"]["prediction"]["value"] == 0.5 and found["laterality"]["truth"]["value"] == 1
    assert found["unnamed_share"]["prediction"]["value"] == 0.5 and found["unnamed_share"]["truth"]["value"] == 0
    assert found["zone_bits"]["prediction"]["value"] == pytest.approx((1 + 4 / 6) / 2)
    assert found["zones_exact"]["prediction"]["value"] == 0.5 and found["count"]["prediction"]["value"] == 1


def test_a_refused_sentence_is_not_scored():
    refused = parse("lorem ipsum dolor", "image")
    assert not refused.understood
    row = score(A, A, findings=refused)
    assert row["laterality_prediction"] is None and row["zone_bits_truth"] is None


# --- table and files


def test_the_table_names_its_definitions():
    text = format_table(summarise(sentence_rows(), resamples=50))
    lines = {line.strip().split("  ")[0]: line for line in text.splitlines() if line.strip()}
    assert "50.00" in lines["Dice micro, %"] and "2TP/(2TP+FP+FN) of the sums" in lines["Dice micro, %"]
    assert "mean over the images with a lesion" in lines["Dice per image, %"]
    assert "0 where there is no lesion" in lines["Dice LViT's rule, %"]
    assert "both directed sets together" in lines["HD95, px"] and "HD95, mm" not in lines
    assert lines["sides, %"].index(" 50.00") < lines["sides, %"].index(" 100.00")
    assert "truth" in lines["Mask against sentence"] and "(ceiling)" in lines["Mask against sentence"]
    assert "2 images (224x224), 2 subjects (2 images name none" in text
    assert "50 resamples of subjects, seed 0" in text


def test_without_sentences_the_table_has_no_second_part():
    text = format_table(summary([(A, B)]))
    assert "sentence" not in text and "12x16" in text


def test_files_are_whole_and_read_back(tmp_path):
    rows = scores([(A, B), (NONE, A), (A, NONE)])
    rows[0]["text_prompt"] = 'lower "left"\nlung, é'
    found = summarise(rows, resamples=50)
    table, whole = write_scores(rows, found, tmp_path / "new" / "folder")
    back = list(csv.DictReader(table.open(encoding="utf-8", newline="")))
    assert tuple(back[0]) == COLUMNS and len(back) == 3
    assert back[0]["text_prompt"] == 'lower "left"\nlung, é' and float(back[0]["dice"]) == 0.5
    assert back[2]["dice"] == "" and back[2]["empty_truth"] == "True"
    assert json.loads(whole.read_text()) == found
    write_scores(rows[:1], summarise(rows[:1], resamples=50), table.parent)
    assert len(list(csv.DictReader(table.open(newline="")))) == 1
    assert sorted(p.name for p in table.parent.iterdir()) == ["scores.csv", "summary.json"]


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    rows = scores([(A, B)])
    table, _ = write_scores(rows, summarise(rows, resamples=50), tmp_path)
    old = table.read_bytes()

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("common.files.os.fsync", full)
    with pytest.raises(UserError, match=r"scores.csv: cannot be written .No space"):
        write_scores(rows * 2, summarise(rows, resamples=50), tmp_path)
    assert table.read_bytes() == old
    assert sorted(p.name for p in tmp_path.iterdir()) == ["scores.csv", "summary.json"]
