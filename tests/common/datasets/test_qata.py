import json

import pytest
from PIL import Image

from common.datasets import list_dataset, load_dataset, qata
from common.errors import UserError


def test_splits_names_and_subjects(qata_root):
    train = load_dataset("qata", qata_root, "train")
    assert len(train) == 8
    assert len(load_dataset("qata", qata_root, "validation")) == 2
    assert len(load_dataset("qata", qata_root, "test")) == 2
    both = load_dataset("qata", qata_root, "trainval")
    assert both[:8] == train
    assert train[0]["label"].endswith("Train Set/Ground-truths/mask_covid_0.png")
    assert train[5]["image"].endswith("Images/sub-s0_ses-e0_run-1_bp-chest_vp-ap_cr.png")
    assert [item["subject"] for item in train] == [f"covid_{k}" for k in range(5)] + ["sub-s0", "sub-s1", "sub-s0"]
    assert {item["laterality"] for item in both} == {"image"}
    assert {item["source"] for item in both} == {"qata"}


@pytest.mark.parametrize("place", ["prompt/train.csv", "Train Set/Train_text_for_Covid19.xlsx", "TRAIN.xlsx"])
def test_sheets_where_people_put_them(qata_root, place):
    import pandas as pd

    table = pd.read_csv(qata_root / "train.csv")
    (qata_root / "train.csv").unlink()
    (qata_root / place).parent.mkdir(exist_ok=True)
    (table.to_csv if place.endswith("csv") else table.to_excel)(qata_root / place, index=False)
    assert len(load_dataset("qata", qata_root, "trainval")) == 10


def test_no_sheet(qata_root):
    (qata_root / "train.csv").unlink()
    with pytest.raises(UserError, match=r"has 'Train Set' but no train.csv with columns Image and Description"):
        load_dataset("qata", qata_root, "train")


def test_faults_are_lines(qata_root):
    (qata_root / "Train Set/Images/covid_1.png").unlink()
    (qata_root / "Train Set/Ground-truths/mask_covid_2.png").unlink()
    text = (qata_root / "train.csv").read_text().splitlines()
    text[4] = "mask_covid_3.png,"
    text[5] = "mask_covid_77.png,sentence"
    (qata_root / "train.csv").write_text("\n".join(text))
    lines = [fault.line for fault in list_dataset("qata", qata_root).faults]
    assert lines == [
        "train.csv:3: no image covid_1.png in Train Set/Images",
        "train.csv:4: no mask mask_covid_2.png in Train Set/Ground-truths",
        "train.csv:5: mask_covid_3.png has no sentence",
        "train.csv:6: no image covid_77.png in Train Set/Images",
        "train.csv:6: no mask mask_covid_77.png in Train Set/Ground-truths",
    ]
    with pytest.raises(UserError, match=r"5 faults in split train: train.csv:3: no image .* and 2 more; run 'python"):
        load_dataset("qata", qata_root, "train")
    assert len(load_dataset("qata", qata_root, "validation")) == 2  # its rows, counted before faults, are whole


def test_subject():
    assert qata.subject("sub-S09345_ses-E17880_run-1_bp-chest_vp-ap_dx.png") == "sub-s09345"
    assert qata.subject("covid_12.png") == "covid_12"


@pytest.mark.real
def test_real_files(qata_dir):
    train = load_dataset("auto", qata_dir, "train")
    validation = load_dataset("qata", qata_dir.parent, "validation")
    assert (len(train), len(validation)) == (5716, 1429)
    assert len({item["text_prompt"] for item in train + validation}) == 301
    assert not {item["subject"] for item in train} & {item["subject"] for item in validation}
    assert all("sub-" in item["image"] for item in validation)
    assert Image.open(train[0]["image"]).size == (224, 224)
    cleaned = json.loads((qata_dir / "annotation_zones.json").read_text())
    names = {row["mask"].lower() for row in cleaned}
    assert all(item["label"].rsplit("/", 1)[1] in names for item in train)


@pytest.mark.real
def test_one_percent_is_the_published_subset(qata_dir):
    names = [item["label"].rsplit("/", 1)[1] for item in load_dataset("qata", qata_dir, "train", fraction=0.01)]
    assert len(names) == 57
    # the covid images of Semi-MedRef's released split_labeled_0.01.json, in its order
    published = [1308, 1329, 1653, 1826, 1923, 2026, 2341, 2512, 2559, 2779, 3214, 3558, 3686, 3759, 3778, 393]
    published += [4127, 4274, 4283, 4343, 4513, 698, 7, 957, 995]
    assert [name for name in names if "covid" in name] == [f"mask_covid_{number}.png" for number in published]
