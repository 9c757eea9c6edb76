"""What a bundle does not cover, each with its reason and the word that overrides it."""

import json

import pydicom
import pytest

from common.batch import find
from common.batch.refuse import WORDS


def code(meaning):
    item = pydicom.Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = "1", "SCT", meaning
    return [item]


REFUSED = {
    "modality": [
        ({"Modality": "MR"}, "modality MR; the bundle is for CR, DX"),
        ({"Modality": "", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.20"}, "modality NM"),
    ],
    "body-part": [
        ({"BodyPartExamined": "HAND"}, "body part HAND; the bundle is for CHEST"),
        ({"BodyPartExamined": "TSPINE"}, "body part TSPINE"),
        ({"BodyPartExamined": "", "AnatomicRegionSequence": code("Knee")}, "body part KNEE"),
        ({"BodyPartExamined": "", "SeriesDescription": "L-Spine AP"}, "body part L SPINE by its description"),
        (
            {"BodyPartExamined": "UNKNOWN", "SeriesDescription": "ABDOMEN ap", "StudyDescription": "CHEST AND ABDOMEN"},
            "body part ABDOMEN by its description",
        ),
    ],
    "lateral": [
        ({"ViewPosition": "LL"}, "a lateral view (LL)"),
        ({"ViewPosition": "LATERAL"}, "a lateral view (LATERAL)"),
        ({"ViewPosition": "", "ViewCodeSequence": code("left lateral")}, "a lateral view (LEFT LATERAL)"),
        ({"PatientOrientation": ["A", "F"]}, "a lateral view by its orientation A\\F"),
        ({"ViewPosition": "", "SeriesDescription": "Thorax lat."}, "a lateral view by its description"),
    ],
    "view": [
        ({"ViewPosition": "RLO"}, "view RLO, not frontal"),
        ({"ViewPosition": "LLD"}, "view LLD, not frontal"),
        ({"ViewPosition": "", "ViewCodeSequence": code("left lateral decubitus")}, "view LEFT LATERAL DECUBITUS"),
    ],
    "plane": [({"PatientOrientation": ["L", "P"]}, "axial by its orientation L\\P")],
    "scout": [({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "a scout or localiser")],
    "animal": [
        ({"PatientSpeciesDescription": "Canis lupus"}, "an animal by PatientSpeciesDescription"),
        ({"AnatomicalOrientationType": "QUADRUPED"}, "an animal by AnatomicalOrientationType"),
        ({"ProtocolName": "FELINE THORAX"}, "an animal by its description"),
    ],
}


@pytest.mark.parametrize(
    ("word", "elements", "reason"), [(word, *case) for word, cases in REFUSED.items() for case in cases]
)
def test_refused_unless_included(word, elements, reason, tmp_path, radiograph, radiographs, one):
    path = radiograph(tmp_path / "a", **elements)
    found = one(path, radiographs)
    assert found.refused.startswith(reason)
    assert found.refused.endswith(f"; --include {word} segments it")
    assert "\n" not in found.refused
    others = one(path, radiographs, include=frozenset(WORDS.keys() - {word}))
    assert others.refused == found.refused
    let = one(path, radiographs, include=frozenset({word}))
    assert let.refused == ""
    assert let.overridden.startswith(reason)
    # without metadata nothing is judged
    assert one(path, None).refused == ""


def test_two_reasons_need_two_words(tmp_path, radiograph, radiographs, one):
    path = radiograph(tmp_path / "a", Modality="MR", ViewPosition="LL")
    assert "lateral" in one(path, radiographs, include=frozenset({"modality"})).refused
    found = one(path, radiographs, include=frozenset({"modality", "lateral"}))
    assert (found.refused, found.overridden) == (
        "", "modality MR; the bundle is for CR, DX; a lateral view (LL)"
    )  # fmt: skip


@pytest.mark.parametrize(
    "elements",
    [
        {"Modality": "", "BodyPartExamined": "", "ViewPosition": "", "PatientOrientation": None},
        {"BodyPartExamined": "Thorax"}, {"BodyPartExamined": "PORT CHEST"}, {"BodyPartExamined": "OTHER"},
        {"BodyPartExamined": "", "StudyDescription": "XR CHEST 2 VIEWS PA AND LATERAL"},
        {"BodyPartExamined": "", "SeriesDescription": "Chest", "StudyDescription": "chest and abdomen"},
        {"ViewPosition": "", "SeriesDescription": "CHEST PA/LAT"}, {"ViewPosition": "AP", "SeriesDescription": "LAT"},
        {"PatientSpeciesDescription": "Homo sapiens"}, {"ViewPosition": "BILATERAL"},
    ],
)  # fmt: skip
def test_let_through(elements, tmp_path, radiograph, radiographs, one):
    found = one(radiograph(tmp_path / "a", **elements), radiographs)
    assert (found.refused, found.overridden) == ("", "")


def test_raw_values_are_noted(tmp_path, radiograph, radiographs, one):
    path = radiograph(tmp_path / "a", PresentationIntentType="FOR PROCESSING")
    assert one(path, radiographs).note.startswith("FOR PROCESSING: raw values")


def test_planes_of_ct(tmp_path, ct, slices, one):
    for name, cosines, words in (
        ("c", (1, 0, 0, 0, 0, -1), "a coronal CT"),
        ("s", (0, 1, 0, 0, 0, -1), "a sagittal CT"),
    ):
        path = ct(tmp_path / name, cosines=cosines)
        assert one(path, slices).refused.startswith(words)
        assert one(path, slices, include=frozenset({"plane"})).series == "1.2.3"


def test_what_holds_no_picture_is_never_let_through(tmp_path, radiograph, radiographs):
    radiograph(tmp_path / "sr", Modality="SR")
    radiograph(tmp_path / "frames", NumberOfFrames=3)
    radiograph(tmp_path / "colour", PhotometricInterpretation="RGB", SamplesPerPixel=3)
    radiograph(tmp_path / "none", Rows=None)
    found = find(tmp_path, radiographs, include=frozenset(WORDS)).found
    assert [item.refused.partition(";")[0] for item in found] == [
        "colour (RGB)", "3 frames", "no pixels (CR)", "a structured report (SR), not an image",
    ]  # fmt: skip


def test_another_grammar(tmp_path, radiograph, radiographs, one):
    polyps = json.loads(json.dumps(radiographs)) | {"grammar": "polyp", "modality": "ES", "body_part": "COLON"}
    path = radiograph(tmp_path / "a", ViewPosition="LL")
    assert one(path, polyps).refused.startswith("modality CR; the bundle is for ES")
    found = one(path, polyps, include=frozenset({"modality", "body-part"}))
    assert (found.refused, found.overridden.count("bundle is for")) == ("", 2)
