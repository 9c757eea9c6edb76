"""CT series of several slices, without MONAI Label."""

import json
import shutil
from types import SimpleNamespace

import highdicom
import nibabel
import numpy as np
import pydicom
import pytest
import SimpleITK

from common.datasets import phantoms
from common.errors import UserError
from common.images import read_image, read_mask
from common.serving.label.convert import dicom_to_nifti, nifti_to_dicom_seg
from common.serving.label.series import affine_of, answer_of_series, infer_slices, items_of_slices, masks_on
from common.serving.label.steps import series_of, source_of

from .conftest import WIDTH, write_series

UID = "1.2.826.0.1.3680043.8.498.7.3"
PLACES = (40.0, 42.5, 45.0, 47.5)


@pytest.fixture
def folder(tmp_path):
    """A series of four slices whose names are in another order, as MONAI Label keeps it."""
    return write_series(tmp_path / "cache" / UID, PLACES)


@pytest.fixture
def masks():
    drawn = np.zeros((4, 96, WIDTH), bool)
    for number in (0, 1, 2):  # nothing in the last
        drawn[number, 10 + number : 40, 5:20] = True
    return drawn


def test_slices_are_in_their_order_in_space(folder):
    slices = series_of(folder)
    assert [float(pydicom.dcmread(path).ImagePositionPatient[2]) for path in slices] == list(PLACES)
    shutil.copy(slices[0], folder.with_name("one.dcm"))
    assert series_of(folder.with_name("one.dcm")) == []
    with pytest.raises(UserError, match="a series of 4 images, where one is looked at"):
        source_of(folder)


def test_the_volume_has_each_slices_pixels_in_their_place(folder):
    path = dicom_to_nifti(str(folder))
    image = nibabel.load(path)
    assert image.shape == (WIDTH, 96, 4)
    for number, one in enumerate(series_of(folder)):
        pixels, meta = read_image(one)
        assert np.array_equal(np.asarray(image.dataobj)[..., number], pixels)
        corner = image.affine @ (0, 0, number, 1)
        assert np.allclose(corner[:3], np.asarray(meta["affine"])[:3, 3], atol=1e-4)
        assert np.allclose(image.affine[:3, :2], np.asarray(meta["affine"])[:3, :2], atol=1e-5)
    assert image.header["sform_code"] == 1
    # what is asked of the file is asked of the slices it was made from
    assert [one.name for one in series_of(path)] == [one.name for one in series_of(folder)]


def test_what_is_no_even_stack_is_refused(folder, tmp_path):
    other = write_series(tmp_path / "other" / UID, (0.0, 1.0, 3.0))
    with pytest.raises(UserError, match=rf"^{UID}: the slices of the series are not evenly spaced, .*tools segment"):
        affine_of(series_of(other))
    one = pydicom.dcmread(series_of(folder)[0])
    one.ImageOrientationPatient, one.SOPInstanceUID = [0, 1, 0, 0, 0, -1], "1.2.3"
    one.save_as(folder / "coronal.dcm")
    with pytest.raises(UserError, match=rf"^{UID}: a series of 5 images, of which 1 are no slices of one CT stack"):
        series_of(folder)


def label_of(masks, affine, path):
    nibabel.Nifti1Image(masks.transpose(2, 1, 0).astype(np.uint8), affine).to_filename(path)
    return path


def test_a_label_of_any_orientation_is_turned_to_its_series(folder, masks, tmp_path):
    slices = series_of(folder)
    label = label_of(masks, affine_of(slices), tmp_path / "a.nii.gz")
    assert np.array_equal(masks_on(label, slices), masks)
    image = nibabel.load(label)
    for axes in ("LPS", "SAR", "AIL"):
        start = nibabel.orientations.io_orientation(image.affine)
        way = nibabel.orientations.ornt_transform(start, nibabel.orientations.axcodes2ornt(axes))
        image.as_reoriented(way).to_filename(tmp_path / f"{axes}.nii.gz")
        assert np.array_equal(masks_on(tmp_path / f"{axes}.nii.gz", slices), masks), axes
    moved = affine_of(slices).copy()
    moved[2, 3] += 2.5
    for wrong in (moved, affine_of(slices) @ np.diag([1, 1, 2, 1])):
        with pytest.raises(UserError, match=r"^label: is 80 x 96 x 4 in another place than its series of 80 x 96 x 4"):
            masks_on(label_of(masks, wrong, tmp_path / "b.nii.gz"), slices)
    with pytest.raises(UserError, match=r"^label: is 80 x 96 x 3 in another place"):
        masks_on(label_of(masks[:3], affine_of(slices), tmp_path / "b.nii.gz"), slices)
    with pytest.raises(UserError, match=r"^label: cannot be read"):
        masks_on(folder / "none.nii.gz", slices)


def test_a_mask_as_segmentation_with_a_frame_a_slice_and_back(folder, masks, bundles, tmp_path, monkeypatch):
    (tmp_path / "app" / "model").mkdir(parents=True)
    shutil.copytree(bundles["bright_ct"], tmp_path / "app" / "model" / "bright_ct")
    monkeypatch.setenv("MONAI_LABEL_APP_DIR", str(tmp_path / "app"))
    slices = series_of(folder)
    label = label_of(masks, affine_of(slices), tmp_path / "label.nii.gz")
    # and as 3D Slicer writes it
    SimpleITK.WriteImage(SimpleITK.ReadImage(str(label)), str(tmp_path / "label.nrrd"))
    uids = [str(pydicom.dcmread(path).SOPInstanceUID) for path in slices]
    for name in ("label.nii.gz", "label.nrrd"):
        path = nifti_to_dicom_seg(str(folder), str(tmp_path / name), None)
        seg = highdicom.seg.segread(path)
        pixels = seg.get_pixels_by_source_instance(uids, assert_missing_frames_are_empty=True)
        assert np.array_equal(pixels[..., 0] > 0, masks)
        assert seg.NumberOfFrames == 3  # the empty one is left out
    places = [
        float(one.PlanePositionSequence[0].ImagePositionPatient[2]) for one in seg.PerFrameFunctionalGroupsSequence
    ]
    assert sorted(places) == list(PLACES[:3])
    # where MONAI Label keeps the segmentations that it fetches
    kept = tmp_path / "cache" / "labels" / "final" / "1.2.9"
    kept.mkdir(parents=True)
    shutil.copy(path, kept / "seg.dcm")
    back = dicom_to_nifti(str(kept), is_seg=True)
    assert np.array_equal(np.asarray(nibabel.load(back).dataobj) > 0, masks.transpose(2, 1, 0))
    assert np.allclose(nibabel.load(back).affine, affine_of(slices), atol=1e-4)


class Task:
    """MONAI Label's, as far as a series needs it."""

    skip_writer, output_label_key, output_json_key, labels = False, "pred", "result", {"lesion": 1}

    def writer(self, data):
        return data, dict(data["result"])


def answered(pixels, level="ok", area=None, sides="patient left"):
    return {
        "prompt": {"used": "given"}, "threshold": 0.5,
        "mask": {"sides": sides, "zones": "", "pixels": pixels, "share": pixels / 100, "area_mm2": area},
        "verdict": {"level": level, "reasons": [] if level == "ok" else [level]},
    }  # fmt: skip


def test_each_slice_is_asked_for_and_the_masks_are_one_volume(folder, masks):
    slices, asked = series_of(folder), []

    def one(task, request):
        number = len(asked)
        asked.append(request)
        return None, {"pred": masks[number].T[..., None].astype(np.uint8), "result": answered(int(masks[number].sum()))}

    file, said = infer_slices(one, Task(), {"image": "series.nii.gz", "text_prompt": "left", "model": "m"}, slices)
    assert [one["image"] for one in asked] == [str(path) for path in slices]
    assert all(one["text_prompt"] == "left" and one["skip_writer"] for one in asked)
    assert np.array_equal(file["pred"].numpy(), masks.transpose(2, 1, 0))
    assert np.allclose(file["pred"].affine, affine_of(slices))
    assert (file["result_extension"], file["result_dtype"], file["image_path"]) == (".nii.gz", "uint8", "series.nii.gz")
    assert said["slices"] == {"number": 4, "marked": 3}
    assert said["mask"]["pixels"] == masks.sum()
    json.dumps(said)
    with pytest.raises(UserError, match=r"^result_extension: \.png holds one slice"):
        infer_slices(one, Task(), {"image": "x", "result_extension": ".png"}, slices)
    with pytest.raises(UserError, match=rf"^{UID}: a series of 4 slices; uncertainty is scored of single images"):
        infer_slices(one, SimpleNamespace(skip_writer=True), {"image": "x"}, slices)


def test_the_answer_of_a_series():
    said = answer_of_series([answered(0, "review", 0.0, ""), answered(6, "note", 3.0), answered(4, "ok", 2.0)], 2.5)
    assert said["mask"] == {"sides": "patient left", "zones": "", "pixels": 10, "share": 10 / 300, "volume_mm3": 12.5}
    # a slice without a lesion says nothing against a sentence about the series
    assert said["verdict"] == {"level": "note", "reasons": ["note"]}
    assert answer_of_series([answered(0, "review", None, "")], 1)["verdict"]["level"] == "review"
    assert answer_of_series([answered(3, "ok", None)], 1)["mask"]["volume_mm3"] is None


def test_a_series_is_learnt_from_slice_by_slice(folder, masks, tmp_path):
    slices = series_of(folder)
    label = label_of(masks, affine_of(slices), tmp_path / "label.nii.gz")
    items = items_of_slices(
        [{"image": str(folder), "label": str(label)}, {"image": "a.png", "label": "b.png"}],
        lambda image: series_of(image) if image == str(folder) else [],
    )
    assert items[-1] == {"image": "a.png", "label": "b.png"}
    assert [item["image"] for item in items[:-1]] == [str(path) for path in slices]
    for item, mask in zip(items[:-1], masks, strict=True):
        # as displayed, which is as stored of an axial slice
        assert np.array_equal(read_mask(item["label"], read_image(item["image"])[1]), mask)


def test_phantoms_differ():
    """Else a mixed-up order would not be seen."""
    assert not np.array_equal(phantoms.draw(2, 96).image, phantoms.draw(3, 96).image)
