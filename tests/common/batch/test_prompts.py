"""Which sentence belongs to which image."""

from pathlib import Path

import pytest

from common.batch import Found, Prompt, Prompts
from common.batch.header import Header
from common.batch.prompts import unreadable
from common.errors import UserError


def found(name, root=Path("/in"), refused="", **header):
    return Found(root / name, name, "dicom", Header(**header), refused=refused)


@pytest.fixture
def assign(tmp_path):
    """Prompts of a table for images."""

    def run(table, images, laterality="patient", **more):
        path = tmp_path / "prompts.csv"
        path.write_text(table, encoding="utf-8", newline="")
        prompts = Prompts(path, laterality=laterality, **more)
        return prompts, prompts.assign(images)

    return run


IMAGES = [found("a/1.png"), found("b/1.png"), found("b/2.dcm")]
STUDIES = [
    found("a", sop_instance="1.1", accession="A", patient="P", study="1"),
    found("b", sop_instance="1.2", accession="A", patient="P", study="1"),
    found("c", sop_instance="2.1", accession="B", patient="Q", study="2"),
]


def texts(assigned):
    return {name: prompt and prompt.text for name, prompt in assigned.items()}


def test_by_path_and_by_the_only_file_of_a_name(assign):
    prompts, given = assign("image,text,laterality\na/1.png,first,image\n2.dcm,second,\nz.png,lost,\n", IMAGES)
    assert given == {
        "a/1.png": Prompt("first", "image", "csv"), "b/1.png": None, "b/2.dcm": Prompt("second", "patient", "csv"),
    }  # fmt: skip
    assert prompts.unused() == ["z.png"]


def test_ways_to_write_a_path(assign):
    images = [found("a/1.png"), found("b\\2.png"), found(" c.png"), found("new\nline.png"), found("x\\xff.png")]
    text = 'image,text\na\\1.png,1\nb\\2.png,2\n" c.png",3\n"new\nline.png",4\nx\\xff.png,5\n'
    assert list(texts(assign(text, images)[1]).values()) == ["1", "2", "3", "4", "5"]
    assert texts(assign("image,text\n/in/a/1.png,1\n", IMAGES)[1])["a/1.png"] == "1"


def test_by_identifiers_the_closest_wins(assign):
    text = (
        "image,SOPInstanceUID,AccessionNumber,PatientID,text\n,,,P,patient\n,,A,,study\n,1.2,,,instance\n,,B,,other\n"
    )
    prompts, given = assign(text, STUDIES)
    assert texts(given) == {"a": "study", "b": "instance", "c": "other"}
    assert prompts.unused() == []
    _, given = assign(text + "a,,,,path\n", STUDIES)
    assert texts(given)["a"] == "path"


def test_all_identifiers_of_a_row_agree(assign):
    images = [*STUDIES, found("d", accession="A", patient="R", study="3")]
    # two hospitals' numbers are alike
    prompts, given = assign("AccessionNumber,PatientID,text\nA,P,one\nA,R,two\nB,P,three\n", images)
    assert texts(given) == {"a": "one", "b": "one", "c": None, "d": "two"}
    assert prompts.unused() == ["line 4"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("image,text\n1.png,first\n", "'1.png' could be a/1.png or b/1.png; write the path"),
        ("image,text\n2.dcm,x\nb/2.dcm,y\n", "line 3: b/2.dcm has a sentence already, in line 2"),
    ],
)
def test_ambiguous_paths(text, words, assign):
    with pytest.raises(UserError, match=words):
        assign(text, IMAGES)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("PatientID,text\nP,x\n", "line 2: its PatientID is that of images of 2 studies, and one sentence cannot"),
        ("AccessionNumber,text\nA,x\n", "line 2: its AccessionNumber is that of images of 2 patients"),
        ("image,PatientID,text\na,Q,x\n", "line 2: a has other identifiers than the line gives; mend the line"),
    ],
)
def test_ambiguous_identifiers(text, words, assign):
    images = [*STUDIES, found("d", accession="A", patient="R", study="3"), found("e", patient="P", study="4")]
    with pytest.raises(UserError, match=words) as fault:
        assign(text, images)
    assert "\n" not in str(fault.value)


def test_refused_images_make_nothing_ambiguous(assign):
    images = [*STUDIES, found("sr", patient="P", study="9", refused="a report")]
    assert texts(assign("PatientID,text\nP,x\n", images)[1])["a"] == "x"
    images.append(found("unsaid", accession="A"))
    assert texts(assign("AccessionNumber,text\nA,x\n", images)[1])["unsaid"] == "x"
    prompts, _ = assign("image,text\nsr,x\n", images)
    assert prompts.unused() == []


def test_one_sentence_for_the_others(assign):
    _, given = assign("image,text\na/1.png,first\nb/1.png,\n", IMAGES, text="rest")
    assert texts(given) == {"a/1.png": "first", "b/1.png": "rest", "b/2.dcm": "rest"}
    assert given["b/1.png"].source == "option"
    for blank in ("", "  ", "\n"):
        assert set(Prompts(None, blank).assign(IMAGES).values()) == {None}


def test_laterality_is_asked_for(assign):
    with pytest.raises(UserError, match="line 2: whose left does it mean"):
        assign("image,text\na.png,left lung\n", IMAGES, laterality=None)
    with pytest.raises(UserError, match="the sentence given: whose left does it mean"):
        Prompts(None, "left lung")
    with pytest.raises(UserError, match="--laterality both: is not known"):
        Prompts(None, None, "both")


@pytest.fixture
def beside(tmp_path):
    """Prompts of text files beside images."""

    def run(files, images, laterality="patient"):
        for name, data in files.items():
            path = tmp_path / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(data if isinstance(data, bytes) else data.encode())
        prompts = Prompts(None, "rest", laterality, beside=True)
        return prompts, texts(prompts.assign([found(name, tmp_path) for name in images]))

    return run


def test_texts_beside(beside):
    files = {
        "a.txt": "\ufeffleft\n lung\n",
        "b.png.txt": "whole",
        "1.2.3.txt": "uid",
        "v.txt": "nifti",
        "d/a.txt": "  ",
    }
    _, given = beside(files, ["a.png", "b.png", "1.2.3", "v.nii.gz", "d/a.png"])
    assert given == {"a.png": "left lung", "b.png": "whole", "1.2.3": "uid", "v.nii.gz": "nifti", "d/a.png": "rest"}


def test_texts_beside_that_are_doubtful(beside):
    files = {
        "a.txt": "one", "b.txt": "x", "b.png.txt": "y", "c.txt": b"\xff\xfe\xff", "e.txt": "an image", "g.txt": "z",
        "g.dcm.txt": "w",
    }  # fmt: skip
    images = ["a.png", "a.dcm", "b.png", "c.png", "e.txt", "e", "f.png", "g.png", "g.dcm"]
    prompts, given = beside(files, images)
    assert set(given.values()) == {"rest", "w"}
    assert given["g.dcm"] == "w"
    shared = "a.txt could be of 2 images: not used"
    assert prompts.problems == {
        "a.png": shared, "a.dcm": shared, "b.png": "b.png.txt and b.txt differ: not used",
        "c.png": "c.txt is no UTF-8: not used", "g.png": "g.txt could be of 2 images: not used",
    }  # fmt: skip


def test_a_text_beside_needs_a_laterality(tmp_path):
    (tmp_path / "a.txt").write_text("left lung")
    with pytest.raises(UserError, match=r"a.txt: whose left does it mean"):
        Prompts(None, beside=True).assign([found("a.png", tmp_path)])


def test_words_that_are_not_understood():
    assert unreadable(Prompt("Opacity in the right lower lobe.", "patient", "csv"), "chest") == ""
    assert "blorb" in unreadable(Prompt("Blorb in the right lower lobe.", "patient", "csv"), "chest")
    assert "means nothing for polyps" in unreadable(Prompt("One polyp.", "patient", "csv"), "polyp")
