"""The data list of ``bundle run inferring``, and how it names masks."""

import numpy as np
import pytest
from monai.data import MetaTensor
from monai.transforms import SaveImage
from PIL import Image

from common.batch import find_items, output_name
from common.errors import UserError


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "in"
    (root / "deep").mkdir(parents=True)
    picture = Image.fromarray(np.zeros((8, 8), np.uint8))
    for name in ("b.png", "deep/a.png"):
        picture.save(root / name)
    (root / "broken.png").write_bytes(b"")
    (root / "notes.txt").write_text("left lung")
    (root / "deep" / "up").symlink_to(root)
    return root


def test_items_of_inferring(folder):
    items = find_items(str(folder), text="left lung", laterality="patient")
    assert [item["image"].removeprefix(f"{folder}/") for item in items] == ["b.png", "broken.png", "deep/a.png"]
    assert items[0].keys() == {"image", "source", "text_prompt", "laterality"}
    assert find_items(str(folder))[0].keys() == {"image", "source"}


def test_sentences_of_a_table(folder):
    (folder / "p.csv").write_text("image,text,laterality\na.png,left lung,image\n")
    items = find_items(str(folder), str(folder / "p.csv"))
    assert [item.get("text_prompt") for item in items] == [None, None, "left lung"]
    assert items[2]["laterality"] == "image"


def test_empty_folders_and_outputs_that_hold_the_images(folder, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no image"):
        find_items(str(tmp_path / "empty"))
    with pytest.raises(UserError, match="give another output folder"):
        find_items(str(folder), output=str(folder.parent))


def test_inferring_does_not_segment_its_own_masks(folder):
    assert len(find_items(str(folder), output=str(folder / "deep"))) == 2


def test_inferring_names_a_mask_by_the_whole_file_name(tmp_path):
    saver = SaveImage(tmp_path, "mask", ".png", separate_folder=False, data_root_dir="/in", print_log=False,
                      output_name_formatter=output_name)  # fmt: skip
    for name in ("a.png", "a.dcm", "no_ending", "deep/a.png", "v.nii.gz"):
        saver(MetaTensor(np.zeros((4, 4), np.uint8), meta={"filename_or_obj": f"/in/{name}"}))
    names = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.png"))
    assert names == ["a.dcm_mask.png", "a.png_mask.png", "deep/a.png_mask.png", "no_ending_mask.png",
                     "v.nii.gz_mask.png"]  # fmt: skip
