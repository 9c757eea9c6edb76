import numpy as np
import pytest
from PIL import Image

from common.batch import find_images, find_items
from common.batch.folder import names_of
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


def test_masks_never_share_a_name(tmp_path):
    images = [tmp_path / n for n in ("a.dcm", "a.dcm.png", "a.png", "v.nii.gz", "v.nii")]
    names = [name.as_posix() for name in names_of(images, tmp_path).values()]
    assert names == ["a.dcm.png", "a-2.dcm.png", "a.png", "v.mask.nii.gz", "v-2.mask.nii.gz"]
