"""Paired tests against slow loops that share nothing with the code, and where the answer is known."""

import csv
import itertools
import json
import random
import statistics as plain

import numpy as np
import pytest

from common.benchmark.statistics import NO_DIFFERENCE, compare, family, holm, stratified
from common.errors import UserError
from common.metrics import read_scores, score_case, summarise, write_scores


def row(number, tp, fp, fn, subject=None, folder="/data"):
    whole = 2 * tp + fp + fn
    return {
        "image": f"{folder}/{number:03}.png", "subject": subject, "tp": tp, "fp": fp, "fn": fn,
        "dice": 2 * tp / whole if tp + fn else None,
    }  # fmt: skip


def evaluation(seed, images=40, better=0, subjects=None, folder="/data"):
    """Lesions of the same size for the same number of images whatever the seed; ``better`` more pixels are found."""
    sizes, noise = random.Random(7), random.Random(seed)
    rows = []
    for number in range(images):
        size = sizes.randrange(200, 2000)
        found = min(size, int(size * noise.uniform(0.6, 0.8)) + better)
        rows.append(row(number, found, noise.randrange(100), size - found, subjects and subjects[number], folder))
    return rows


def loop(first, second, statistic, resamples, seed):
    """The difference and its resamples: subjects drawn one by one, sums taken one by one."""
    draw = random.Random(seed)
    groups = {}
    for number, one in enumerate(first[0]):
        groups.setdefault(one["subject"] or one["image"], []).append(number)
    names = sorted(groups)

    def value(method, numbers):
        if statistic == "micro":
            top = bottom = 0
            for rows in method:
                for n in numbers:
                    top += 2 * rows[n]["tp"]
                    bottom += 2 * rows[n]["tp"] + rows[n]["fp"] + rows[n]["fn"]
            return top / bottom
        means = [sum(r[n]["dice"] for r in method) / len(method) for n in numbers if method[0][n]["dice"] is not None]
        return sum(means) / len(means)

    everything = range(len(first[0]))
    drawn = []
    for _ in range(resamples):
        numbers = [n for _ in names for n in groups[draw.choice(names)]]
        drawn.append(value(first, numbers) - value(second, numbers))
    return value(first, everything) - value(second, everything), np.percentile(drawn, [2.5, 97.5]), drawn


@pytest.mark.parametrize("statistic", ["micro", "per_image"])
def test_the_bootstrap_is_that_of_a_loop(statistic):
    subjects = [f"s{n // 3}" for n in range(40)]
    one = [evaluation(1, better=12, subjects=subjects), evaluation(2, better=12, subjects=subjects)]
    two = [evaluation(3, subjects=subjects)]
    for rows in (*one, *two):  # an image without lesion: in the micro sums alone
        rows[5] |= {"tp": 0, "fn": 0, "fp": 50, "dice": None}
    found = compare(one, two, resamples=4000)
    value, (low, high), drawn = loop(one, two, statistic, 4000, 1)
    assert found[statistic]["difference"] == pytest.approx(value, abs=1e-12)
    width = high - low
    assert found[statistic]["low"] == pytest.approx(low, abs=0.08 * width)
    assert found[statistic]["high"] == pytest.approx(high, abs=0.08 * width)
    p = 2 * min(sum(d <= 0 for d in drawn), sum(d >= 0 for d in drawn)) / len(drawn)
    assert found[statistic]["p"] == pytest.approx(p, abs=0.03)
    assert found["subjects"] == 14
    assert found["seeds"] == [2, 1]


def test_the_same_method_twice():
    found = compare([evaluation(1)], [evaluation(1)])
    for statistic in ("micro", "per_image"):
        one = found[statistic]
        assert (one["difference"], one["low"], one["high"], one["p"]) == (0, 0, 0, 1)
        assert one["verdict"] == NO_DIFFERENCE
    assert found["per_image"]["wilcoxon_p"] == 1
    json.dumps(found, allow_nan=False)


def test_a_shift_is_seen_and_has_a_sign():
    worse, better = [evaluation(1)], [evaluation(1, better=40)]
    for first, second, verdict, sign in ((better, worse, "first higher", 1), (worse, better, "second higher", -1)):
        found = compare(first, second)
        for statistic in ("micro", "per_image"):
            one = found[statistic]
            assert one["verdict"] == verdict
            assert sign * one["low"] > 0
            assert sign * one["high"] > 0
            assert one["p"] == pytest.approx(2 / 10_001)
            assert one["difference"] == pytest.approx(one["first"] - one["second"])
        assert found["per_image"]["wilcoxon_p"] < 1e-6


def test_values_are_those_of_the_summary():
    rows = [row | dict.fromkeys(_rest()) for row in evaluation(1)]
    for one in rows:
        one |= {"height": 9, "width": 9, "empty_truth": False, "empty_prediction": False, "iou": 0.5}
    found, summary = compare([rows], [evaluation(2)]), summarise(rows, resamples=20)
    for statistic in ("micro", "per_image"):
        assert found[statistic]["first"] == pytest.approx(summary["dice"][statistic]["value"])
    both = stratified({"all": rows, "none": []}, resamples=20)
    assert both == {"all": summary, "none": None}


def _rest():
    from common.metrics import COLUMNS

    return set(COLUMNS) - {"image", "subject", "tp", "fp", "fn", "dice"}


def test_images_of_a_subject_do_not_count_as_many():
    # ten images of each of eight subjects change together: that is eight observations
    first, second = [], []
    for subject, change in enumerate([60, 60, 60, 60, 60, -40, -40, -40]):
        for image in range(10):
            number = 10 * subject + image
            first.append(row(number, 500 + change, 50, 500 - change, f"s{subject}"))
            second.append(row(number, 500, 50, 500, f"s{subject}"))
    clustered = compare([first], [second])["per_image"]
    naive = compare([[{**r, "subject": None} for r in first]], [[{**r, "subject": None} for r in second]])["per_image"]
    assert clustered["difference"] == naive["difference"]
    assert clustered["high"] - clustered["low"] > 2 * (naive["high"] - naive["low"])
    assert clustered["verdict"] == NO_DIFFERENCE
    assert naive["verdict"] != NO_DIFFERENCE


def test_wilcoxon_against_all_signs():
    changes = [30, -10, 50, 70, -20, 90, 110]
    first = [row(n, 500 + c, 0, 500 - c) for n, c in enumerate(changes)]
    second = [row(n, 500, 0, 500) for n in range(len(changes))]
    sizes = [a["dice"] - b["dice"] for a, b in zip(first, second, strict=True)]
    ranks = [1 + sum(abs(o) < abs(s) for o in sizes) for s in sizes]
    sums = [sum(r for r, s in zip(ranks, sizes, strict=True) if (s > 0) == up) for up in (False, True)]
    every = [sum(r for r, on in zip(ranks, signs, strict=True) if on) for signs in itertools.product([0, 1], repeat=7)]
    p = min(1, 2 * sum(w <= min(sums) for w in every) / len(every))
    assert compare([first], [second])["per_image"]["wilcoxon_p"] == pytest.approx(p)


def test_a_difference_smaller_than_that_between_seeds_is_none():
    worse, better = evaluation(1), evaluation(1, better=40)
    alone = compare([better], [worse])["micro"]
    assert alone["between_seeds"] is None
    assert alone["verdict"] == "first higher"
    apart = compare([better, evaluation(1, better=80)], [worse])["micro"]
    assert apart["difference"] > apart["between_seeds"] > 0
    assert apart["verdict"] == "first higher"
    close = compare([worse, evaluation(1, better=80)], [evaluation(1, better=2)])["micro"]
    assert close["low"] > 0
    assert 0 < close["difference"] < close["between_seeds"]
    assert close["verdict"] == NO_DIFFERENCE
    assert (
        close["between_seeds"]
        == compare([evaluation(1, better=2)], [worse, evaluation(1, better=80)])["micro"]["between_seeds"]
    )


def test_images_are_matched_by_name_and_not_by_place():
    one, two = evaluation(1, folder="/data/set"), evaluation(2, folder="/elsewhere")
    there = compare([one], [two])
    random.Random(0).shuffle(two)
    assert compare([one], [two]) == there


@pytest.mark.parametrize("change", ["other", "fewer", "twice", "grid", "none"])
def test_other_images_are_refused(change):
    one, two = evaluation(1), evaluation(2)
    words = "40 images that are not the same"
    if change == "other":
        two[3]["image"] = "/data/new.png"
        words = "40 and 40 images that are not the same, such as 003.png in one of them alone"
    elif change == "fewer":
        two, words = two[:-1], "39 and 40 images that are not the same, such as 039.png"
    elif change == "twice":
        one[1]["image"] = two[1]["image"] = one[0]["image"]
    elif change == "grid":
        two[0]["fn"] += 1
        words = "score both methods in the same grid"
    else:
        two = None
        words = "a method without an evaluation cannot be compared"
    with pytest.raises(UserError, match=words):
        compare([one], [two] if two else [])


def test_no_lesion_has_no_per_image_dice():
    found = compare([[row(n, 0, 10, 0) for n in range(3)]], [[row(n, 0, 5, 0) for n in range(3)]])
    assert found["per_image"] is None
    assert found["micro"]["difference"] == 0
    nothing = compare([[row(0, 0, 0, 0)]], [[row(0, 0, 3, 0)]])
    assert nothing["micro"] is None


def test_holm():
    # by hand: sorted .01 .02 .03 .04 -> 4 x .01, 3 x .02, 2 x .03, then no smaller than the last
    assert holm([0.01, 0.04, 0.03, 0.02]) == pytest.approx([0.04, 0.06, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1, 1]
    assert holm([]) == []
    assert holm([0.03]) == [0.03]


def test_a_family_is_corrected_together():
    pairs = {f"m{n}": compare([evaluation(1, better=3 * n)], [evaluation(11)], resamples=1000) for n in range(5)}
    found = family(pairs)
    for statistic in ("micro", "per_image"):
        values = [pairs[name][statistic]["p"] for name in pairs]
        assert [found[name][statistic]["p_holm"] for name in found] == holm(values)
        for name in found:
            if found[name][statistic]["p_holm"] >= 0.05:
                assert found[name][statistic]["verdict"] == NO_DIFFERENCE
            assert "p_holm" not in pairs[name][statistic]
    assert all("wilcoxon_p_holm" in one["per_image"] for one in found.values())
    assert plain.mean(one["micro"]["p_holm"] for one in found.values()) > 0


def test_scores_come_back_as_they_were_written(tmp_path):
    truth = np.zeros((8, 8), bool)
    truth[2:5, 1:4] = True
    rows = [
        score_case(truth, truth, case={"image": "a.png", "subject": "s1", "text_prompt": "1"}, spacing=(0.5, 0.25)),
        score_case(truth, np.zeros_like(truth), case={"image": "b.png"}),
    ]
    path, _ = write_scores(rows, {}, tmp_path)
    assert read_scores(path) == rows
    assert [type(v) for v in read_scores(path)[0].values()] == [type(v) for v in rows[0].values()]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "is no table of scores"),
        ("a,b\n1,2\n", "its columns are not those of scores"),
        ("header", "holds no rows"),
        ("word", "is no table of scores"),
    ],
)
def test_what_is_no_table_of_scores(tmp_path, text, words):
    from common.metrics import COLUMNS

    path = tmp_path / "scores.csv"
    if text in ("header", "word"):
        with path.open("w", newline="") as file:
            table = csv.DictWriter(file, COLUMNS)
            table.writeheader()
            if text == "word":
                table.writerow(dict.fromkeys(COLUMNS, "many"))
    elif text:
        path.write_text(text)
    with pytest.raises(UserError, match=words):
        read_scores(path)
