import random

import pytest

from common.datasets.splits import FRACTIONS, fraction_rows, limit_rows
from common.errors import UserError

NAMES = [f"n{k:04d}" for k in range(5716)]


def test_counts_of_the_papers():
    assert [len(fraction_rows(NAMES, f)) for f in FRACTIONS] == [57, 114, 286, 572, 857, 1429, 2858, 5716]
    mosmed = NAMES[:2183]
    assert [len(fraction_rows(mosmed, f)) for f in FRACTIONS] == [22, 44, 109, 218, 327, 546, 1092, 2183]
    assert [len(fraction_rows(mosmed, f, draw="sorted")) for f in FRACTIONS[:-1]] == [21, 43, 109, 218, 327, 545, 1091]


def test_draw_is_that_of_the_papers():
    order = list(range(5716))
    random.Random(42).shuffle(order)
    assert fraction_rows(NAMES, 0.01) == sorted(order[:57])


def test_sorted_rule_does_not_depend_on_the_order_of_rows():
    mixed = NAMES[::-1]
    one = {NAMES[row] for row in fraction_rows(NAMES, 0.05, draw="sorted")}
    two = {mixed[row] for row in fraction_rows(mixed, 0.05, draw="sorted")}
    assert one == two
    assert one != {mixed[row] for row in fraction_rows(mixed, 0.05)}


def test_nested_and_seeded():
    small, large = fraction_rows(NAMES, 0.02), fraction_rows(NAMES, 0.25)
    assert set(small) < set(large)
    assert large == sorted(large)
    assert fraction_rows(NAMES, 0.02, seed=1) != small


def test_other_fraction_is_refused():
    with pytest.raises(UserError, match=r"fraction: 0\.03 is none of the label fractions; use one of 0\.01, "):
        fraction_rows(NAMES, 0.03)


def test_other_draw_is_refused():
    with pytest.raises(UserError, match="draw: 'floor' is no way to draw a fraction; use one of rounded, sorted"):
        fraction_rows(NAMES, 1.0, draw="floor")


def test_limit():
    assert limit_rows(10, None) == limit_rows(10, 20) == list(range(10))
    rows = limit_rows(1000, 50, seed=3)
    assert len(set(rows)) == 50
    assert rows == sorted(rows) == limit_rows(1000, 50, seed=3) != limit_rows(1000, 50, seed=4)
    with pytest.raises(UserError, match="limit: 0 rows cannot be drawn"):
        limit_rows(10, 0)
