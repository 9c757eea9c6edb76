"""``python -m tools evaluate`` on phantoms: weights of a text encoder that lies in a folder, degraded pictures."""

import csv
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from PIL import Image

from common.bundle import bundle_folder, configuration_files
from common.datasets import phantoms
from common.images import write_radiograph
from common.networks.checkpoints import SHIPPED
from common.transforms import DEGRADATIONS
from tools.__main__ import main


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Phantoms; a text encoder with "left" and "right" in each other's place; random weights trained with it."""
    root = tmp_path_factory.mktemp("made")
    phantoms.write(root / "data", count=20, size=64, seed=4, inbox=0)
    shutil.copytree(SHIPPED["compact"], root / "encoder")
    pieces = (root / "encoder" / "vocab.txt").read_text().split("\n")
    left, right = pieces.index("left"), pieces.index("right")
    pieces[left], pieces[right] = pieces[right], pieces[left]
    (root / "encoder" / "vocab.txt").write_text("\n".join(pieces))
    parser = ConfigParser()
    parser.read_config(configuration_files(bundle_folder("mmi_unet"), ["inference", "demo"]))
    parser.update({"text_checkpoint": str(root / "encoder"), "load_pretrained": True})
    torch.save(parser.get_parsed_content("network_def").state_dict(), root / "model.pt")
    return root


def evaluate(made, output, *more):
    return main(["evaluate", "--bundle", "mmi_unet", "--overlay", "demo", "--weights", str(made / "model.pt"),
                 "--data", str(made / "data"), "--split", "test", "--limit", "2", "--output", str(output),
                 "--set", "image_size=[32, 32]", *more])  # fmt: skip


def test_an_encoder_of_ones_own_is_named_by_set(made, tmp_path):
    assert evaluate(made, tmp_path, "--set", f"text_checkpoint={made / 'encoder'}") == 0
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert (summary["images"], summary["splits"]) == (2, "published")


def test_splits_are_a_setting(made, tmp_path, capsys):
    own = f"text_checkpoint={made / 'encoder'}"
    assert evaluate(made, tmp_path, "--set", own, "--set", "splits=volume_disjoint") == 2
    assert (
        "splits: 'volume_disjoint' is of MosMedData+ alone, and this is csv; leave splits out"
        in capsys.readouterr().err
    )


def test_without_it_the_weights_are_refused(made, tmp_path, capsys):
    assert evaluate(made, tmp_path) == 2
    err = capsys.readouterr().err
    assert "model.pt: these weights do not fit MMIUNet: the weights were trained with another vocabulary" in err
    assert err.count("error: ") == 1 and not (tmp_path / "summary.json").exists()


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """Test rows whose images are PNG and DICOM in turn."""
    root = tmp_path_factory.mktemp("mixed")
    rows = ["image,mask,text,laterality,subject,split"]
    for number in range(6):
        phantom = phantoms.draw(number, 64, 4)
        stem = f"{number:02d}"
        Image.fromarray(phantom.mask.astype(np.uint8) * 255).save(root / f"{stem}_mask.png")
        name = f"{stem}.{('png', 'dcm')[number % 2]}"
        if number % 2:
            write_radiograph(root / name, phantom.image, patient_orientation=("L", "F"))
        else:
            Image.fromarray(phantom.image).save(root / name)
        rows.append(f"{name},{stem}_mask.png,Opacity of the left lung.,image,{number},test")
    (root / "captions.csv").write_text("\n".join(rows) + "\n")
    return root


def degraded(mixed, weights, output, *more):
    """Counts of each image, and the summary."""
    assert main(["evaluate", "--bundle", "unet", "--overlay", "demo", "--weights", str(weights / "unet.pt"), "--data",
                 str(mixed), "--output", str(output), "--set", "image_size=[32, 32]", *more]) == 0  # fmt: skip
    with (output / "scores.csv").open() as file:
        rows = {Path(row["image"]).name: (row["tp"], row["fp"], row["fn"]) for row in csv.DictReader(file)}
    return rows, json.loads((output / "summary.json").read_text())


def test_degraded_pictures(mixed, weights, tmp_path):
    clean, summary = degraded(mixed, weights, tmp_path / "clean")
    assert summary["degrade"] is None and len(clean) == 6
    noisy, summary = degraded(mixed, weights, tmp_path / "noisy", "--degrade", "noise110")
    assert summary["degrade"] == "noise110"
    # all of them, DICOM too
    assert all(noisy[name] != clean[name] for name in clean)
    single, _ = degraded(mixed, weights, tmp_path / "single", "--degrade", "noise110", "--set", "batch_size=1")
    assert single == noisy
    part, _ = degraded(mixed, weights, tmp_path / "part", "--degrade", "noise110", "--limit", "3", "--data-seed", "5")
    assert len(part) == 3 and part.items() <= noisy.items()
    blurred, summary = degraded(mixed, weights, tmp_path / "blurred", "--degrade", "blur7")
    assert summary["degrade"] == "blur7" and blurred != clean and blurred != noisy


def test_a_blank_image_has_nothing_to_degrade(mixed, weights, tmp_path):
    blank, _ = degraded(mixed, weights, tmp_path / "blank", "--blank-image")
    for name in ("noise140", "blur7"):
        both, summary = degraded(mixed, weights, tmp_path / name, "--blank-image", "--degrade", name)
        assert both == blank and summary["blank_image"] is True and summary["degrade"] == name


def test_an_unknown_degradation_is_one_line(mixed, weights, tmp_path, capsys):
    assert main(["evaluate", "--bundle", "unet", "--overlay", "demo", "--weights", str(weights / "unet.pt"), "--data",
                 str(mixed), "--output", str(tmp_path / "out"), "--degrade", "noise90"]) == 2  # fmt: skip
    err = capsys.readouterr().err
    assert "error: degrade: 'noise90' is not known; use one of noise140, noise120, noise110, blur3, blur5, blur7" in err
    assert err.count("error: ") == 1 and not (tmp_path / "out").exists()


def test_help_names_every_degradation(capsys):
    with pytest.raises(SystemExit):
        main(["evaluate", "--help"])
    words = re.findall(r"\w+", capsys.readouterr().out)
    assert set(DEGRADATIONS) <= set(words)
