from pathlib import Path

import pytest

from common.datasets.listing import Files, child, need_columns, read_sheet
from common.errors import UserError

COLUMNS = {"image": ("image",), "text": ("description", "text")}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252"])
def test_csv_in_the_encodings_that_people_have(tmp_path, encoding):
    path = tmp_path / "t.csv"
    path.write_bytes(" Image ,Description,more\na.png,naïve lung ,1\nNA,,2\n".encode(encoding))
    assert read_sheet(path, COLUMNS) == [{"image": "a.png", "text": "naïve lung"}, {"image": "NA", "text": ""}]


def test_first_alternative_of_a_column_wins(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("image,text,description\na,second,first\n")
    assert read_sheet(path, COLUMNS)[0]["text"] == "first"


def test_broken_table_is_one_line(tmp_path):
    path = tmp_path / "t.xlsx"
    path.write_bytes(b"no spreadsheet")
    with pytest.raises(UserError, match=r"t\.xlsx: cannot be read as a table .*save it as CSV in UTF-8"):
        read_sheet(path, COLUMNS)


def test_a_ragged_table_is_one_line(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("image,text\na.png,x\nb.png,x,y,z\n")
    with pytest.raises(UserError, match=r"t\.csv: cannot be read as a table \(.*line 3.*\); save it as") as caught:
        read_sheet(path, COLUMNS)
    assert len(str(caught.value).splitlines()) == 1


def test_a_line_break_in_a_cell_is_a_space(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text('image,text\na.png,"lower left\nlung"\n')
    assert read_sheet(path, COLUMNS)[0]["text"] == "lower left lung"


def test_missing_column_and_rows_are_named():
    with pytest.raises(UserError, match=r"x.csv: has no column description or text; add it"):
        need_columns(Path("x.csv"), [{"image": "a"}], COLUMNS, "image", "text")
    with pytest.raises(UserError, match=r"x.csv: holds no rows"):
        need_columns(Path("x.csv"), [], COLUMNS, "image")


def test_files_by_name_then_by_stem(tmp_path):
    (tmp_path / "A_One.PNG").touch()
    (tmp_path / "a_one.txt").touch()
    (tmp_path / "b.jpg").touch()
    files = Files(tmp_path, None, tmp_path / "missing")
    assert files.find("a_one.png").name == "A_One.PNG"
    assert files.find("B.png").name == "b.jpg"
    assert files.find("c.png") is None
    assert child(tmp_path, "x", "B.JPG").name == "b.jpg"
    assert child(tmp_path / "missing", "b.jpg") is None
