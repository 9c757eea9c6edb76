"""The served copies of every bundle, and what their chains answer, without MONAI Label."""

import json

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from monai.transforms import LoadImaged

import common
from common.bundle import BUNDLES, bundle_folder
from common.errors import UserError
from common.runtime.workflow import merged_config
from common.serving.label.served import fields_of, serve, served_inference, served_training

from .conftest import small_bundle

NAMES = sorted(path.parent.name for path in BUNDLES.glob("*/configs"))
SENTENCE = "Opacity in the left lower lobe."


def targets(steps):
    return [step["_target_"].split(".")[-1] for step in steps]


@pytest.mark.parametrize("name", NAMES)
def test_every_bundle_can_be_served(name):
    folder = bundle_folder(name)
    inference = served_inference(merged_config(folder, ["inference"], {}))
    assert targets(inference["deterministic_transforms"])[:4] == [
        "CheckRequestd", "LoadImaged", "ToDisplayd", "KeepPictured",
    ]  # fmt: skip
    assert targets(inference["postprocessing"]["transforms"]) == ["Activationsd", "Answerd"]
    assert "displayable_configs" not in inference
    training = served_training(merged_config(folder, ["train", "demo"], {}), "radiograph")
    steps = targets(training["deterministic_transforms"])
    assert steps[0] == "SourceImaged"
    assert steps.index("SentenceOfLabeld") + 1 == steps.index("PreparePromptd")
    handlers = targets(training["train"]["handlers"])
    assert handlers[-1] == "ScoreFirst"
    assert "LastCheckpoint" not in handlers
    # MONAI Label puts its loader first, so that numbers of handlers would point at others
    assert "handlers::" not in json.dumps(training)
    assert (training["epoch_length"], training["train"]["trainer"].get("unlabelled")) == (None, None)


def test_the_copy_is_the_bundles_own_but_for_what_is_added(bundles, tmp_path):
    served = serve(str(bundles["ssa"]), tmp_path, override={"threshold": 0.4})
    assert served.name == "ssa"
    assert served.modalities == ("CR", "DX")
    assert served.fields == {"text_prompt": "", "laterality": ["choose", "patient", "image"], "threshold": 0.4}
    assert (served.folder / "models").resolve() == bundles["ssa"] / "models"
    own = json.loads((bundles["ssa"] / "configs" / "train.json").read_text())
    copy = json.loads((served.folder / "configs" / "train.json").read_text())
    assert {key for key in own if own[key] != copy[key]} == {
        "imports", "run_dir", "epoch_length", "amp", "initialize", "deterministic_transforms", "train", "validate",
        "load_pretrained",
    }  # fmt: skip
    with pytest.raises(UserError, match="a bundle named ssa is served already"):
        serve(str(bundles["ssa"]), tmp_path)


def test_refusals(bundles, tmp_path):
    with pytest.raises(UserError, match="there are no trained weights"):
        serve(str(bundles["ssa"]), tmp_path, override={"weights": str(tmp_path / "none.pt")})
    torch.save({}, tmp_path / "other.pt")
    with pytest.raises(UserError, match=r"MONAI Label looks for a file model\.pt"):
        serve(str(bundles["ssa"]), tmp_path, override={"weights": str(tmp_path / "other.pt")})
    config = merged_config(bundles["ssa"], ["inference"], {})
    config["postprocessing"]["transforms"].pop(1)
    with pytest.raises(UserError, match="postprocessing: is not Activationsd, Invertd"):
        served_inference(config)


def test_fields():
    assert fields_of(False, "chest", 0.5) == {"threshold": 0.5}
    assert fields_of(True, "polyp", 0.5)["laterality"] == ["choose", "image"]


class Chain:
    """What MONAI Label does with a served bundle, step by step."""

    def __init__(self, folder):
        self.parser = ConfigParser()
        self.parser.read_config(str(folder / "configs" / "inference.json"))
        self.parser.update({"bundle_root": str(folder), "device": "cpu"})
        self.network = self.parser.get_parsed_content("network_def")
        self.network.load_state_dict(torch.load(folder / "models" / "model.pt", weights_only=True))
        self.network.eval()

    def __call__(self, image, **params):
        data = {"image": str(image), "laterality": ["choose", "patient", "image"], "text_prompt": ""} | params
        for step in self.parser.get_parsed_content("preprocessing").transforms:
            if isinstance(step, LoadImaged):
                step._loader.image_only = False
            data = step(data)
        with torch.no_grad():
            logits = self.parser.get_parsed_content("inferer")(data["image"][None], self.network)
        data["pred"] = logits[0]
        for step in self.parser.get_parsed_content("postprocessing").transforms:
            data = step(data)
        return data


@pytest.fixture(scope="module")
def chains(bundles, tmp_path_factory):
    app = tmp_path_factory.mktemp("app")
    return {name: Chain(serve(str(folder), app).folder) for name, folder in bundles.items()}


@pytest.mark.parametrize(
    ("model", "image"),
    [("ssa", "png"), ("ssa", "nii"), ("ssa", "dx"), ("ssa", "cr"), ("unet", "cr"), ("bright_ct", "ct")],
)
def test_the_answer_is_that_of_the_bundle(chains, bundles, studies, model, image):
    wanted = common.load(bundles[model], device="cpu")(studies[image], SENTENCE, "patient")
    got = chains[model](studies[image], text_prompt=SENTENCE, laterality="patient")
    mask = got["pred"].numpy()
    assert mask.dtype == np.uint8
    assert mask.shape == ((80, 96) if image == "png" else (80, 96, 1))
    assert np.array_equal(mask.reshape(80, 96).T > 0, wanted.mask)
    assert 0 < wanted.mask.mean() < 1
    prompt = got["result"]["prompt"]
    assert prompt["used"] == ("not used" if model == "unet" else "given")
    assert (prompt["understood"], prompt["laterality"]) == (
        "Unilateral pulmonary infection, lower left lung.",
        "patient",
    )
    assert (prompt["sides"], prompt["zones"]) == ("patient left", "patient left lower")
    assert got["result"]["mask"]["pixels"] == wanted.mask.sum()
    assert got["result"]["verdict"]["level"] in ("ok", "note", "review")
    assert got["result_dtype"] == "uint8"
    assert got["result_extension"] == (".png" if image == "png" else ".nii.gz")


def test_without_a_sentence_the_answer_says_so(chains, bundles, studies):
    got = chains["ssa"](studies["dx"])
    assert got["result"]["prompt"]["used"] == "default"
    assert "asserts disease everywhere" in " ".join(got["result"]["verdict"]["reasons"])
    assert np.array_equal(
        got["pred"].numpy()[..., 0].T > 0, common.load(bundles["ssa"], device="cpu")(studies["dx"]).mask
    )


def test_a_threshold_is_taken_from_the_request(chains, bundles, studies):
    probability = common.load(bundles["unet"], device="cpu")(studies["cr"]).probability
    threshold = round(float(np.median(probability)), 3)
    got = chains["unet"](studies["cr"], threshold=threshold)
    assert got["result"]["threshold"] == threshold
    assert np.array_equal(got["pred"].numpy()[..., 0].T > 0, probability >= threshold)


def test_png_answers_of_radiographs_are_flat(chains, studies):
    assert chains["ssa"](studies["dx"], result_extension=".png")["pred"].shape == (80, 96)


@pytest.mark.parametrize(
    ("model", "image", "params", "words"),
    [
        ("ssa", "ct", {}, "^ct.dcm: modality CT; the bundle is for CR, DX; choose another image or another model$"),
        ("bright_ct", "dx", {}, "^dx.dcm: modality DX; the bundle is for CT"),
        ("ssa", "foot", {}, "^foot.dcm: body part FOOT; the bundle is for CHEST"),
        ("ssa", "lateral", {}, "^lateral.dcm: .*lateral"),
        ("ssa", "dx", {"text_prompt": SENTENCE}, "^laterality: whose left"),
        ("ssa", "dx", {"text_prompt": "fnord", "laterality": "image"}, "^text_prompt: .* not understood: .fnord"),
        ("ssa", "missing", {}, "^missing.dcm: no such file"),
        ("ssa", "dx", {"threshold": 2}, "^threshold"),
    ],
)  # fmt: skip
def test_requests_that_are_refused(chains, studies, model, image, params, words):
    path = studies.get(image, studies["dx"].with_name(f"{image}.dcm"))
    with pytest.raises(UserError, match=words):
        chains[model](path, **params)


def test_an_image_that_is_not_known_is_refused(chains):
    with pytest.raises(UserError, match=r"^image: no such image; write an id that /datastore lists$"):
        chains["ssa"]("")


@pytest.mark.parametrize(
    "sentence",
    [
        "$import pwned",
        "$from os import getcwd as torch",
        "%x.json",
        "@device",
        '$__import__("os").system("touch pwned")',
    ],
)
def test_a_sentence_is_never_code(chains, bundles, studies, sentence, tmp_path, monkeypatch):
    (tmp_path / "pwned.py").write_text("open('ran', 'w')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    before = json.dumps(chains["ssa"].parser.get(), default=str)
    if sentence == "@device":  # a word of reports, which marks nothing
        got = chains["ssa"](studies["dx"], text_prompt=sentence, laterality="patient")
        assert got["result"]["prompt"]["understood"] == "No pulmonary infection."
    else:
        with pytest.raises(UserError, match="text_prompt: sentence not understood"):
            chains["ssa"](studies["dx"], text_prompt=sentence, laterality="patient")
    assert json.dumps(chains["ssa"].parser.get(), default=str) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pwned.py"]
    right = chains["ssa"](studies["dx"], text_prompt=SENTENCE, laterality="patient")["pred"].numpy()
    wanted = common.load(bundles["ssa"], device="cpu")(studies["dx"], SENTENCE, "patient").mask
    assert np.array_equal(right[..., 0].T > 0, wanted)


def test_small_bundles_are_of_any_method(tmp_path):
    assert serve(str(small_bundle(tmp_path / "c2seg", "c2seg")), tmp_path / "app").fields["laterality"][0] == "choose"
