"""Masks drawn by hand against sentences."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from common.datasets import load_dataset
from common.errors import UserError
from common.metrics.consistency import consistency
from common.prompts import parse


def draw(*boxes, size=224):
    """A mask with lesions in boxes (top, bottom, left, right), given at 224 x 224."""
    mask = np.zeros((size, size), bool)
    for box in boxes:
        top, bottom, left, right = (round(v * size / 224) for v in box)
        mask[top:bottom, left:right] = True
    return mask


def said(sentence, laterality="image", grammar="chest"):
    return parse(sentence, laterality, grammar)


LOWER_LEFT, LOWER_RIGHT = (120, 150, 40, 80), (120, 150, 150, 190)
BOTH = "Bilateral pulmonary infection, two infected areas, lower left lung and lower right lung."
LEFT = "Unilateral pulmonary infection, one infected area, lower left lung."


@pytest.mark.parametrize("size", [112, 224, 448])
def test_a_true_sentence_agrees_wholly(size):
    found = consistency(draw(LOWER_LEFT, LOWER_RIGHT, size=size), said(BOTH))
    assert found == {
        "laterality": True,
        "zone_bits": 1,
        "zones_exact": True,
        "count": True,
        "unnamed_share": 0,
    }


def test_the_other_side():
    found = consistency(draw(LOWER_RIGHT), said(LEFT))
    assert found == {
        "laterality": False, "zone_bits": pytest.approx(4 / 6), "zones_exact": False, "count": True, "unnamed_share": 1,
    }  # fmt: skip


def test_the_patients_left_is_the_right_of_the_picture():
    assert consistency(draw(LOWER_RIGHT), said(LEFT, "patient"))["laterality"] is True


def test_one_side_too_many():
    found = consistency(draw(LOWER_LEFT, (120, 150, 150, 160)), said(LEFT))
    assert found["laterality"] is False and found["count"] is False
    assert found["unnamed_share"] == pytest.approx(300 / 1500)
    assert found["zone_bits"] == pytest.approx(5 / 6)


def test_one_side_too_few():
    found = consistency(draw(LOWER_LEFT), said(BOTH))
    assert found["laterality"] is False and found["unnamed_share"] == 0


def test_an_empty_mask():
    found = consistency(draw(), said(LEFT))
    assert found["laterality"] is False and found["count"] is False and found["unnamed_share"] is None
    healthy = consistency(draw(), said("No pulmonary infection, zero infected areas."))
    assert healthy["laterality"] is True and healthy["count"] is True and healthy["zones_exact"] is True


@pytest.mark.parametrize(("size", "pixels"), [(224, 20), (112, 5), (448, 80)])
def test_a_speck_is_no_lesion_on_a_side_and_no_component(size, pixels):
    for n in (pixels - 1, pixels):
        mask = draw(LOWER_LEFT, size=size)
        mask[10, size - 1 - n : size - 1] = True
        found = consistency(mask, said(LEFT))
        assert found["laterality"] is found["count"] is (n < pixels)
        assert found["unnamed_share"] > 0


def test_a_sentence_without_count_has_no_agreement_of_counts():
    found = consistency(draw(LOWER_LEFT), said("Unilateral pulmonary infection, lower left lung."))
    assert found["count"] is None and found["laterality"] is True


def test_the_kind_of_image_moves_the_zones():
    mask = draw((90, 115, 40, 80))  # rows .40 to .51: middle of a radiograph's lung, top of an axial slice
    upper, middle = (
        said(f"Unilateral pulmonary infection, one infected area, {z} left lung.") for z in ("upper", "middle")
    )
    assert consistency(mask, upper, "axial_ct")["zones_exact"] is True
    assert consistency(mask, upper)["zones_exact"] is False
    assert consistency(draw((78, 98, 40, 80)), middle)["zones_exact"] is True


def test_polyps_have_positions_and_no_sides():
    found = consistency(
        draw((90, 130, 90, 120)),
        said("one small pink round polyp, located in center of the image", "image", "polyp"),
    )
    assert found == {
        "laterality": None,
        "zone_bits": 1,
        "zones_exact": True,
        "count": True,
        "unnamed_share": None,
    }


@pytest.mark.parametrize(("grammar", "kind"), [("polyp", "radiograph"), ("polyp", "axial_ct"), ("chest", "polyp")])
def test_a_kind_of_another_grammar_is_refused(grammar, kind):
    sentence = LEFT if grammar == "chest" else "one small pink round polyp, located in center of the image"
    with pytest.raises(UserError, match=f"kind of image '{kind}': its sentences are of .*, these of '{grammar}'; give"):
        consistency(draw(LOWER_LEFT), said(sentence, "image", grammar), kind)


@given(st.lists(st.tuples(st.integers(0, 200), st.integers(0, 200)), max_size=4), st.integers(1, 63))
def test_mirroring_picture_and_sentence_changes_nothing(corners, code):
    mask = draw(*((a, a + 20, b, b + 20) for a, b in corners))
    words = [" ".join(w for i, w in enumerate(("upper", "middle", "lower")) if code >> (3 * s + i) & 1) for s in (0, 1)]
    phrases = [f"{zones} {side} lung" for zones, side in zip(words, ("left", "right"), strict=True) if zones]
    extent = "Bilateral" if len(phrases) == 2 else "Unilateral"
    sentence = f"{extent} pulmonary infection, two infected areas, {' and '.join(phrases)}."
    findings = said(sentence)
    assert consistency(mask[:, ::-1], findings.mirrored()) == consistency(mask, findings)


@pytest.mark.real
def test_the_ceilings_of_qata(qata_dir):
    """On ground truth of 600 images: sides and count as the specification measured them on all of them."""
    found = []
    for row in load_dataset("qata", qata_dir, "trainval", limit=600):
        mask = np.asarray(Image.open(row["label"]).convert("L")) > 127
        findings = said(row["text_prompt"], row["laterality"])
        if findings.understood:
            found.append(consistency(mask, findings))
    assert len(found) > 590
    mean = {name: np.mean([one[name] for one in found if one[name] is not None]) for name in found[0]}
    assert mean["laterality"] > 0.97 and mean["count"] > 0.95 and mean["unnamed_share"] < 0.02
    assert mean["zone_bits"] > 0.87 and mean["zones_exact"] > 0.55
