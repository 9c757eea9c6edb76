"""A small data set in QaTa-COV19's layout, and a scale that trains in a second."""

import csv
import shutil

import numpy as np
import pytest
from PIL import Image

from common.benchmark.protocols import Scale
from common.datasets import phantoms


@pytest.fixture(scope="session")
def qata_phantoms(tmp_path_factory):
    """40 phantoms as QaTa-COV19: 32 training and 8 validation rows, two images a subject."""
    root = tmp_path_factory.mktemp("benchmark") / "QaTa-COV19-v2"
    drawn = [phantoms.draw(index, 64, 0) for index in range(40)]
    for folder in ("Images", "Ground-truths"):
        (root / "Train Set" / folder).mkdir(parents=True)
    rows = []
    for index, phantom in enumerate(drawn):
        name = f"sub-s{index // 2}_ses-e{index}_run-1_bp-chest_vp-{'ll' if index % 8 == 7 else 'ap'}_cr.png"
        Image.fromarray(phantom.image).save(root / "Train Set" / "Images" / name)
        mask = Image.fromarray(phantom.mask.astype(np.uint8) * 255)
        mask.save(root / "Train Set" / "Ground-truths" / f"mask_{name}")
        rows.append({"Image": f"mask_{name}", "Description": phantom.findings.caption("image")})
    with (root / "train.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ("Image", "Description"))
        writer.writeheader()
        writer.writerows(rows)
    yield root
    shutil.rmtree(root)


TINY = Scale(
    "C",
    "small networks, two steps",
    ("demo",),
    {"image_size": [64, 64], "train_limit": 16, "val_limit": 4, "max_epochs": 2, "epoch_length": 1, "batch_size": 2},
    {"split": "validation", "limit": 4},
)
