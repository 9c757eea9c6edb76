import json
import shutil

import highdicom
import nibabel
import numpy as np
import pydicom
import pytest
import SimpleITK
import torch

from common.errors import UserError
from common.images import Algorithm, read_image, read_mask, write_mask, write_seg
from common.serving.label.convert import dicom_to_nifti, mask_of_seg, nifti_to_dicom_seg
from common.serving.label.steps import SentenceOfLabeld, source_of, submitted_with

MASK = np.zeros((96, 80), bool)
MASK[10:40, 5:20] = True


@pytest.fixture
def series(studies, tmp_path):
    """A function that lays a file as MONAI Label keeps a series: in a folder by the series' UID."""

    def lay(image):
        uid = str(pydicom.dcmread(studies[image]).SeriesInstanceUID)
        folder = tmp_path / "cache" / uid
        folder.mkdir(parents=True)
        shutil.copy(studies[image], folder / "1.2.3.dcm")
        return folder

    return lay


@pytest.mark.parametrize("image", ["dx", "cr", "ct", "lateral"])
def test_a_series_as_nifti_shows_the_same_picture(series, image):
    folder = series(image)
    path = dicom_to_nifti(str(folder))
    (pixels, meta), (wanted, source) = read_image(path), read_image(folder / "1.2.3.dcm")
    assert nibabel.load(path).shape == (80, 96, 1)
    assert np.array_equal(pixels, wanted)
    assert np.allclose(meta["affine"], source["affine"])
    assert (meta["orientation"], list(meta["display"])) == (source["orientation"], list(source["display"]))
    # what the file cannot say is asked of the DICOM file it was made from, also through MONAI Label's copy
    assert source_of(path).resolve() == folder / "1.2.3.dcm"
    copy = shutil.copy(path, folder.with_name(folder.name + ".nii.gz"))
    assert source_of(copy) == folder / "1.2.3.dcm"


def test_a_file_that_knows_no_orientation_gets_none(series):
    folder = series("dx")
    dataset = pydicom.dcmread(folder / "1.2.3.dcm")
    del dataset.PatientOrientation
    dataset.save_as(folder / "1.2.3.dcm")
    assert read_image(dicom_to_nifti(str(folder)))[1]["orientation_source"] == ""


def test_several_images_are_refused(series):
    folder = series("ct")
    shutil.copy(folder / "1.2.3.dcm", folder / "1.2.4.dcm")
    with pytest.raises(UserError, match="a series of 2 images, of which 1 are no slices of one CT stack; segment it"):
        dicom_to_nifti(str(folder))


def test_folders_beside_ordinary_files_mean_nothing(studies, tmp_path):
    for name in ("patient", "1.2.3"):
        (tmp_path / name).mkdir()
        shutil.copy(studies["nii"], tmp_path / f"{name}.nii.gz")
        assert source_of(tmp_path / f"{name}.nii.gz") == tmp_path / f"{name}.nii.gz"


@pytest.fixture
def app(bundles, tmp_path, monkeypatch):
    """MONAI Label's folder with one served model."""
    (tmp_path / "app" / "model").mkdir(parents=True)
    shutil.copytree(bundles["ssa"], tmp_path / "app" / "model" / "ssa")
    monkeypatch.setenv("MONAI_LABEL_APP_DIR", str(tmp_path / "app"))
    return tmp_path / "app" / "model"


@pytest.mark.parametrize("image", ["cr", "ct"])
@pytest.mark.parametrize("ending", [".nii.gz", ".png"])
def test_a_mask_as_segmentation_and_back(series, app, tmp_path, image, ending):
    folder = series(image)
    label = tmp_path / f"label{ending}"
    write_mask(MASK.T, read_image(folder / "1.2.3.dcm")[1], label)
    path = nifti_to_dicom_seg(str(folder), str(label), [{"name": "lesion", "model_name": "ssa"}])
    seg = highdicom.seg.segread(path)
    uid = str(pydicom.dcmread(folder / "1.2.3.dcm").SOPInstanceUID)
    assert np.array_equal(seg.get_pixels_by_source_instance([uid])[0, ..., 0] > 0, MASK)
    assert seg.SegmentSequence[0].SegmentAlgorithmType == "AUTOMATIC"
    assert seg.SegmentSequence[0].SegmentAlgorithmName == "ssa"
    back = dicom_to_nifti(path, is_seg=True)
    assert np.array_equal(nibabel.load(back).get_fdata()[..., 0].T > 0, MASK)
    # and as the mask of an image it lies in its place
    source = read_image(folder / "1.2.3.dcm")[1]
    assert np.array_equal(read_mask(back, source), read_mask(label, source))


def test_a_label_that_stands_otherwise_than_its_image_is_turned_to_it(series, app, tmp_path):
    folder = series("cr")
    source = read_image(folder / "1.2.3.dcm")[1]
    write_mask(MASK.T, source, tmp_path / "label.nii.gz")
    label = nibabel.load(tmp_path / "label.nii.gz")
    # the same mask in the same place, its pixels written from the other side
    turned = label.affine @ np.array([[-1, 0, 0, 79], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])
    flipped = nibabel.Nifti1Image(np.asarray(label.dataobj)[::-1], turned)
    flipped.set_sform(turned, 1)
    flipped.to_filename(tmp_path / "flipped.nii.gz")
    # and as 3D Slicer writes it
    SimpleITK.WriteImage(SimpleITK.ReadImage(str(tmp_path / "flipped.nii.gz")), str(tmp_path / "flipped.nrrd"))
    uid = str(pydicom.dcmread(folder / "1.2.3.dcm").SOPInstanceUID)
    for name in ("label.nii.gz", "flipped.nii.gz", "flipped.nrrd"):
        path = nifti_to_dicom_seg(str(folder), str(tmp_path / name), None)
        pixels = highdicom.seg.segread(path).get_pixels_by_source_instance([uid])[0, ..., 0]
        assert np.array_equal(pixels > 0, MASK), name


@pytest.mark.parametrize("axes", ["LPS", "RPS", "LAS", "RAS"])
def test_an_image_without_orientation_is_a_plain_picture_to_labels_that_have_one(series, app, tmp_path, axes):
    """As ITK and 3D Slicer load it: columns to the left, rows to the back; and as training lays the label."""
    folder = series("dx")
    dataset = pydicom.dcmread(folder / "1.2.3.dcm")
    del dataset.PatientOrientation
    dataset.save_as(folder / "1.2.3.dcm")
    source = read_image(folder / "1.2.3.dcm")[1]
    assert source["orientation_source"] == ""
    drawn = SimpleITK.GetImageFromArray(MASK[None].astype(np.uint8))  # LPS, as a viewer has it
    SimpleITK.WriteImage(SimpleITK.DICOMOrient(drawn, axes), str(tmp_path / "label.nii.gz"))
    path = nifti_to_dicom_seg(str(folder), str(tmp_path / "label.nii.gz"), None)
    uid = str(pydicom.dcmread(folder / "1.2.3.dcm").SOPInstanceUID)
    assert np.array_equal(highdicom.seg.segread(path).get_pixels_by_source_instance([uid])[0, ..., 0] > 0, MASK)
    assert np.array_equal(read_mask(tmp_path / "label.nii.gz", source), MASK)  # displayed as it is stored


def test_who_drew_it_is_said(series, app, tmp_path):
    folder = series("cr")
    write_mask(MASK.T, read_image(folder / "1.2.3.dcm")[1], tmp_path / "label.nii.gz")

    def segment(info, **options):
        path = nifti_to_dicom_seg(str(folder), str(tmp_path / "label.nii.gz"), info, **options)
        return pydicom.dcmread(path).SegmentSequence[0]

    assert segment([{"name": "x", "model_name": "ssa"}], by_person=True).SegmentAlgorithmType == "SEMIAUTOMATIC"
    drawn = segment([{"name": "my lesion", "model_name": "other"}], by_person=True)
    assert (drawn.SegmentAlgorithmType, drawn.SegmentLabel) == ("MANUAL", "my lesion")
    assert "SegmentAlgorithmName" not in drawn
    assert segment(None).SegmentAlgorithmName == "ssa"  # there is only one
    shutil.copytree(app / "ssa", app / "another")
    with pytest.raises(UserError, match="label_info: names no served model"):
        segment([{"name": "lesion"}])


def test_a_mask_of_another_image_is_refused(series, app, tmp_path):
    nibabel.Nifti1Image(np.ones((9, 8, 1), np.uint8), np.eye(4)).to_filename(tmp_path / "label.nii.gz")
    with pytest.raises(UserError, match=r"label: is 9 x 8 pixels, its image 80 x 96"):
        nifti_to_dicom_seg(str(series("cr")), str(tmp_path / "label.nii.gz"), None)


def test_any_segment_is_lesion_and_several_images_are_refused(studies, tmp_path):
    write_seg(tmp_path / "a.dcm", [studies["cr"]], [MASK], fractional=False, algorithm=Algorithm("a", "1", "x"))
    assert np.array_equal(mask_of_seg(tmp_path / "a.dcm"), MASK)
    seg = pydicom.dcmread(tmp_path / "a.dcm")
    two = np.concatenate([seg.pixel_array[None] if seg.pixel_array.ndim == 2 else seg.pixel_array] * 2)
    two[1] = np.roll(two[0], 30, 1)
    seg.NumberOfFrames = 2
    seg.PixelData = np.packbits(two.ravel(), bitorder="little").tobytes()
    seg.save_as(tmp_path / "b.dcm")
    with pytest.raises(UserError, match="a segmentation of several images"):
        mask_of_seg(tmp_path / "b.dcm")
    seg.SegmentSequence.append(seg.SegmentSequence[0])
    seg.save_as(tmp_path / "b.dcm")
    assert np.array_equal(mask_of_seg(tmp_path / "b.dcm"), MASK | (two[1] > 0))
    with pytest.raises(UserError, match="no segmentation that can be read"):
        mask_of_seg(tmp_path / "none.dcm")


def test_items_without_a_sentence_take_that_of_their_label(studies, tmp_path):
    from monai.data import MetaTensor

    labels = tmp_path / "labels" / "final"
    displayed = torch.zeros(1, 96, 80)
    displayed[0, 60:80, 50:70] = 1  # right of the picture, low

    def prompt(name, **item):
        label = MetaTensor(displayed, meta={"filename_or_obj": str(labels / name)})
        out = SentenceOfLabeld("label", "chest", "radiograph")({"label": label, **item})
        assert out["kind"] == "radiograph"
        return out["text_prompt"], out["laterality"]

    made = ("Unilateral pulmonary infection, one infected area, lower right lung.", "image")
    assert prompt("a.png") == made
    infos = {"a": {"name": "a.png", "text_prompt": "Left basal opacity.", "laterality": "patient"},
             "b": {"name": "b.png", "text_prompt": "Left basal opacity.", "laterality": "choose"},
             "c": {"name": "c.png"},
             "d": {"name": "d.png", "text_prompt": "Fnord blorp.", "laterality": "image"}}  # fmt: skip
    table = {"objects": {key: {"labels": {"final": {"ext": ".png", "info": info}}} for key, info in infos.items()}}
    (tmp_path / "datastore_v2.json").write_text(json.dumps(table))
    assert prompt("a.png") == ("Left basal opacity.", "patient")
    assert prompt("b.png") == prompt("c.png") == prompt("d.png") == made
    assert prompt("a.png", text_prompt="Clear lungs.", laterality="image") == ("Clear lungs.", "image")
    assert submitted_with(labels / "none.png") is None
