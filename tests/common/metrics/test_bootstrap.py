"""Intervals over subjects: against a plain loop, and do they cover what they say?"""

import time

import numpy as np
import pytest

from common.metrics.bootstrap import ratio_intervals


def plain(values, subjects, seed, resamples):
    """Draw subjects with replacement, take all their images, average: nothing shared with the code but the idea."""
    rng = np.random.default_rng(seed)
    names = sorted(set(subjects))
    means = []
    for _ in range(resamples):
        drawn = []
        for _ in names:
            name = names[rng.integers(len(names))]
            drawn += [v for v, s in zip(values, subjects, strict=True) if s == name]
        means.append(sum(drawn) / len(drawn))
    return np.percentile(means, [2.5, 97.5])


def mean_interval(values, subjects, seed=0, resamples=400):
    values = np.asarray(values, float)
    kw = {"seed": seed, "resamples": resamples, "level": 0.95}
    return ratio_intervals(values[None], np.ones((1, len(values))), subjects, **kw)[0]


def data(rng, subjects=25, images=6, spread=0.2):
    """Images of a subject share an offset; the true mean is .5."""
    offset = rng.normal(0, spread, subjects).repeat(images)
    return 0.5 + offset + rng.normal(0, 0.05, subjects * images), [
        f"s{i}" for i in range(subjects) for _ in range(images)
    ]


def test_the_interval_is_that_of_a_plain_loop():
    rng = np.random.default_rng(3)
    values, subjects = data(rng, 12, 3)
    values, subjects = values[:-2], subjects[:-2]  # subjects of unequal size
    fast, slow = mean_interval(values, subjects, resamples=4000), plain(values, subjects, 1, 4000)
    width = slow[1] - slow[0]
    assert np.abs(fast - slow).max() < 0.06 * width


def test_95_percent_cover_and_only_with_whole_subjects():
    rng = np.random.default_rng(0)
    by_subject = by_image = 0
    for _ in range(300):
        values, subjects = data(rng)
        low, high = mean_interval(values, subjects)
        by_subject += low <= 0.5 <= high
        low, high = mean_interval(values, range(len(values)))
        by_image += low <= 0.5 <= high
    assert 0.88 <= by_subject / 300 <= 0.98
    assert by_image / 300 < 0.7  # images drawn singly: far too narrow


def test_a_ratio_of_sums_is_no_mean_of_ratios():
    top, bottom = np.array([[1.0, 90.0]]), np.array([[10.0, 100.0]])
    ends = ratio_intervals(top, bottom, ["a", "b"], seed=0, resamples=500, level=0.99)
    assert ends[0] == pytest.approx([0.1, 0.9])
    middle = ratio_intervals(top, bottom, ["a", "b"], seed=0, resamples=500, level=0.02)
    assert middle[0] == pytest.approx([91 / 110] * 2)  # both drawn once: half of the draws


def test_one_subject_has_no_spread_and_no_denominator_no_interval():
    top, bottom = np.array([[1.0, 0.0], [0.0, 0.0]]), np.array([[1.0, 1.0], [0.0, 0.0]])
    ends = ratio_intervals(top, bottom, ["a", "a"], seed=0, resamples=50, level=0.95)
    assert ends[0] == pytest.approx([0.5, 0.5])
    assert np.isnan(ends[1]).all()


def test_resamples_without_a_denominator_are_left_out():
    ends = ratio_intervals(
        np.array([[3.0, 0, 0]]), np.array([[4.0, 0, 0]]), list("abc"), seed=0, resamples=99, level=0.9
    )
    assert ends[0] == pytest.approx([0.75, 0.75])


def test_seed_and_order():
    values, subjects = data(np.random.default_rng(1))
    order = np.random.default_rng(2).permutation(len(values))
    assert (mean_interval(values, subjects) == mean_interval(values, subjects)).all()
    assert mean_interval(values[order], [subjects[i] for i in order]) == pytest.approx(mean_interval(values, subjects))
    assert (mean_interval(values, subjects, seed=1) != mean_interval(values, subjects)).any()


def test_2000_resamples_of_2113_images_take_under_two_seconds():
    values = np.random.default_rng(0).random((30, 2113))
    start = time.process_time()
    ratio_intervals(values, np.ones_like(values), range(2113), seed=0, resamples=2000, level=0.95)
    assert time.process_time() - start < 2
