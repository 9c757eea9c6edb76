"""The degradations by name, and in the chains of a bundle's configurations."""

import re
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from PIL import Image

from common.bundle import bundle_folder, configuration_files
from common.errors import UserError
from common.images import write_radiograph
from common.transforms import DEGRADATIONS, LowDoseNoised, MotionBlurd, degradation

GUIDE = Path(__file__).resolve().parents[3] / "docs" / "adding-a-method.md"


def test_names_are_those_of_the_papers_table():
    assert list(DEGRADATIONS) == ["noise140", "noise120", "noise110", "blur3", "blur5", "blur7"]
    image = MetaTensor(torch.rand(1, 32, 32), meta={"filename_or_obj": "a.png"})
    for name in DEGRADATIONS:
        strength = int(re.search(r"\d+", name)[0])
        direct = (LowDoseNoised if "noise" in name else MotionBlurd)("image", strength)
        assert torch.equal(degradation("image", name)({"image": image})["image"], direct({"image": image})["image"])


@pytest.mark.parametrize("name", ["noise90", "blur", "Noise140", ""])
def test_another_name_is_one_line(name):
    words = f"degrade: {name!r} is not known; use one of noise140, noise120, noise110, blur3, blur5, blur7"
    with pytest.raises(UserError, match=words) as fault:
        degradation("image", name)
    assert "\n" not in str(fault.value)


@pytest.fixture
def files(tmp_path):
    """One picture as PNG, DICOM (stored flipped, MONOCHROME1) and NIfTI."""
    pixels = np.random.default_rng(0).integers(0, 255, (48, 40), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    write_radiograph(tmp_path / "a.dcm", pixels, photometric="MONOCHROME1", patient_orientation=("R", "F"))
    affine = np.diag([-1.0, -1.0, 1.0, 1.0])
    nibabel.save(nibabel.Nifti1Image(pixels.T.copy(), affine), tmp_path / "a.nii.gz")
    return [tmp_path / name for name in ("a.png", "a.dcm", "a.nii.gz")]


def steps(degrade):
    """The template's chain of evaluation up to the degradation, and the rest of it."""
    parser = ConfigParser()
    parser.read_config(configuration_files(bundle_folder("mmi_unet"), ["train", "demo", "evaluate"]))
    parser.update({"bundle_root": "B", "image_size": [32, 32], "degrade": degrade})
    before = parser.get_parsed_content("deterministic_transforms")
    whole = parser.get_parsed_content("validate::preprocessing").transforms
    return before, whole[len(before) :]


@pytest.mark.parametrize("name", list(DEGRADATIONS))
def test_it_works_on_each_format_after_the_chain(files, name):
    before, after = steps(name)
    clean = []
    for file in files:
        data = {"image": str(file), "text_prompt": "Opacity of the left lung.", "laterality": "image"}
        for step in before:
            data = step(data)
        clean.append(data["image"])
        found = after[0](data)["image"]
        assert found.shape == (1, 32, 32) and found.min() >= 0 and found.max() <= 1
        # the noise is that of mid-grey; a blur of a noise picture takes most of it
        change = (found - data["image"]).std().item()
        assert 0.03 < change < 0.4
        assert found.meta["filename_or_obj"] == str(file)
        assert found.applied_operations == data["image"].applied_operations
    assert all(torch.allclose(other.as_tensor(), clean[0].as_tensor(), atol=2e-3) for other in clean[1:])


def test_without_a_name_the_chain_is_the_clean_one():
    _, after = steps(None)
    assert [type(step).__name__ for step in after] == ["NormalizeIntensityd", "EnsureTyped", "TokenizePromptd"]
    _, after = steps("blur3")
    assert [type(step).__name__ for step in after][:2] == ["MotionBlurd", "NormalizeIntensityd"]


def test_the_guides_overlay_augments(files, tmp_path):
    """What docs/adding-a-method.md shows, word for word: on top of train.json, behind the bundle's own transforms."""
    (shown,) = re.findall(r"```json\n(\{\n    \"\+train::random_transforms.*?)```", GUIDE.read_text(), re.DOTALL)
    (tmp_path / "degraded.json").write_text(shown)
    for bundle in ("mmi_unet", "unet"):
        parser = ConfigParser()
        parser.read_config([*configuration_files(bundle_folder(bundle), ["train", "demo"]), tmp_path / "degraded.json"])
        parser.update({"bundle_root": "B", "image_size": [32, 32]})
        chain = parser.get_parsed_content("train::preprocessing").set_random_state(0)
        names = [type(step).__name__ for step in chain.transforms]
        assert names.index("RandMirrorPromptd") < names.index("RandLowDoseNoised") < names.index("RandMotionBlurd")
        assert names.index("RandMotionBlurd") < names.index("NormalizeIntensityd")
        item = {"image": str(files[0]), "label": str(files[0]), "text_prompt": "", "laterality": "image"}
        pictures = {chain(item)["image"].numpy().tobytes() for _ in range(30)}
        assert 8 < len(pictures) < 28
