import pytest

from common.datasets.controls import with_control
from common.errors import UserError

ITEMS = [{"image": str(n), "text_prompt": f"sentence {n}", "laterality": "image"} for n in range(7)]


def test_none_changes_nothing():
    assert with_control(ITEMS, "none") == ITEMS


def test_default_takes_the_sentence_away():
    assert with_control(ITEMS, "default") == [{"image": i["image"], "laterality": "image"} for i in ITEMS]


def test_mirrored_reads_with_the_other_laterality():
    assert {i["laterality"] for i in with_control(ITEMS, "mirrored")} == {"patient"}
    assert {i["laterality"] for i in ITEMS} == {"image"}


@pytest.mark.parametrize("seed", range(5))
def test_shuffled_leaves_no_sentence_with_its_image(seed):
    out = with_control(ITEMS, "shuffled", seed)
    assert sorted(i["text_prompt"] for i in out) == [i["text_prompt"] for i in ITEMS]
    assert all(i["text_prompt"] != f"sentence {i['image']}" for i in out)
    assert out == with_control(ITEMS, "shuffled", seed)
    assert [i["image"] for i in out] == [i["image"] for i in ITEMS]


def test_refusals():
    with pytest.raises(UserError, match="control 'swapped': is not known; use one of none, default"):
        with_control(ITEMS, "swapped")
    with pytest.raises(UserError, match="at least two images"):
        with_control(ITEMS[:1], "shuffled")
