"""A server of the real MONAI Label on a folder, driven over HTTP: ``make test-label``."""

import hashlib
import json
import os
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

import common
from common.images import read_image, to_stored, write_mask

from .conftest import Server, needs_monai_label

# a server takes a minute to start on a busy machine, and so does each training
pytestmark = [pytest.mark.label, pytest.mark.timeout(1800)]
ASKED = {"text_prompt": "Opacity in the left lower lobe.", "laterality": "patient"}


@pytest.fixture(scope="module")
def trap(tmp_path_factory):
    """A folder on the server's path with a module that leaves a trace if anybody imports it."""
    folder = tmp_path_factory.mktemp("trap")
    (folder / "pwned.py").write_text(f"open({str(folder / 'ran')!r}, 'w')")
    (folder / "x.json").write_text("{}")
    return folder


@pytest.fixture(scope="module")
def bundles(bundles, tmp_path_factory):
    """Copies, since one of them is trained."""
    root = tmp_path_factory.mktemp("server_bundles")
    return {name: Path(shutil.copytree(folder, root / name)) for name, folder in bundles.items()}


@pytest.fixture(scope="module")
def server(bundles, studies, trap, tmp_path_factory):
    needs_monai_label()
    env = os.environ | {"PYTHONPATH": str(trap), "OMP_NUM_THREADS": "1"}
    work = tmp_path_factory.mktemp("server") / "work"
    made = Server(work, list(bundles.values()), str(studies["dx"].parent), "--scoring", "ssa", env=env)
    yield made
    made.stop()


@pytest.fixture(scope="module")
def models(bundles):
    return {name: common.load(folder, device="cpu") for name, folder in bundles.items()}


def pixels(data: bytes, path) -> np.ndarray:
    """(rows, columns) bool of a file that was answered."""
    path.write_bytes(data)
    if path.suffix == ".png":
        return np.asarray(Image.open(path)) > 0
    image = nibabel.load(path)
    assert image.shape[2:] == (1,)
    return image.get_fdata()[..., 0].T > 0


def test_info_shows_what_can_be_set(server):
    models = server.info["models"]
    assert models.keys() == {"ssa", "unet", "bright_ct"}
    for name, model in models.items():
        assert model["labels"] == {"lesion": 1}
        assert model["dimension"] == 2
        assert model["config"]["threshold"] == 0.5
        if name != "unet":
            assert model["config"]["text_prompt"] == ""
            assert model["config"]["laterality"] == ["choose", "patient", "image"]
    assert "text_prompt" not in models["unet"]["config"]
    assert server.info["scoring"].keys() == {"ssa"}
    assert server.info["trainers"]["ssa"]["config"].keys() == {"device", "max_epochs", "val_split", "multi_gpu", "gpus"}


def test_nothing_of_the_app_is_changed(server):
    own = Path(sys.prefix) / "monailabel" / "sample-apps" / "monaibundle"
    for path in own.rglob("*.py"):
        assert (server.work / "app" / path.relative_to(own)).read_bytes() == path.read_bytes()


@pytest.mark.parametrize(
    ("model", "image"),
    [("ssa", "png"), ("ssa", "nii"), ("ssa", "dx"), ("ssa", "cr"), ("unet", "cr"), ("bright_ct", "ct")],
)
def test_the_mask_is_that_of_segment(server, models, studies, model, image, tmp_path):
    wanted = models[model](studies[image], text=ASKED["text_prompt"], laterality="patient")
    status, data = server.infer(model, image, ASKED, "image")
    assert status == 200
    path = tmp_path / ("mask.png" if image == "png" else "mask.nii.gz")
    assert np.array_equal(pixels(data, path), wanted.mask)
    if image != "png":
        assert np.allclose(nibabel.load(path).affine, read_image(studies[image])[1]["affine"], atol=1e-5)
    status, said = server.infer(model, image, ASKED)
    assert status == 200
    assert said["prompt"]["used"] == ("not used" if model == "unet" else "given")
    assert said["prompt"]["sides"] == "patient left"
    assert said["mask"]["pixels"] == wanted.mask.sum()
    assert said["label_names"] == {"lesion": 1}


def test_other_endings(server, models, studies, tmp_path):
    import nrrd

    wanted = models["ssa"](studies["dx"], ASKED["text_prompt"], "patient").mask
    _, data = server.infer("ssa", "dx", ASKED | {"result_extension": ".nrrd"}, "image")
    (tmp_path / "mask.nrrd").write_bytes(data)
    assert np.array_equal(nrrd.read(str(tmp_path / "mask.nrrd"))[0][..., 0].T > 0, wanted)
    _, data = server.infer("ssa", "dx", ASKED | {"result_extension": ".png", "result_dtype": "float32"}, "image")
    assert np.array_equal(pixels(data, tmp_path / "mask.png"), wanted)


def test_without_a_sentence_the_answer_says_so(server):
    status, said = server.infer("ssa", "dx", {"laterality": ["choose", "patient", "image"]})
    assert (status, said["prompt"]["used"]) == (200, "default")
    assert "asserts disease everywhere" in " ".join(said["verdict"]["reasons"])


@pytest.mark.parametrize(
    ("model", "image", "params", "words"),
    [
        ("ssa", "dx", ASKED | {"laterality": "choose"}, "laterality: whose left"),
        ("ssa", "dx", ASKED | {"laterality": ["choose", "patient"]}, "laterality: whose left"),
        ("ssa", "dx", {"text_prompt": "left lung"}, "laterality: whose left"),
        ("ssa", "dx", ASKED | {"text_prompt": "blorp"}, "text_prompt: sentence not understood: 'blorp'"),
        ("ssa", "foot", ASKED, "foot.dcm: body part FOOT; the bundle is for CHEST"),
        ("ssa", "lateral", ASKED, "lateral.dcm: "),
        ("ssa", "ct", ASKED, "ct.dcm: modality CT; the bundle is for CR, DX"),
        ("ssa", "dx", ASKED | {"threshold": 3}, "threshold: is no probability"),
        ("ssa", "dx", "{", "params: is no JSON"),
        ("ssa", "dx", [1], "params: is no object"),
    ],
)  # fmt: skip
def test_refusals_are_422_and_one_line(server, model, image, params, words):
    status, said = server.infer(model, image, params)
    assert status == 422, said
    assert words in said["detail"]
    assert "\n" not in said["detail"]
    assert str(server.work) not in said["detail"]


CODE = ["$import pwned", "$from os import getcwd as torch", "%x.json", "@device", '$__import__("pwned")',
        '$__import__("os").system("touch ran")']  # fmt: skip


@pytest.mark.parametrize("code", CODE)
def test_a_prompt_is_never_code(server, models, studies, trap, code, tmp_path):
    configs = sorted((server.work / "app" / "model").rglob("*.json"))
    before = [path.read_bytes() for path in configs]
    for key in ("text_prompt", "laterality", "device", "threshold", "model_filename", "displayable_configs", "logging"):
        status, said = server.infer("ssa", "dx", ASKED | {key: code})
        # "device" is a word of reports
        assert status == (200 if (key, code) == ("text_prompt", "@device") else 422), (key, said)
    for path in ("/train/ssa", "/train/", "/batch/infer/ssa?run_sync=true", "/scoring/ssa"):
        for params in ({"max_epochs": code}, {"device": code}, {"run_id": code}, {"ssa": {"max_epochs": code}}):
            assert server.post(path, params)[0] == 422
    assert not (trap / "ran").exists()
    assert [path.read_bytes() for path in configs] == before
    _, data = server.infer("ssa", "dx", ASKED, "image")
    wanted = models["ssa"](studies["dx"], ASKED["text_prompt"], "patient").mask
    assert np.array_equal(pixels(data, tmp_path / "mask.nii.gz"), wanted)


def test_two_clients_at_once_get_each_their_own_sentence(server):
    sentences = ["Opacity in the left lower lobe.", "Right upper lobe consolidation."]
    understood = [f"Unilateral pulmonary infection, {place} lung." for place in ("lower left", "upper right")]
    alone = [server.infer("ssa", "cr", ASKED | {"text_prompt": one})[1]["mask"] for one in sentences]

    def client(number):
        return [server.infer("ssa", "cr", ASKED | {"text_prompt": sentences[number]})[1] for _ in range(6)]

    with ThreadPoolExecutor(2) as pool:
        for number, answers in enumerate(pool.map(client, (0, 1))):
            assert {one["prompt"]["understood"] for one in answers} == {understood[number]}
            assert [one["mask"] for one in answers] == [alone[number]] * 6


def test_the_page_of_accepted_words(server):
    status, data, kind = server.ask("/help")
    assert (status, kind.split(";")[0]) == (200, "text/html")
    assert b"Accepted sentences" in data


def test_batch_inference_and_one_bad_image(server, models, studies):
    status, said = server.post("/batch/infer/ssa?images=all&run_sync=true", ASKED)
    assert status == 200
    assert said["foot"]["params"]["refused"].startswith("foot.dcm: body part FOOT")
    wanted = models["ssa"](studies["cr"], ASKED["text_prompt"], "patient").mask.sum()
    assert said["cr"]["params"]["mask"]["pixels"] == wanted
    assert server.post("/batch/infer/ssa?images=all", ASKED)[0] == 200
    assert server.finished("/batch/infer/")["status"] == "DONE"
    labels = studies["dx"].parent / "labels" / "original"
    assert {path.name for path in labels.iterdir()} == {"png.png", "nii.nii.gz", "dx.nii.gz", "cr.nii.gz"}


def test_uncertainty_is_scored(server, studies):
    status, said = server.post("/scoring/ssa?run_sync=true", {"simulation_size": 2})
    assert (status, said["executed"]) == (200, 7)
    table = json.loads((studies["dx"].parent / "datastore_v2.json").read_text())
    found = [entry["image"]["info"].get("epistemic_entropy") for entry in table["objects"].values()]
    assert sum(value is not None and value > 0 for value in found) == 4  # the other three are not for this model


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def submit(server, studies, masks, tmp_path):
    for number, (name, (mask, params)) in enumerate(masks.items()):
        meta = read_image(studies[name])[1]
        path = tmp_path / f"{number}{'.png' if name == 'png' else '.nii.gz'}"
        write_mask(to_stored(mask, meta["display"]), meta, path)
        server.label(name, path, params)


def test_corrections_train_the_model_and_only_a_better_one_takes_its_place(server, models, bundles, studies, tmp_path):
    """In the order of a day: labels that are what the model says already, then the annotator's."""
    model = bundles["ssa"] / "models" / "model.pt"
    first = digest(model)
    status, said = server.post("/train/ssa", {"max_epochs": 1})
    assert status == 200
    task = server.finished("/train/")
    assert task["status"] == "ERROR"
    assert "error: labels: 0 to train on and 0 to validate with" in task["details"][-1]

    before = {name: models["ssa"](studies[name], ASKED["text_prompt"], "patient") for name in ("dx", "cr")}
    submit(server, studies, {name: (result.displayed, ASKED) for name, result in before.items()}, tmp_path)
    assert server.post("/train/ssa", {"max_epochs": 1, "val_split": 0.5})[0] == 200
    assert server.finished("/train/")["status"] == "DONE"
    assert digest(model) == first
    assert not model.with_name("previous_model.pt").exists()

    # the lower right of the picture; no sentence is submitted: one is made from the mask
    drawn = np.zeros((96, 80), bool)
    drawn[60:80, 50:70] = True
    submit(server, studies, {name: (drawn, {}) for name in ("dx", "cr", "png")}, tmp_path)
    assert server.post("/train/ssa", {"max_epochs": 6, "val_split": 0.34})[0] == 200
    task = server.finished("/train/")
    assert task["status"] == "DONE", task
    assert digest(model) != first
    assert digest(model.with_name("previous_model.pt")) == first
    assert json.loads(model.with_suffix(".json").read_text())["value"] > 0
    status, said = server.infer("ssa", "dx", ASKED)
    now = common.load(bundles["ssa"], device="cpu")(studies["dx"], ASKED["text_prompt"], "patient").mask
    assert said["mask"]["pixels"] == now.sum() != before["dx"].mask.sum()


def test_no_log_holds_a_sentence(server):
    server.infer("ssa", "dx", ASKED | {"text_prompt": "Opacity in the lingula of Mustermann's left lung."})
    for path in (server.log, *(server.work / "app" / "logs").iterdir()):
        text = path.read_text()
        assert "[sentence]" in text
        for words in ("Mustermann", "lower lobe", "lower left lung", "blorp", "getcwd", "upper lobe"):
            assert words not in text, (path.name, words)
