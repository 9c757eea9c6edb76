import pytest

from common.datasets import list_dataset, load_dataset
from tests.common.datasets.conftest import write_pair, write_table


def _write(root, images, masks):
    write_pair(root / images / "x.jpg", root / masks / "x.png")
    text = "one small white round polyp, located in left of the image"
    write_table(root / "captions.csv", [{"split": "test", "image": "x.png", "mask": "x.png", "text": text}])


@pytest.mark.parametrize(
    ("folder", "name", "images", "masks"),
    [
        ("Kvasir-SEG", "kvasir", "images", "masks"),
        ("CVC-ClinicDB", "clinicdb", "PNG/Original", "PNG/Ground Truth"),
    ],
)
def test_layouts(tmp_path, folder, name, images, masks):
    _write(tmp_path / folder, images, masks)
    listing = list_dataset("auto", tmp_path)
    assert (listing.name, listing.grammar, listing.kind, listing.faults) == (name, "polyp", "polyp", [])
    (item,) = load_dataset("auto", tmp_path / folder, "test")
    assert item["laterality"] == "image"
    assert item["image"].endswith(f"{folder}/{images}/x.jpg")


def test_any_folder_when_named(tmp_path):
    _write(tmp_path / "polyps", "images", "masks")
    assert list_dataset("kvasir", tmp_path / "polyps").name == "kvasir"


@pytest.mark.real
def test_real_files(kvasir_dir):
    assert [len(load_dataset("auto", kvasir_dir, s)) for s in ("train", "validation")] == [800, 100]
