"""Tables, and numbers between markers."""

import csv
import io

import pytest

from common.errors import UserError
from common.report import csv_table, fill_markers, markdown_table

ROWS = [{"bundle": "unet", "Dice": 79.024, "n": 3}, {"bundle": "a|b\nc", "Dice": None, "extra": 1}]
DOCUMENT = "# Title\n<!-- numbers:a -->\nold\n<!-- /numbers -->\nbetween\n<!-- numbers:b --><!-- /numbers -->\nend\n"


def test_markdown():
    assert markdown_table(ROWS, ["bundle", "Dice", "n"]) == (
        "| bundle | Dice | n |\n| --- | ---: | ---: |\n| unet | 79.02 | 3 |\n| a\\|b c |  |  |\n"
    )
    assert markdown_table([], ["a"]) == "| a |\n| --- |\n"


def test_csv_reads_back():
    text = csv_table([{"a": 'x,"y"\nz', "b": None, "c": 1}, {"a": 2}], ["b", "a"])
    assert text.splitlines()[0] == "b,a"
    assert list(csv.DictReader(io.StringIO(text))) == [{"b": "", "a": 'x,"y"\nz'}, {"b": "", "a": "2"}]


@pytest.fixture
def document(tmp_path):
    path = tmp_path / "README.md"
    path.write_text(DOCUMENT, encoding="utf-8")
    return path


def test_only_the_text_of_that_key_changes(document):
    assert fill_markers(document, "b", "| ü \\1 |\n") is True
    assert document.read_text(encoding="utf-8") == DOCUMENT.replace(
        "<!-- numbers:b --><!-- /numbers -->", "<!-- numbers:b -->\n| ü \\1 |\n<!-- /numbers -->"
    )
    assert fill_markers(document, "a", "new") is True
    assert "old" not in document.read_text(encoding="utf-8") and "ü" in document.read_text(encoding="utf-8")


def test_filling_twice_changes_nothing(document):
    fill_markers(document, "a", "new")
    before = document.read_bytes()
    assert fill_markers(document, "a", "new\n") is False
    assert document.read_bytes() == before and len(list(document.parent.iterdir())) == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("nothing", "0 markers '<!-- numbers:a -->'"),
        (DOCUMENT + DOCUMENT, "2 markers .* write exactly one pair"),
        ("<!-- numbers:a --> open", "1 markers .* 0 of them closed"),
        ("<!-- numbers:a --> open <!-- numbers:b --><!-- /numbers -->", "1 markers .* 0 of them closed"),
    ],
)
def test_markers_that_are_missing_double_or_open_are_refused(tmp_path, text, words):
    path = tmp_path / "card.md"
    path.write_text(text)
    with pytest.raises(UserError, match=f"card.md: {words}"):
        fill_markers(path, "a", "new")
    assert path.read_text() == text


def test_text_with_a_marker_and_missing_documents_are_refused(document, tmp_path):
    with pytest.raises(UserError, match="holds a marker itself"):
        fill_markers(document, "a", "<!-- /numbers -->")
    with pytest.raises(UserError, match=r"none\.md: no such document"):
        fill_markers(tmp_path / "none.md", "a", "x")
