"""Headers of DICOM files in every coding, and what is damaged in them."""

import io
import tracemalloc
import zlib

import pydicom
import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian

from common.batch.header import scan


def deflated(path, tail=b""):
    """The file as deflated DICOM, ``tail`` behind its elements."""
    dataset = pydicom.dcmread(path)
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    file = io.BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    data = file.getvalue()
    start = 144 + int.from_bytes(data[140:144], "little")
    coder = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    inflated = zlib.decompress(data[start:], -zlib.MAX_WBITS)
    path.write_bytes(data[:start] + coder.compress(inflated + tail) + coder.flush())


def test_codings_say_the_same(tmp_path, radiograph, one, radiographs):
    told = {"SeriesInstanceUID": "1.2.1", "AccessionNumber": "A1", "PatientID": "P1", "StudyInstanceUID": "1.2"}
    told["SOPInstanceUID"] = "1.2.3"
    plain = scan(radiograph(tmp_path / "plain", **told))
    assert (plain.fault, plain.header.accession, plain.header.patient, plain.header.view) == ("", "A1", "P1", "PA")
    assert plain.orientation == "L\\F"
    assert scan(radiograph(tmp_path / "no_preamble", preamble=False, **told)) == plain
    path = radiograph(tmp_path / "deflated", **told)
    deflated(path)
    assert scan(path) == plain
    assert one(path, radiographs).refused == ""


def test_an_element_that_inflates_without_end_is_not_inflated(tmp_path, radiograph):
    path = radiograph(tmp_path / "bomb")
    deflated(path, tail=bytes(2**26))
    assert path.stat().st_size < 2**20
    tracemalloc.start()
    assert scan(path).fault == ""
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**25


def test_patients_of_every_script(tmp_path, radiograph):
    path = radiograph(tmp_path / "a", SpecificCharacterSet="ISO_IR 192", PatientID="Ünal-肺")
    assert scan(path).header.patient == "Ünal-肺"


def test_encrypted_attributes_leave_the_picture(tmp_path, radiograph):
    item = pydicom.Dataset()
    item.EncryptedContentTransferSyntaxUID, item.EncryptedContent = "1.2.840.10008.1.2.1", b"\1" * 64
    path = radiograph(tmp_path / "a", EncryptedAttributesSequence=[item], PatientID="")
    found = scan(path)
    assert (found.fault, found.header.patient) == ("", "")


@pytest.mark.parametrize(
    ("kept", "words"),
    [
        ("all elements but the pixels", "no pixels: the file ends before them; copy it again"),
        ("half of the elements", "no pixels"),
        ("file meta information", "no image that can be read here"),
        ("preamble", "no image that can be read here"),
    ],
)
def test_truncated(kept, words, tmp_path, radiograph):
    path = radiograph(tmp_path / "a")
    data = path.read_bytes()
    pixels, elements = data.index(b"\xe0\x7f\x10\x00OB"), data.index(b"\x08\x00\x08\x00CS")
    path.write_bytes(data[: {"p": 132, "f": elements, "h": (elements + pixels) // 2, "a": pixels}[kept[0]]])
    assert scan(path).fault.startswith(words)


def test_no_picture_by_class_alone(tmp_path, radiograph, one, radiographs):
    for uid, words in (
        ("1.2.840.10008.5.1.4.1.1.66.4", "raw data, a registration or a segmentation, not an image"),
        ("1.2.840.10008.5.1.4.1.1.88.33", "a structured report, not an image"),
        ("1.2.840.10008.5.1.4.1.1.11.1", "a presentation state, not an image"),
    ):
        path = radiograph(tmp_path / "a", SOPClassUID=uid, Modality="")
        assert one(path, radiographs).refused.startswith(words)


def test_damage_is_a_fault_and_no_exception(tmp_path):
    path = tmp_path / "a.dcm"
    path.write_bytes(bytes(128) + b"DICM" + b"\2\0\0\0UL\4\0\xff\xff\xff\xff")
    assert scan(path).fault
    assert scan(tmp_path / "none").fault == "no such file; check the path"
