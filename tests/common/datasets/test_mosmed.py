import pytest

from common.datasets import list_dataset, load_dataset, mosmed
from common.errors import UserError


def test_layout(mosmed_root):
    assert [len(load_dataset("auto", mosmed_root, s)) for s in ("train", "validation", "test")] == [4, 1, 1]
    train = load_dataset("mosmed", mosmed_root.parent, "train")
    assert [item["subject"] for item in train] == [
        "jun_coronacases_case1",
        "jun_coronacases_case1",
        "morozov_study_0255",
        "bjorke_40",
    ]
    assert {item["laterality"] for item in train} == {"image"}
    assert train[0]["label"].endswith("Train_Folder/labelcol/Jun_coronacases_case1_115.png")
    assert list_dataset("auto", mosmed_root).kind == "axial_ct"


def test_subject_with_numbers_in_the_series():
    assert mosmed.subject("Jun_radiopaedia_10_85902_3_case12_113.png") == "jun_radiopaedia_10_85902_3_case12"


def test_sheet_beside_the_folder(mosmed_root):
    sheet = mosmed_root / "Val_Folder" / "Val_text.csv"
    sheet.rename(mosmed_root / "Val_text_MosMedData+.csv")
    assert len(load_dataset("mosmed", mosmed_root, "validation")) == 1


def test_no_sheet_and_two_sheets(mosmed_root):
    folder = mosmed_root / "Test_Folder"
    (folder / "other.csv").write_text("Image,text\n")
    with pytest.raises(UserError, match=r"Test_Folder: has 2 tables \(Test_text.xlsx, other.csv\); leave one"):
        load_dataset("mosmed", mosmed_root, "test")
    (folder / "other.csv").unlink()
    (folder / "Test_text.xlsx").unlink()
    with pytest.raises(UserError, match=r"Test_Folder: has no table; leave one Test_text.xlsx or .csv"):
        load_dataset("mosmed", mosmed_root, "test")


def test_missing_files_are_lines(mosmed_root):
    (mosmed_root / "Train_Folder/labelcol/bjorke_40.png").unlink()
    with pytest.raises(UserError, match=r"Train_text.xlsx:5: no mask bjorke_40.png in Train_Folder/labelcol"):
        load_dataset("mosmed", mosmed_root, "train")
