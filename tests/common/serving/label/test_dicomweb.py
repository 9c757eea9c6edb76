"""A server of the real MONAI Label on a real Orthanc: ``make test-label``, where both are installed."""

import json
import shutil
import subprocess

import highdicom
import numpy as np
import pydicom
import pytest

import common
from common.errors import UserError
from common.images import read_image, read_mask, to_stored, write_mask
from common.serving.label import check
from tools.__main__ import main

from .conftest import left_in, needs_monai_label, write_series, write_studies

requests = pytest.importorskip("requests", reason="MONAI Label's environment (make test-label) has it")

# a server takes a minute to start on a busy machine, and so does each training
pytestmark = [pytest.mark.label, pytest.mark.timeout(1800)]
DRAWN = np.zeros((96, 80), bool)  # as displayed
DRAWN[20:50, 10:30] = True
INFO = [{"name": "lesion", "model_name": "bright_ct"}]


@pytest.fixture(autouse=True)
def needs():
    needs_monai_label()
    try:
        check.programs()
    except UserError as error:
        pytest.skip(str(error))


def test_the_documented_command(bundles, tmp_path, capsys):
    copy = shutil.copytree(bundles["ssa"], tmp_path / "ssa")
    assert main(["label-check", "--bundle", str(copy)]) == 0
    said = capsys.readouterr().out
    for modality in ("CR", "DX"):
        assert f"{modality}: understood 'Unilateral pulmonary infection, lower left lung.' (patient)" in said
        assert f"{modality}: corrected mask stored in Orthanc as DICOM SEG (SEMIAUTOMATIC)" in said
    assert said.endswith("all as it should be\n")


def test_ct_slices_refusals_and_learning_from_segmentations_of_the_store(bundles, tmp_path):
    studies = write_studies(tmp_path / "images")
    served = [str(shutil.copytree(bundles[name], tmp_path / name)) for name in ("ssa", "bright_ct")]
    sent = {name: studies[name] for name in ("ct", "foot", "cr", "dx")}
    uids = {name: str(pydicom.dcmread(path).SeriesInstanceUID) for name, path in sent.items()}
    with check.orthanc(tmp_path / "orthanc") as pacs:
        push = ["storescu", "-aec", "ORTHANC", "127.0.0.1", str(pacs.port)]
        subprocess.run([*push, *map(str, sent.values())], check=True)
        with check.label_server(tmp_path / "first", pacs.web, served) as url:

            def infer(model, image, output, **params):
                place = f"{url}/infer/{model}?image={uids[image]}&output={output}"
                return requests.post(place, data={"params": json.dumps(params)}, timeout=300)

            wanted = common.load(served[1], device="cpu")(studies["ct"]).mask
            (tmp_path / "seg.dcm").write_bytes(infer("bright_ct", "ct", "dicom_seg", label_info=INFO).content)
            seg = highdicom.seg.segread(tmp_path / "seg.dcm")
            uid = str(pydicom.dcmread(studies["ct"]).SOPInstanceUID)
            assert np.array_equal(seg.get_pixels_by_source_instance([uid])[0, ..., 0] > 0, wanted)
            assert 0 < wanted.mean() < 1
            for model, image, words in (
                ("ssa", "ct", "modality CT; the bundle is for CR, DX"),
                ("ssa", "foot", "body part FOOT; the bundle is for CHEST"),
                ("bright_ct", "cr", "modality CR; the bundle is for CT"),
            ):
                answer = infer(model, image, "json")
                assert answer.status_code == 422
                assert words in answer.json()["detail"]
            # an annotator's masks, which go into the store as segmentations
            for image in ("cr", "dx"):
                result = common.load(served[0], device="cpu")(studies[image])
                write_mask(to_stored(DRAWN, result.meta["display"]), result.meta, tmp_path / "label.nii.gz")
                with (tmp_path / "label.nii.gz").open("rb") as file:
                    answer = requests.put(
                        f"{url}/datastore/label?image={uids[image]}&tag=final", data={"params": "{}"},
                        files={"label": ("label.nii.gz", file)}, timeout=300,
                    )  # fmt: skip
                assert answer.status_code == 200, answer.text
        # another server, which knows nothing of them but what the store has
        with check.label_server(tmp_path / "second", pacs.web, served[:1]) as url:
            answer = requests.post(
                f"{url}/train/ssa?run_sync=true", json={"max_epochs": 1, "val_split": 0.5}, timeout=500
            )
            assert answer.status_code == 200, answer.text
            labels = sorted((tmp_path / "second").rglob("labels/final/*.nii.gz"))
            assert {path.name.removesuffix(".nii.gz") for path in labels} == {uids["cr"], uids["dx"]}
            for path in labels:
                image = "cr" if uids["cr"] in path.name else "dx"
                assert np.array_equal(read_mask(path, read_image(studies[image])[1]), DRAWN)


def test_a_ct_series_slice_by_slice_as_ohif_asks_for_it(bundles, tmp_path):
    """The requests are those of OHIF's extension in MONAI Label: NRRD, and labels as bytes without a header."""
    import nrrd

    served = str(shutil.copytree(bundles["bright_ct"], tmp_path / "bright_ct"))
    slices = sorted(
        write_series(tmp_path / "series", (40.0, 42.5, 45.0)).iterdir(),
        key=lambda path: pydicom.dcmread(path).ImagePositionPatient[2],
    )
    uids = [str(pydicom.dcmread(path).SOPInstanceUID) for path in slices]
    uid = str(pydicom.dcmread(slices[0]).SeriesInstanceUID)
    study = str(pydicom.dcmread(slices[0]).StudyInstanceUID)
    model = common.load(served, device="cpu")
    wanted = np.stack([model(path, check.SENTENCE, check.LATERALITY).mask for path in slices])
    assert 0 < wanted.mean() < 1
    asked = {"text_prompt": check.SENTENCE, "laterality": check.LATERALITY}
    with check.orthanc(tmp_path / "orthanc") as pacs:
        push = ["storescu", "-aec", "ORTHANC", "127.0.0.1", str(pacs.port)]
        subprocess.run([*push, *map(str, slices)], check=True)
        with check.label_server(tmp_path / "server", pacs.web, [served]) as url:

            def infer(image, output, **params):
                place = f"{url}/infer/bright_ct?image={image}&output={output}"
                return requests.post(place, data={"params": json.dumps(asked | params)}, timeout=300)

            for image in ("1.2.3.4.5", "scan1", "1.2..3"):
                answer = infer(image, "json")
                assert answer.status_code == (422 if ".." in image else 404)
                assert answer.json()["detail"].startswith("image: ")
            ohif = {"result_extension": ".nrrd", "result_dtype": "uint8", "result_compress": False}
            (tmp_path / "a.nrrd").write_bytes(infer(uid, "image", **ohif, restore_label_idx=False).content)
            volume, header = nrrd.read(str(tmp_path / "a.nrrd"))
            assert np.array_equal(volume.transpose(2, 1, 0) > 0, wanted)
            # LPS
            assert np.allclose(header["space origin"], pydicom.dcmread(slices[0]).ImagePositionPatient)
            assert np.allclose(header["space directions"], np.diag([0.5, 0.5, 2.5]))
            said = infer(uid, "json").json()
            assert said["slices"] == {"number": 3, "marked": int(wanted.any(axis=(1, 2)).sum())}
            assert said["mask"]["pixels"] == wanted.sum()
            (tmp_path / "seg.dcm").write_bytes(infer(uid, "dicom_seg", label_info=INFO).content)
            seg = highdicom.seg.segread(tmp_path / "seg.dcm")
            frames = seg.get_pixels_by_source_instance(uids, assert_missing_frames_are_empty=True)
            assert np.array_equal(frames[..., 0] > 0, wanted)
            # an annotator's correction: bytes in the order of the volume's columns, rows, slices
            drawn = np.zeros_like(wanted)
            drawn[1, 20:50, 10:30] = True
            place = f"{url}/datastore/label?image={uid}"
            info = {"params": json.dumps({"label_info": INFO})}
            answer = requests.put(place, data=info, files={"label": ("label.bin", b"short")}, timeout=300)
            assert answer.status_code == 422
            assert answer.json()["detail"].startswith("label: has 5 bytes")
            label = ("label.bin", drawn.astype(np.uint8).tobytes())
            answer = requests.put(place, data=info, files={"label": label}, timeout=300)
            assert answer.status_code == 200, answer.text
            (stored,) = pacs.series(study, "SEG")
            (tmp_path / "stored.dcm").write_bytes(check._wado(pacs, study, stored))
            seg = highdicom.seg.segread(tmp_path / "stored.dcm")
            frames = seg.get_pixels_by_source_instance(uids, assert_missing_frames_are_empty=True)
            assert np.array_equal(frames[..., 0] > 0, drawn)
            assert left_in(tmp_path / "server" / "work" / "tmp") == []
        # another server, which knows the label from the store alone, learns from its slices
        with check.label_server(tmp_path / "second", pacs.web, [served]) as url:
            answer = requests.post(
                f"{url}/train/bright_ct?run_sync=true", json={"max_epochs": 1, "val_split": 0.5}, timeout=500
            )
            # one series is on one side, whole
            assert answer.status_code == 422
            assert answer.json()["detail"].split(";")[0] in (
                "labels: 0 to train on and 3 to validate with", "labels: 3 to train on and 0 to validate with",
            )  # fmt: skip
