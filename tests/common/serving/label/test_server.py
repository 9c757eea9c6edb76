"""A server of the real MONAI Label on a folder, driven over HTTP: ``make test-label``."""

import hashlib
import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

import common
from common.bundle import bundle_folder
from common.images import read_image, to_stored, write_mask
from common.serving.package import package

from .conftest import ROOT, Server, form, left_in, needs_monai_label

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
    """Two archives of ``tools package``, unpacked, and a folder; one of them is trained."""
    root = tmp_path_factory.mktemp("server_bundles")
    for name in ("ssa", "unet"):
        source = Path(shutil.copytree(bundles[name], root / "source" / name))
        shutil.copytree(bundle_folder(name) / "docs", source / "docs")
        shutil.copyfile(bundle_folder(name) / "LICENSE", source / "LICENSE")
        with zipfile.ZipFile(package(source, root / f"{name}.zip").archive) as archive:
            archive.extractall(root / f"unpacked-{name}")
    unpacked = {name: root / f"unpacked-{name}" / name for name in ("ssa", "unet")}
    return unpacked | {"bright_ct": Path(shutil.copytree(bundles["bright_ct"], root / "bright_ct"))}


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


@pytest.mark.parametrize(
    ("path", "params", "status", "words"),
    [
        ("/infer/ssa?output=json", {}, 422, "image: none is given"),
        ("/infer/ssa?image=nobody", {}, 404, "image: no such image"),
        ("/infer/ssa?image=..%2Fdx", {}, 422, "image: names no image"),
        ("/infer/ssa?image=dx%00", {}, 422, "image: names no image"),
        ("/infer/nobody?image=dx", {}, 404, "There is no model 'nobody'"),
        ("/infer/ssa?image=dx&output=bogus", {}, 422, "output: "),
        ("/infer/ssa?image=dx&output=dicom_seg", ASKED, 422, "output: dicom_seg is of studies behind a DICOMweb"),
        ("/infer/ssa?image=dx", ASKED | {"result_extension": ".exe"}, 422, "result_extension: is not written here"),
        ("/infer/ssa?image=dx", ASKED | {"device": "tpu"}, 422, "device: is not there; write one of cpu"),
        ("/infer/ssa?image=dx", ASKED | {"text_prompt": "left\x00lung\n\x1b[31m"}, 422, "text_prompt: "),
        ("/infer/ssa?image=dx", '{"text_prompt": "\\ud800", "laterality": "image"}', 422, "text_prompt: holds half"),
        ("/infer/ssa?image=dx", ASKED | {"text_prompt": "x" * 100_000}, 422, "text_prompt: has 100000 characters"),
        ("/infer/ssa?image=dx", ASKED | {"text_prompt": {"a": 1}}, 422, "text_prompt: is no text"),
        ("/infer/ssa?image=dx", ASKED | {"laterality": 1}, 422, "laterality: whose left"),
        ("/infer/ssa?image=dx", ASKED | {"threshold": "0.5"}, 422, "threshold: is no probability"),
        ("/infer/ssa?image=dx", '{"threshold": NaN}', 422, "threshold: is no probability"),
        ("/infer/ssa?image=dx", "[" * 100_000, 422, "params: is no JSON"),
    ],
)
def test_faults_of_the_request_are_4xx_and_one_line(server, path, params, status, words):
    body, kind = form({"params": params if isinstance(params, str) else json.dumps(params)})
    got, data, _ = server.ask(path, body, {"Content-Type": kind})
    assert got == status, data[:500]
    line = json.loads(data)["detail"]
    assert words in line
    assert "\n" not in line
    assert "\x00" not in line
    assert str(server.work) not in line


def test_faults_of_other_addresses(server, tmp_path):
    (tmp_path / "a.nii.gz").write_bytes(b"half of an upload")
    body, kind = form({"params": "{}"}, {"label": tmp_path / "a.nii.gz"})
    for method, path, data, headers, status, words in (
        ("PUT", "/datastore/label?image=dx", body, {"Content-Type": kind}, 422, "label: "),
        ("PUT", "/datastore/label?image=nobody", body, {"Content-Type": kind}, 404, "nobody not found"),
        ("GET", "/datastore/dataset", None, {}, 404, "labels: there is none yet"),
        ("GET", "/datastore/image?image=nobody", None, {}, 404, "NOT Found"),
        ("GET", "/info/", None, {"Host": "evil.example"}, 403, "host: the server does not go by this name"),
        ("POST", "/train/nobody", b"{}", {}, 404, "There is no model"),
        ("POST", "/scoring/nobody?run_sync=true", b"{}", {}, 404, "no such scoring method"),
        ("POST", "/activelearning/nobody", b"{}", {}, 404, "no such strategy"),
    ):
        if method == "POST":
            headers = {"Content-Type": "application/json"}
            path += "" if "?" in path else "?run_sync=true"
        got, answer, _ = server.ask(path, data, headers, method)
        assert got == status, (path, answer[:500])
        assert words in json.loads(answer)["detail"], path
    _, said = server.infer("ssa", "dx", ASKED)
    assert said["prompt"]["used"] == "given"


def test_what_monai_label_would_look_at_besides_gets_nowhere(server):
    foreign = {"skip_writer": True, "result_write_to_file": False, "image_path": "/etc/passwd", "centroids": [1]}
    foreign |= {
        "latencies": 1,
        "pred": 1,
        "asked": 1,
        "kind": "polyp",
        "labels": 1,
        "roi_size": "x",
        "client_id": "user-x",
    }
    assert server.infer("ssa", "dx", ASKED | foreign)[1]["mask"] == server.infer("ssa", "dx", ASKED)[1]["mask"]


def test_an_upload_that_is_broken_off_harms_nobody(server):
    host = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host[0], int(host[1]))) as client:
        head = "PUT /datastore/image?image=half HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n"
        client.sendall((head + "Content-Type: multipart/form-data; boundary=x\r\n\r\n--x\r\n").encode())
    assert server.infer("ssa", "dx", ASKED)[0] == 200
    assert "half" not in server.get("/datastore/?output=all")["objects"]


def test_a_second_server_leaves_the_first_alone(server, bundles, studies):
    port = server.url.rsplit(":", 1)[1]
    command = [sys.executable, "-m", "tools", "label-server", "--bundles", str(bundles["ssa"]), "--studies", "."]
    for more, words in (
        (["--work", str(server.work)], "another label server uses it; stop that one, or give another --port or --work"),
        (["--work", str(server.work.with_name("second"))], "cannot be listened on (Address already in use)"),
    ):
        done = subprocess.run([*command, "--port", port, *more], capture_output=True, text=True, cwd=ROOT, timeout=600)
        assert done.returncode == 2
        assert done.stderr.startswith("error: ")
        assert words in done.stderr
        assert done.stderr.count("\n") == 1
    assert server.infer("ssa", "dx", ASKED)[0] == 200


def test_the_client_of_3d_slicer(server, models, studies, tmp_path):
    """The client of Slicer's module, as MONAI Label's package brings it; the parameters are what its table gives."""
    import nrrd

    plugin = Path(sys.prefix) / "monailabel" / "plugins" / "slicer" / "MONAILabel" / "MONAILabelLib" / "client.py"
    module = importlib.util.module_from_spec(spec := importlib.util.spec_from_file_location("slicer_client", plugin))
    spec.loader.exec_module(module)
    client = module.MONAILabelClient(server.url, tmpdir=str(tmp_path), client_id="user-slicer")
    config = client.info()["models"]["ssa"]["config"]
    assert (config["text_prompt"], config["laterality"][0]) == ("", "choose")
    # getParamsFromConfig sends of a list its first, which the combo box has put there; of the rest the table's value
    params = {key: value[0] if isinstance(value, list) else value for key, value in config.items()}
    params |= ASKED | {"result_extension": ".nrrd", "result_dtype": "uint8"}
    wanted = models["ssa"](studies["dx"], ASKED["text_prompt"], "patient").mask
    file, said = client.infer("ssa", "dx", params)
    assert np.array_equal(nrrd.read(file)[0][..., 0].T > 0, wanted)
    assert said["label_names"] == {"lesion": 1}
    # a file of the user's own, which is no image of the studies: a session
    session = client.create_session(str(studies["nii"]))["session_id"]
    file, said = client.infer("ssa", "nii of mine", dict(params), session_id=session)
    mine = models["ssa"](studies["nii"], ASKED["text_prompt"], "patient").mask
    assert np.array_equal(nrrd.read(file)[0][..., 0].T > 0, mine)
    client.remove_session(session)
    # Submit Label: what Slicer saves, in its own format
    client.upload_image(str(studies["nii"]), "mine")
    assert client.save_label("mine", file, params={"label_info": [{"name": "lesion", "idx": 1}]})
    (label,) = (studies["dx"].parent / "labels" / "final").glob("mine.*")
    assert label.name == "mine.nii.gz"
    assert np.array_equal(nibabel.load(label).get_fdata()[..., 0].T > 0, mine)
    for path in ("/datastore/label?id=mine&tag=final", "/datastore/image?id=mine"):
        assert server.ask(path, method="DELETE")[0] == 200
    # a refusal is the line, which Slicer shows
    with pytest.raises(Exception) as raised:
        client.infer("ssa", "dx", params | {"laterality": "choose"})
    assert "laterality: whose left does the sentence mean?" in raised.value.msg  # what its window shows


def test_without_its_weights_a_bundle_answers_nothing(server, bundles):
    model = bundles["ssa"] / "models" / "model.pt"
    line = "ssa/models/model.pt: is not there; put the weights back, or train the bundle"
    model.rename(model.with_suffix(".away"))
    try:
        assert server.infer("ssa", "dx", ASKED) == (503, {"detail": line})
        for path in ("/scoring/ssa", "/batch/infer/ssa"):
            assert server.post(f"{path}?run_sync=true", ASKED) == (503, {"detail": line})
            assert server.post(path, ASKED)[0] == 200
            task = server.finished(path.removesuffix("ssa"))
            assert task["status"] == "ERROR"
            assert task["details"][-1] == f"error: {line}"
    finally:
        model.with_suffix(".away").rename(model)
    assert server.infer("ssa", "dx", ASKED)[0] == 200


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


def test_nothing_of_a_request_or_a_task_is_left(server):
    """After all that was asked here, with and without success."""
    assert left_in(server.work / "tmp") == []
    assert list((server.work / "runs" / "ssa").iterdir())


def test_no_log_holds_a_sentence(server):
    server.infer("ssa", "dx", ASKED | {"text_prompt": "Opacity in the lingula of Mustermann's left lung."})
    for path in (server.log, *(server.work / "app" / "logs").iterdir()):
        text = path.read_text()
        assert "[sentence]" in text
        for words in ("Mustermann", "lower lobe", "lower left lung", "blorp", "getcwd", "upper lobe"):
            assert words not in text, (path.name, words)
