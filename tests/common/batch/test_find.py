import numpy as np
import pytest
from monai.data import MetaTensor
from monai.transforms import SaveImage
from PIL import Image

from common.batch import check_output, find_images, find_items, output_name
from common.errors import UserError
from common.images import write_radiograph


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / ".hidden").mkdir()
    picture = Image.fromarray(np.zeros((8, 8), np.uint8))
    for name in ("b.png", "deep/a.png", ".hidden/c.png"):
        picture.save(tmp_path / name)
    picture.save(tmp_path / "named_as_text.txt", format="png")
    write_radiograph(tmp_path / "no_ending", np.zeros((8, 8), np.uint8))
    (tmp_path / "broken.png").write_bytes(b"")
    (tmp_path / "notes.txt").write_text("left lung")
    return tmp_path


def test_images_are_found_by_content_and_by_name(folder):
    images, others = find_images(folder)
    names = [path.relative_to(folder).as_posix() for path in images]
    assert names == ["b.png", "broken.png", "deep/a.png", "named_as_text.txt", "no_ending"]
    assert others == 1


def test_the_output_is_not_taken_for_input(folder):
    images, _ = find_images(folder, leave_out=folder / "deep")
    assert "a.png" not in {path.name for path in images}


def test_a_loop_of_links_ends(folder):
    (folder / "deep" / "up").symlink_to(folder)
    assert len(find_images(folder)[0]) == 5


def test_items_of_inferring(folder):
    items = find_items(str(folder), text="left lung", laterality="patient")
    assert len(items) == 5
    assert items[0].keys() == {"image", "source", "text_prompt", "laterality"}


def test_missing_and_empty_folders(tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        find_images(tmp_path / "none")
    with pytest.raises(UserError, match="holds no image"):
        find_items(str(tmp_path))


def test_an_output_that_holds_the_images_is_refused(folder):
    for output in (folder, folder.parent, folder / "deep" / ".."):
        for attempt in (check_output, lambda root, out: find_items(str(root), output=str(out))):
            with pytest.raises(UserError, match="give another output folder") as found:
                attempt(folder, output)
            assert "\n" not in str(found.value)
    check_output(folder, folder / "results")
    with pytest.raises(UserError, match="the images are in this folder"):
        check_output(folder / "b.png", folder)


def test_inferring_does_not_segment_its_own_masks(folder):
    assert len(find_items(str(folder), output=str(folder / "deep"))) == 4


def test_inferring_names_a_mask_by_the_whole_file_name(tmp_path):
    saver = SaveImage(tmp_path, "mask", ".png", separate_folder=False, data_root_dir="/in", print_log=False,
                      output_name_formatter=output_name)  # fmt: skip
    for name in ("a.png", "a.dcm", "no_ending", "deep/a.png", "v.nii.gz"):
        saver(MetaTensor(np.zeros((4, 4), np.uint8), meta={"filename_or_obj": f"/in/{name}"}))
    names = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.png"))
    assert names == ["a.dcm_mask.png", "a.png_mask.png", "deep/a.png_mask.png", "no_ending_mask.png",
                     "v.nii.gz_mask.png"]  # fmt: skip
