"""Several bundles on the same images: how a run is written, which images, what each condition gives."""

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from PIL import Image

from common.bundle import bundle_folder, configuration_files
from common.datasets import phantoms
from common.errors import UserError
from common.images import display_array, write_radiograph
from common.runtime.compare import compare, pick, run_of

SMALL = {"U": {"image_size": [32, 32]}}


@pytest.fixture(scope="module")
def items(tmp_path_factory):
    """A PNG, a DICOM stored turned by half, a lateral DICOM; the last sentence is not understood."""
    root = tmp_path_factory.mktemp("items")
    found = []
    for number, orientation in enumerate([None, ("R", "H"), ("A", "F")]):
        phantom = phantoms.draw(number, 64, 4)
        path, mask = root / f"{number}.{'dcm' if number else 'png'}", root / f"{number}_mask.png"
        if number:
            write_radiograph(path, phantom.image, patient_orientation=orientation)
        else:
            Image.fromarray(phantom.image).save(path)
        stored = phantom.mask[::-1, ::-1] if number == 1 else phantom.mask
        Image.fromarray(stored.astype(np.uint8) * 255).save(mask)
        text = "Opacity of the left lung." if number < 2 else "flurb"
        found.append({"image": str(path), "label": str(mask), "text_prompt": text, "laterality": "image"})
    return found


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The small U-Net that nobody trained."""
    torch.manual_seed(0)
    parser = ConfigParser()
    parser.read_config(configuration_files(bundle_folder("unet"), ["inference", "demo"]))
    path = tmp_path_factory.mktemp("weights") / "a=b.pt"
    torch.save(parser.get_parsed_content("network_def").state_dict(), path)
    return run_of(f"U=unet:demo={path}")


def test_a_run_is_name_bundle_overlays_and_weights(run):
    assert (run.name, run.folder, run.overlays) == ("U", bundle_folder("unet"), ("demo",))
    assert run.weights.endswith("/a=b.pt")
    plain = run_of("My network =mmi_unet")
    assert (plain.name, plain.overlays, plain.weights) == ("My network", (), None)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("unet", "--run unet: write NAME=BUNDLE=WEIGHTS or NAME=BUNDLE:OVERLAY=WEIGHTS"),
        ("=unet=w.pt", "--run =unet=w.pt: write NAME=BUNDLE"),
        ("a==w.pt", "--run a==w.pt: write NAME=BUNDLE"),
        ("a=no_bundle=w.pt", "no_bundle: is no bundle; give a bundle's folder or one of: "),
        ("a=unet:small=w.pt", "small.json: is not there; the bundle has demo, "),
    ],
)
def test_a_run_written_otherwise_is_one_line(text, words):
    with pytest.raises(UserError, match=words) as fault:
        run_of(text)
    assert "\n" not in str(fault.value)


def test_images_by_name_in_the_order_asked(items):
    assert pick(items, ["2", "0.png"]) == [items[2], items[0]]
    with pytest.raises(UserError, match="--image 7: no image of that name in this split"):
        pick(items, ["0", "7"])
    with pytest.raises(UserError, match="--image 0: 2 images of that name"):
        pick([*items, items[0]], ["0"])


def test_each_image_in_each_condition(items, run):
    cases = compare([run, run], items, (None, "noise110", "blur7"), "cpu", SMALL)
    assert [(case.item["image"], case.degrade) for case in cases] == [
        (item["image"], degrade) for item in items for degrade in (None, "noise110", "blur7")
    ]
    for number in range(3):
        clean, noisy, blurred = cases[3 * number : 3 * number + 3]
        phantom = phantoms.draw(number, 64, 4)
        for case in (clean, noisy, blurred):
            assert np.array_equal(case.truth, phantom.mask > 0)
            assert np.allclose(case.file_picture, display_array(items[number]["image"]), atol=1e-6)
            assert case.picture.shape == (32, 32) and case.picture.min() >= 0 and case.picture.max() <= 1
            assert len(case.masks) == 2 and np.array_equal(*case.masks)
            assert case.masks[0].shape == case.truth.shape and case.marker == ("" if number == 2 else "R")
        assert 0.03 < (noisy.picture - clean.picture).std() < 0.12
        assert np.abs(np.diff(blurred.picture)).mean() < np.abs(np.diff(clean.picture)).mean()
        assert not np.array_equal(noisy.masks[0], clean.masks[0])


def test_an_unknown_degradation_is_said_before_anything_is_loaded(items, run):
    with pytest.raises(UserError, match="degrade: 'noise1' is not known; use one of noise140"):
        compare([run_of("U=unet=none.pt")], items, (None, "noise1"), "cpu")
