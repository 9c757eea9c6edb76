"""DICOM structured reports as prompts."""

import pydicom
import pytest

from common.batch import Prompts, find

BASIC = "1.2.840.10008.5.1.4.1.1.88.11"


def item(kind, title, words=None, content=()):
    out = pydicom.Dataset()
    out.ValueType = kind
    name = pydicom.Dataset()
    name.CodeValue, name.CodingSchemeDesignator, name.CodeMeaning = "1", "DCM", title
    out.ConceptNameCodeSequence = [name]
    if words is not None:
        out.TextValue = words
    if content:
        out.ContentSequence = list(content)
    return out


@pytest.fixture
def report(tmp_path):
    """Write a report of study 1."""

    def write(name, content, uid=None, **elements):
        dataset = item("CONTAINER", "Radiology Report", content=content)
        dataset.file_meta = pydicom.dataset.FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
        dataset.SOPClassUID, dataset.SOPInstanceUID = BASIC, uid or f"1.9.{len(name)}"
        dataset.StudyInstanceUID, dataset.Modality, dataset.PatientID = "1.1", "SR", "P"
        for key, value in elements.items():
            setattr(dataset, key, value)
        dataset.save_as(tmp_path / name, enforce_file_format=True)
        return dataset

    return write


@pytest.fixture
def told(tmp_path, radiograph, radiographs):
    """The sentence of an image of study 1, and why there is none."""

    def run(**more):
        for name, study in (("image", "1.1"), ("other", "1.2")):
            radiograph(tmp_path / name, StudyInstanceUID=study, PatientID="P")
        found = find(tmp_path, radiographs).found
        prompts = Prompts(more.pop("path", None), reports=True, **more)
        given = prompts.assign(found)
        assert given["other"] == prompts.default
        return given["image"], prompts.problems.get("image", "")

    return run


def test_findings_and_impression(report, told):
    report("sr", [
        item("TEXT", "History", "cough"),
        item("CONTAINER", "Findings", content=[item("TEXT", "Finding", "Opacity in the\nright lower lobe.")]),
        item("TEXT", "Impression", "Pneumonia."),
    ])  # fmt: skip
    assert told() == (("Opacity in the right lower lobe. Pneumonia.", "patient", "sr"), "")
    # the report is the patient's, whatever other sentences are
    assert told(text="rest", laterality="image")[0].laterality == "patient"


def test_without_titles_all_words(report, told):
    report("sr", [item("TEXT", "Report", "Opacity."), item("TEXT", "Addendum", "Left lung."), item("NUM", "Dose")])
    assert told()[0].text == "Opacity. Left lung."


def test_precedence(report, told, tmp_path):
    report("sr", [item("TEXT", "Findings", "report")])
    assert told(text="option", laterality="patient")[0].source == "sr"
    (tmp_path / "image.txt").write_text("beside")
    assert told(text="option", laterality="patient", beside=True)[0].source == "txt"
    (tmp_path / "p.csv").write_text("image,text\nimage,table\n")
    assert told(path=tmp_path / "p.csv", laterality="patient", beside=True)[0].source == "csv"


def test_several_reports(report, told):
    first = report("sr", [item("TEXT", "Findings", "first")], uid="1.9.1")
    report("sr2", [item("TEXT", "Findings", "first")], uid="1.9.2")
    assert told()[0].text == "first"
    report("sr2", [item("TEXT", "Findings", "second")], uid="1.9.2")
    assert told(text="rest", laterality="patient") == (
        ("rest", "patient", "option"), "2 structured reports of its study differ: none is used",
    )  # fmt: skip
    report("sr2", [item("TEXT", "Findings", "second")], uid="1.9.2", VerificationFlag="VERIFIED")
    assert told()[0].text == "second"
    reference, series, study = (pydicom.Dataset() for _ in range(3))
    reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = BASIC, first.SOPInstanceUID
    series.ReferencedSOPSequence, study.ReferencedSeriesSequence = [reference], [series]
    report("sr2", [item("TEXT", "Findings", "second")], uid="1.9.2", PredecessorDocumentsSequence=[study])
    assert told()[0].text == "second"


def test_reports_that_are_not_used(report, told, tmp_path):
    report("sr", [item("TEXT", "Findings", "x")], PatientID="Q")
    assert told() == (None, "the structured report of its study has another PatientID: not used")
    report("sr", [item("TEXT", "Findings", "x")], SOPClassUID="1.2.840.10008.5.1.4.1.1.88.67")
    assert told() == (None, "")
    report("sr", [item("NUM", "Findings")])
    assert told() == (None, "")
    deep = item("TEXT", "Findings", "far below")
    for _ in range(60):
        deep = item("CONTAINER", "Findings", content=[deep])
    report("sr", [deep])
    assert told() == (None, "")
    with (tmp_path / "sr").open("ab") as file:
        file.truncate(2**24)
    assert told() == (None, "the structured report sr cannot be read")


def test_another_class_and_coding(tmp_path, told, report):
    report("sr", [item("CONTAINER", "Findings", content=[item("TEXT", "Finding", "Left lung.")])],
           SOPClassUID="1.2.840.10008.5.1.4.1.1.88.33")  # fmt: skip
    dataset = pydicom.dcmread(tmp_path / "sr")
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.ImplicitVRLittleEndian
    dataset.save_as(tmp_path / "sr", implicit_vr=True, little_endian=True)
    assert told()[0].text == "Left lung."
