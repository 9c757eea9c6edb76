from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from common.benchmark.subsets import PARTS, flags, split_rows
from common.errors import UserError

LOWER_LEFT = "Unilateral pulmonary infection, one infected area, lower left lung."


class Data:
    """Items with masks of square lesions, and their rows of scores."""

    def __init__(self, folder):
        self.folder = folder

    def item(self, name, text=LOWER_LEFT, subject=None, source="qata", kind="radiograph", sizes=(10,), **more):
        mask = np.zeros((100, 200), np.uint8)
        for number, size in enumerate(sizes):
            mask[20 : 20 + size, 50 * number : 50 * number + size] = 255
        label = self.folder / f"mask_{name}.png"
        Image.fromarray(mask).save(label)
        made = {"image": str(self.folder / f"{name}.png"), "label": str(label), "text_prompt": text, "source": source}
        return made | {"laterality": "image", "subject": subject or name.lower(), "kind": kind} | more

    def row(self, item):
        lesion = int((np.asarray(Image.open(item["label"])) > 0).sum())
        # part of the lesion is found, and more
        size = {"height": 100, "width": 200, "tp": lesion // 2, "fn": lesion - lesion // 2, "fp": 7}
        return {"image": item["image"], "empty_truth": not lesion, "text_prompt": "whatever was shown"} | size


@pytest.fixture
def data(tmp_path):
    return Data(tmp_path)


def names(parts):
    return {part: [Path(row["image"]).stem for row in rows] for part, rows in parts.items()}


def test_sentences_of_training(data):
    training = [
        data.item("t0", "Unilateral pulmonary infection, one infected area, lower left lung."),
        data.item("t1", "Bilateral pulmonary infection, two infected areas, upper left lung and upper right lung."),
    ]
    items = [
        data.item("same", "  unilateral pulmonary infection,  ONE infected area,\tlower left lung."),
        data.item("typo", "Unilateral pulmonary infection, one infected area, lowerl left lung."),
        data.item("other", "Unilateral pulmonary infection, one infected area, lower right lung."),
        data.item("patient", LOWER_LEFT, laterality="patient"),
        data.item("no", "Nothing that a grammar knows: qwertz."),
    ]
    parts = names(split_rows([data.row(item) for item in items], items, training))
    assert parts["sentence seen in training"] == ["same"]
    assert parts["sentence not seen in training"] == ["typo", "other", "patient", "no"]
    assert parts["canonical sentence seen in training"] == ["same", "typo"]
    assert parts["canonical sentence not seen in training"] == ["other", "patient"]


def test_the_patients_side_is_another_sentence(data):
    training = [data.item("t", "One infected area, lower right lung.")]
    item = data.item("a", "One infected area, lower left lung.", laterality="patient")
    (found,) = flags([data.row(item)], [item], training)
    assert (found["sentence"], found["canonical"]) == (False, True)


def test_subjects_and_views_of_qata(data):
    training = [
        data.item("sub-S1_ses-E1_run-1_bp-chest_vp-ap_cr", subject="sub-s1"),
        data.item("covid_1"),
    ]
    items = [
        data.item("sub-S1_ses-E2_run-1_bp-chest_vp-ap_cr", subject="sub-s1"),
        data.item("sub-S2_ses-E3_run-1_bp-chest_vp-pa_dx", subject="sub-s2"),
        data.item("sub-S2_ses-E3_run-2_bp-chest_VP-LL_dx", subject="sub-s2"),
        data.item("sub-S3_ses-E4_run-1_bp-chest_cr", subject="sub-s3"),
        data.item("covid_2"),
    ]
    parts = split_rows([data.row(item) for item in items], items, training)
    numbers = {
        name: [items.index(i) for i in items for r in rows if r["image"] == i["image"]] for name, rows in parts.items()
    }
    assert numbers["subject also in training"] == [0]
    assert numbers["subject not in training"] == [1, 2, 3]
    assert numbers["subject not told"] == [4]
    assert numbers["frontal view"] == [0, 1]
    assert numbers["lateral view"] == [2]
    assert numbers["view not told"] == [3, 4]


def test_sizes_and_numbers_of_lesions(data):
    sizes = {
        "a": (3,), "b": (4, 4), "c": (5,), "d": (10,), "e": (11, 11, 11), "f": (12,), "g": (20, 20, 20, 20), "h": (40,),
        "i": (41,), "none": (),
    }  # fmt: skip
    items = [data.item(name, sizes=size) for name, size in sizes.items()]
    parts = names(split_rows([data.row(item) for item in items], items, items))
    assert parts["small lesions"] == ["a", "b", "c"]
    assert parts["medium lesions"] == ["d", "e", "f"]
    assert parts["large lesions"] == ["g", "h", "i"]
    assert parts["no lesion"] == ["none"]
    assert parts["two lesions"] == ["b"]
    assert parts["three or more lesions"] == ["e", "g"]
    assert "none" not in parts["one lesion"]


@pytest.mark.parametrize(
    ("source", "kind", "name", "subject", "text"),
    [
        ("qata", "radiograph", "covid_3", None, LOWER_LEFT),
        ("mosmed", "axial_ct", "Morozov_study_0255_11", "morozov_study_0255", LOWER_LEFT),
        ("kvasir", "polyp", "cju0", None, "one small polyp located in top left of the image"),
        ("clinicdb", "polyp", "68", "sequence_04", "one small polyp located in top left of the image"),
    ],
)
def test_every_data_set(data, source, kind, name, subject, text):
    item = data.item(name, text, subject, source, kind)
    parts = split_rows([data.row(item)], [item], [item])
    assert {"sentence seen in training", "canonical sentence seen in training", "one lesion"} <= parts.keys()
    assert ("subject also in training" in parts) == (subject is not None)
    assert not any("view" in part or "told" in part for part in parts)
    assert list(parts) == [part for names in PARTS.values() for part in names.values() if part in parts]


def test_no_row_is_lost_with_several_seeds_and_sentences(data):
    """An image with two sentences, scored with two seeds: the rows are those of the items in turn."""
    one = data.item("a")
    two = one | {"text_prompt": "Unilateral pulmonary infection, one infected area, upper right lung."}
    rows = [data.row(one) | {"prompt": text} for _ in range(2) for text in ("first", "second")]
    parts = split_rows(rows, [one, two], [one])
    assert [row["prompt"] for row in parts["sentence seen in training"]] == ["first"] * 2
    assert [row["prompt"] for row in parts["sentence not seen in training"]] == ["second"] * 2


def test_scores_of_another_machine_are_matched_by_the_files_name(data):
    items = [data.item("a"), data.item("b", "Another sentence.")]
    rows = [data.row(item) | {"image": f"/elsewhere/{Path(item['image']).name}"} for item in reversed(items)]
    assert names(split_rows(rows, items, items[:1]))["sentence seen in training"] == ["a"]


def test_other_data_are_refused(data):
    items = [data.item("a"), data.item("b")]
    with pytest.raises(UserError, match=r"b\.png: is scored but is none of the 1 rows of the data; give the data set"):
        split_rows([data.row(item) for item in items], items[:1], items)
