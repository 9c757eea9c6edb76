"""Tiny data sets in each published layout."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

SENTENCE = "Unilateral pulmonary infection, one infected area, lower left lung."


def write_pair(image: Path, mask: Path, size=(56, 56), side="left", seed=0):
    """An image of noise and a mask with one square low on one side of the picture."""
    image.parent.mkdir(parents=True, exist_ok=True)
    mask.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng([seed, *image.name.encode()]).integers(0, 255, size, dtype=np.uint8)
    Image.fromarray(noise).save(image)
    lesion = np.zeros(size, np.uint8)
    column = 8 if side == "left" else size[1] - 18
    lesion[30:40, column : column + 10] = 255
    Image.fromarray(lesion).save(mask)


def write_table(path: Path, rows: list[dict]):
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pd.DataFrame(rows)
    table.to_csv(path, index=False) if path.suffix == ".csv" else table.to_excel(path, index=False)


@pytest.fixture
def qata_root(tmp_path) -> Path:
    """Ten training rows (two subjects, five covid images) and two test rows; the names differ in case."""
    root = tmp_path / "QaTa-COV19-v2"
    names = [f"covid_{k}" for k in range(5)]
    names += [f"sub-S{k % 2}_ses-E{k}_run-1_bp-chest_vp-ap_cr" for k in range(5)]
    for part, some in (("Train Set", names), ("Test Set", ["covid_90", "sub-S9_ses-E1_run-1_bp-chest_cr"])):
        for name in some:
            write_pair(
                root / part / "Images" / f"{name.lower()}.png",
                root / part / "Ground-truths" / f"mask_{name.lower()}.png",
            )
        sheet = "train.csv" if part == "Train Set" else "test.csv"
        write_table(root / sheet, [{"Image": f"mask_{n}.png", "Description": SENTENCE} for n in some])
    return root


@pytest.fixture
def mosmed_root(tmp_path) -> Path:
    root = tmp_path / "MosMedDataPlus"
    parts = {
        "Train": ["Jun_coronacases_case1_115", "Jun_coronacases_case1_116", "Morozov_study_0255_11", "bjorke_40"],
        "Val": ["Morozov_study_0260_18"],
        "Test": ["Jun_radiopaedia_10_85902_3_case12_113"],
    }
    for part, names in parts.items():
        folder = root / f"{part}_Folder"
        for name in names:
            write_pair(folder / "img" / f"{name}.png", folder / "labelcol" / f"{name}.png")
        suffix = "csv" if part == "Val" else "xlsx"
        text = "text" if part == "Val" else "Description"
        write_table(folder / f"{part}_text.{suffix}", [{"Image": f"{n}.png", text: SENTENCE} for n in names])
    return root


@pytest.fixture
def csv_root(tmp_path) -> Path:
    """A table of four rows with all columns; images in a folder, masks by relative path."""
    root = tmp_path / "mine"
    rows = []
    for k in range(4):
        write_pair(root / "images" / f"a{k}.png", root / "truth" / f"a{k}.png", side="left" if k % 2 else "right")
        side = {0: "right", 1: "right", 2: "right", 3: "left"}[k]  # row 1: the patient's right is the picture's left
        rows.append(
            {
                "Split": ("train", "train", "val", "test")[k],
                "image": f"a{k}.png",
                "mask": f"truth/a{k}.png",
                "text": SENTENCE.replace("left", side),
                "laterality": "patient" if k == 1 else "image",
                "subject": f"p{k // 2}",
            }
        )
    write_table(root / "captions.csv", rows)
    return root
