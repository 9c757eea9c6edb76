"""The CSV of sentences, and what is wrong with one."""

import pytest

from common.batch.table import read_table
from common.errors import UserError


def write(folder, text):
    path = folder / "prompts.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_rows(tmp_path):
    text = '\ufeffPatientID,text,image,laterality,date\n P1 ,"left, lower",,patient,x\n,right," a\nb.png",,\n'
    first, second = read_table(write(tmp_path, text))
    assert (first.patient, first.text, first.image, first.laterality, first.line) == (
        "P1",
        "left, lower",
        "",
        "patient",
        2,
    )
    assert (second.patient, second.image, second.line) == ("", " a\nb.png", 4)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("image,text,laterality\na.png,left lung,left\n", "line 2: laterality 'left' is not known; write 'patient'"),
        ("file,text\na.png,x\n", "has no column image; the header is image,text"),
        ("PatientID\n7\n", "has no column text"),
        ("", "has no column image and text"),
        ("image,text\n,x\n", "line 2: names no image"),
        ("image,text\na.png,x\na.png,y\n", "line 3: a.png has a sentence already"),
        ("PatientID,AccessionNumber,text\n1,2,x\n1,2,y\n", "line 3: what line 2 names has a sentence already"),
        ("image,text\na.png,left lung, lower zone\n", "line 2: has more cells than the header; put a sentence"),
        ('image,text\na.png,"left\n', "no CSV in UTF-8"),
    ],
)
def test_refusals_are_one_line(text, words, tmp_path):
    with pytest.raises(UserError, match=words) as found:
        read_table(write(tmp_path, text))
    assert "\n" not in str(found.value)


def test_the_same_row_twice_is_one(tmp_path):
    text = "AccessionNumber,text\nA1,left\nA1,left\n"
    assert len(read_table(write(tmp_path, text))) == 2


def test_missing_and_binary_tables(tmp_path):
    with pytest.raises(UserError, match="cannot be read"):
        read_table(tmp_path / "none.csv")
    (tmp_path / "x.csv").write_bytes(b"\xff\xfe\x00image")
    with pytest.raises(UserError, match="no CSV in UTF-8"):
        read_table(tmp_path / "x.csv")
