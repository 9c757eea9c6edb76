"""The data list of ``bundle run inferring``, and how it names masks."""

import numpy as np
import pytest
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from monai.transforms import SaveImage
from PIL import Image

from common.batch import find_items, output_name
from common.errors import UserError, user_error


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


def test_items_of_inferring(folder, tmp_path, caplog):
    (tmp_path / "all.TXT").write_text("left\nlung\n")
    items = find_items(str(folder), str(tmp_path / "all.TXT"), laterality="patient")
    assert [item["image"].removeprefix(f"{folder}/") for item in items] == ["b.png", "broken.png", "deep/a.png"]
    assert items[0].keys() == {"image", "source", "text_prompt", "laterality"}
    assert {(item["text_prompt"], item["laterality"]) for item in items} == {("left lung", "patient")}
    assert caplog.messages == []


def test_sentences_of_a_table(folder, caplog):
    (folder / "p.csv").write_text("image,text,laterality\na.png,left lung,image\nz.png,right lung,image\n")
    items = find_items(str(folder), str(folder / "p.csv"))
    assert [item.get("text_prompt") for item in items] == [None, None, "left lung"]
    assert items[2]["laterality"] == "image"
    assert caplog.messages == [
        "2 of 3 images have no sentence: a network that takes one gets the default, which asserts disease everywhere",
        f"{folder}/p.csv: rows that belong to no image: 1, such as z.png",
    ]


def test_the_default_sentence_is_said(folder, caplog):
    assert find_items(str(folder))[0].keys() == {"image", "source"}
    assert [message[:34] for message in caplog.messages] == ["3 of 3 images have no sentence: a "]


@pytest.mark.parametrize(
    ("content", "laterality", "words"),
    [
        (b" \n", "patient", "p.txt: is empty; write the sentence"),
        (b"\xff\xfe", "patient", "p.txt: cannot be read as text"),
        (None, "patient", "p.txt: cannot be read as text"),
        (b"left lung", None, "whose left does it mean"),
    ],
)
def test_a_text_file_that_does_not_do(folder, content, laterality, words):
    if content is not None:
        (folder / "p.txt").write_bytes(content)
    with pytest.raises(UserError, match=words) as fault:
        find_items(str(folder), str(folder / "p.txt"), laterality)
    assert "\n" not in str(fault.value)


@pytest.mark.parametrize("key", ["text", "text_prompt"])
def test_a_sentence_is_no_id_of_the_configuration(folder, key):
    """MONAI's parser would evaluate it; nothing is run here, and it is not silently without effect either."""
    parser = ConfigParser({"imports": ["$from common.batch import find_items as _find_items"], key: "$[].append(1/0)",
                           "folder": str(folder), "data": "$_find_items(@folder)"})  # fmt: skip
    with pytest.raises(RuntimeError) as fault:
        parser.get_parsed_content("data")
    line = str(user_error(fault.value))
    assert line.startswith(f"--{key}: a sentence is not taken from the configuration") and "--prompts FILE" in line


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
