from pathlib import Path

import pytest

from common.batch import Prompts
from common.errors import UserError


def table(folder: Path, text: str) -> Path:
    path = folder / "prompts.csv"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def images(tmp_path):
    paths = [tmp_path / name for name in ("a/1.png", "b/1.png", "b/2.dcm")]
    for path in paths:
        path.parent.mkdir(exist_ok=True)
        path.touch()
    return paths


def test_by_path_and_by_the_only_file_of_a_name(tmp_path, images):
    path = table(tmp_path, "image,text,laterality\na/1.png,first,image\n2.dcm,second,\n")
    prompts = Prompts(path, laterality="patient")
    found = prompts.assign(images, tmp_path)
    assert found == {images[0]: ("first", "image"), images[1]: None, images[2]: ("second", "patient")}
    assert prompts.unused() == []


def test_a_name_of_two_images_is_refused(tmp_path, images):
    prompts = Prompts(table(tmp_path, "image,text\n1.png,first\n"), laterality="image")
    with pytest.raises(UserError, match=r"'1.png' could be a/1.png or b/1.png; write the path"):
        prompts.assign(images, tmp_path)


def test_one_sentence_for_the_others(tmp_path, images):
    prompts = Prompts(table(tmp_path, "image,text\na/1.png,first\nz.png,lost\n"), "rest", "patient")
    assert [p.text for p in prompts.assign(images, tmp_path).values()] == ["first", "rest", "rest"]
    assert prompts.unused() == ["z.png"]


def test_a_blank_sentence_is_none(tmp_path, images):
    for blank in ("", "  ", "\n"):
        assert set(Prompts(None, blank).assign(images, tmp_path).values()) == {None}


@pytest.mark.parametrize(
    ("text", "laterality", "words"),
    [
        ("image,text\na.png,left lung\n", None, "line 2: whose left does it mean"),
        ("image,text,laterality\na.png,left lung,left\n", None, "laterality 'left' is not known"),
        ("file,text\na.png,x\n", "patient", "has no column image"),
        ("image,text\n,x\n", "patient", "line 2: names no image"),
        ("image,text\na.png,x\na.png,y\n", "patient", "line 3: a.png has a sentence already"),
        ("image,text\na.png,x\n", "both", "--laterality both: is not known"),
    ],
)
def test_refusals_are_one_line(tmp_path, text, laterality, words):
    with pytest.raises(UserError, match=words) as found:
        Prompts(table(tmp_path, text), laterality=laterality)
    assert "\n" not in str(found.value)


def test_missing_and_binary_tables(tmp_path):
    with pytest.raises(UserError, match="cannot be read"):
        Prompts(tmp_path / "none.csv")
    (tmp_path / "x.csv").write_bytes(b"\xff\xfe\x00image")
    with pytest.raises(UserError, match="no CSV in UTF-8"):
        Prompts(tmp_path / "x.csv")
