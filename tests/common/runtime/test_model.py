"""A bundle as a function: what it makes of sentences, devices, weights and half precision."""

from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from PIL import Image

import common
from common.bundle import BUNDLES
from common.errors import UserError
from common.images import read_image, read_mask, to_stored, write_radiograph
from common.runtime import model as module
from common.runtime.model import device_of, kind_of

SMALL = {
    "image_size": [32, 32], "network_def::network::channels": [2, 4, 4, 4, 4], "network_def::network::num_res_units": 1,
}  # fmt: skip
SENTENCE = "Opacity in the right lower lobe."


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A small U-Net that nobody trained."""
    parser = ConfigParser()
    parser.read_config(str(BUNDLES / "unet" / "configs" / "inference.json"))
    parser.update({"bundle_root": str(BUNDLES / "unet")} | SMALL)
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "model.pt"
    torch.save(parser.get_parsed_content("network_def").state_dict(), path)
    return str(path)


@pytest.fixture(scope="module")
def model(weights):
    return common.load("unet", ["demo"], "cpu", weights=weights, **SMALL)


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 50), dtype=np.uint8)).save(path)
    return path


def test_a_network_without_text_uses_no_sentence(model, image):
    assert (model.kind, model.takes_text, model.amp) == ("radiograph", False, False)
    assert model(image).prompt_used == "not used"
    found = model(image, SENTENCE, "patient")
    assert found.prompt_used == "not used"
    assert found.findings.sides == {"left"}
    assert found.mask.shape == found.probability.shape == (40, 50)


def test_a_sentence_is_given_or_the_default_one(model, image, monkeypatch):
    monkeypatch.setattr(model, "takes_text", True)
    for blank in (None, "", "  ", "\n"):
        found = model(image, blank)
        assert (found.prompt_used, found.findings) == ("default", None)
        assert found.sentence.startswith("Bilateral pulmonary infection, upper middle lower left lung")
    found = model(image, SENTENCE, "patient")
    assert (found.prompt_used, found.sentence) == ("given", "Unilateral pulmonary infection, lower left lung.")
    with pytest.raises(UserError, match="say whose left the sentence means"):
        model(image, SENTENCE)
    with pytest.raises(UserError, match="no such file"):
        model(image.with_name("other.png"), SENTENCE, "patient")


@pytest.mark.parametrize("name", ["nonsense", "cuda:99", "meta", "cpu'); raise SystemExit('", ""])
def test_a_device_that_is_not_there_is_one_line(name, weights):
    for attempt in (lambda: device_of(name), lambda: common.load("unet", ["demo"], name, weights=weights)):
        with pytest.raises(UserError, match="is not there; write cpu") as found:
            attempt()
        assert "\n" not in str(found.value)


@pytest.mark.parametrize("content", [b"garbage", None])
def test_other_weights_are_one_line(content, tmp_path):
    path = tmp_path / "model.pt"
    if content is None:
        torch.save({"layer": torch.zeros(1)}, path)
    else:
        path.write_bytes(content)
    with pytest.raises(UserError, match=r"model\.pt: (not a readable file|these weights do not fit)") as found:
        common.load("unet", ["demo"], "cpu", weights=str(path), **SMALL)
    assert "\n" not in str(found.value)


@pytest.mark.parametrize(
    ("amp", "kind", "enabled"), [(True, "cuda", True), (False, "cuda", False), (True, "cpu", False)]
)
def test_half_precision_as_in_the_evaluator(model, image, monkeypatch, amp, kind, enabled):
    """MONAI's evaluator computes in half precision on CUDA only, if the configuration's ``amp`` says so."""
    asked = []

    class Device:
        type = kind

    def autocast(device_type, dtype, enabled):
        asked.append((device_type, dtype, enabled))
        return nullcontext()

    monkeypatch.setattr(model, "amp", amp)
    monkeypatch.setattr(model, "device", Device())
    monkeypatch.setattr(module.torch, "autocast", autocast)
    monkeypatch.setattr(module, "amp_dtype", lambda device: torch.bfloat16)
    monkeypatch.setattr(torch.Tensor, "to", lambda tensor, *args, **kwargs: tensor)
    model(image)
    assert asked == [(kind, torch.bfloat16, enabled)]


def test_amp_is_the_configurations(weights):
    assert common.load("unet", ["demo"], "cpu", weights=weights, amp=True, **SMALL).amp is True


@pytest.mark.parametrize(
    ("grammar", "modality", "kind"),
    [("chest", "CR, DX", "radiograph"), ("chest", "CT", "axial_ct"), ("polyp", "ES", "polyp")],
)
def test_kind_of_image(grammar, modality, kind):
    assert kind_of({"grammar": grammar, "modality": modality}) == kind


@pytest.mark.parametrize("stored", [("L", "F"), ("R", "F"), ("F", "L"), ("L", "H")])
def test_a_mask_saved_as_nifti_stands_as_its_dicom(model, tmp_path, stored):
    """By the file's affine, not by that of the resized picture that the network got."""
    picture = np.random.default_rng(0).integers(0, 255, (40, 50), dtype=np.uint8)
    write_radiograph(tmp_path / "a.dcm", picture, patient_orientation=stored)
    found = model(tmp_path / "a.dcm")
    found = replace(found, mask=to_stored(picture > 200, found.meta["display"]).T)
    found.save(tmp_path / "a.nii.gz")
    meta = read_image(tmp_path / "a.dcm")[1]
    np.testing.assert_allclose(found.meta["affine"], meta["affine"])
    assert np.array_equal(read_mask(tmp_path / "a.nii.gz", meta), picture > 200)
