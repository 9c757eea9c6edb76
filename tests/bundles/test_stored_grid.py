"""Masks that are written lie in each file's stored grid, and their counts are the evaluator's.

The radiographs are no squares and are stored turned and flipped; the truth lies in their stored grids. The network was
trained for two steps, its threshold is what half of one picture is above, and the truth is what is bright in one
corner: both are of no symmetry, which is all that counts.
"""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tqdm import tqdm

import common
from common.batch import Prompts
from common.batch.job import Options
from common.batch.results import read_rows
from common.batch.run import Run, Settings
from common.datasets import phantoms
from common.errors import UserError, user_error
from common.images import to_stored, write_radiograph
from common.images.orientation import display_map
from common.metrics.overlap import counts

STORED = {"lf": ("L", "F"), "rf": ("R", "F"), "fl": ("F", "L"), "lh": ("L", "H")}
NAMES = ("lf.dcm", "rf.dcm", "fl.dcm", "lh.dcm", "lf.png")
ROWS, COLUMNS = 72, 52  # as displayed


@pytest.fixture(scope="session")
def radiographs(tmp_path_factory):
    """A data set as CSV: four DICOM files, and a PNG of the same stem as one of them."""
    root = tmp_path_factory.mktemp("stored")
    (root / "images").mkdir()
    (root / "masks").mkdir()
    table = []
    upper_left = np.add.outer(np.arange(ROWS) / ROWS, np.arange(COLUMNS) / COLUMNS) < 0.8
    for number, (stem, orientation) in enumerate([*STORED.items(), ("lf", None)]):
        phantom = phantoms.draw(number, 80, seed=9)
        image = phantom.image[:ROWS, 10 : 10 + COLUMNS]
        mask = upper_left & (image > np.median(image))
        name = f"{stem}.dcm" if orientation else f"{stem}.png"
        if orientation:
            write_radiograph(root / "images" / name, image, patient_orientation=orientation)
        else:
            Image.fromarray(image).save(root / "images" / name)
        stored = to_stored(mask, display_map(*orientation) if orientation else (0, 0, 0)).T
        Image.fromarray(stored.astype(np.uint8) * 255).save(root / "masks" / f"{name}.png")
        table.append({"image": name, "mask": f"{name}.png", "text": phantom.findings.caption("patient"),
                      "laterality": "patient", "split": "test"})  # fmt: skip
    with (root / "captions.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(table[0]))
        writer.writeheader()
        writer.writerows(table)
    return root


def read(path):
    return np.asarray(Image.open(path)) > 0


@pytest.fixture(scope="session")
def where(bundle, run, radiographs):
    """One image at a time, for the sums of a convolution may differ in their last bit with the batch."""
    model = common.load(bundle.root, ["demo"], "cpu", weights=run["weights"], image_size=run["image_size"])
    median = float(np.median(model(radiographs / "images" / "lf.png").probability))
    return run | {"dataset_dir": str(radiographs), "batch_size": 1, "threshold": median}


@pytest.fixture(scope="session")
def scores(bundle, where, tmp_path_factory):
    """The evaluator's (tp, fp, fn) of each image."""
    folder = tmp_path_factory.mktemp(f"{bundle.name}_scores")
    flow = bundle.workflow("train", "demo", "evaluate", kind="infer", **where | {"output_dir": str(folder)})
    flow.run()
    with (folder / "scores.csv").open(newline="") as file:
        return {Path(row["image"]).name: tuple(int(row[n]) for n in ("tp", "fp", "fn")) for row in csv.DictReader(file)}


@pytest.fixture(scope="session")
def segmented(bundle, where, radiographs, tmp_path_factory):
    """Masks that folder inference wrote."""
    folder, images = tmp_path_factory.mktemp(f"{bundle.name}_results"), radiographs / "images"
    override = {name: where[name] for name in ("image_size", "weights", "threshold")}
    options = Options(str(bundle.root), folder, overlays=("demo",), override=tuple(override.items()))
    prompts = Prompts(radiographs / "captions.csv")
    settings = Settings(images, options, prompts, workers=0, batch_size=1, device="cpu")
    Run(settings).go(lambda total, done: tqdm(disable=True))
    rows = list(read_rows(folder / "results.json"))
    assert [row["reason"] for row in rows] == [""] * 5
    return {row["source"]: (read(folder / row["mask"]), row) for row in rows}


@pytest.fixture(scope="session")
def inferred(bundle, where, radiographs, tmp_path_factory):
    """Masks that ``python -m monai.bundle run inferring`` writes."""
    folder, images = tmp_path_factory.mktemp(f"{bundle.name}_inferred"), radiographs / "images"
    override = {"dataset_dir": str(images), "output_dir": str(folder), "prompts": str(radiographs / "captions.csv")}
    bundle.workflow("inference", "demo", kind="infer", **where | override).run()
    assert sorted(path.name for path in folder.iterdir()) == [f"{p.name}_mask.png" for p in sorted(images.iterdir())]
    return {path.name: read(folder / f"{path.name}_mask.png") for path in images.iterdir()}


@pytest.mark.parametrize("name", NAMES)
def test_counts_of_written_masks_are_the_evaluators(name, scores, segmented, inferred, radiographs):
    truth = read(radiographs / "masks" / f"{name}.png")
    mask, _ = segmented[name]
    assert mask.shape == truth.shape == ((COLUMNS, ROWS) if name == "fl.dcm" else (ROWS, COLUMNS))
    assert counts(mask, truth) == scores[name]
    assert np.array_equal(inferred[name], mask)


@pytest.mark.parametrize("turn", [np.s_[::-1], np.s_[:, ::-1], np.s_[::-1, ::-1]])
def test_masks_laid_otherwise_have_other_counts(turn, bundle, scores, segmented, radiographs):
    """The test above could fail. One file's mask may hit as many pixels by chance, not all of them.

    Two steps give some networks masks of no shape, which lie alike either way; those that are named here do not.
    """
    truths = {name: read(radiographs / "masks" / f"{name}.png") for name in NAMES}
    others = sum(counts(segmented[name][0][turn], truths[name]) != scores[name] for name in NAMES)
    if others < 3 and bundle.name not in ("unet", "mmi_unet", "ssa"):
        pytest.skip(f"{bundle.name}: after two steps {others} of 5 masks tell how they lie; other bundles' do")
    assert others >= 3


@pytest.mark.parametrize("name", NAMES)
def test_rows_say_how_the_file_lies(name, segmented, bundle):
    _, row = segmented[name]
    letters = STORED.get(name.removesuffix(".dcm"), ())
    assert row["orientation"] == "\\".join(letters)
    assert row["prompt_used"] == ("given" if bundle.json("metadata")["default_prompt"] else "not used")
    assert row["status"] == "done"


@pytest.mark.parametrize("content", [b"garbage", {"layer": torch.zeros(1)}])
@pytest.mark.parametrize("what", ["evaluating", "inferring"])
def test_other_weights_are_one_line(what, content, bundle, where, radiographs, tmp_path):
    path = tmp_path / "model.pt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    names = ("train", "demo", "evaluate") if what == "evaluating" else ("inference", "demo")
    override = {"weights": str(path), "output_dir": str(tmp_path / "out")}
    if what == "inferring":
        override["dataset_dir"] = str(radiographs / "images")
    with pytest.raises((UserError, RuntimeError)) as found:
        bundle.workflow(*names, kind="infer", **where | override).run()
    line = user_error(found.value)
    assert str(line).startswith(f"{path}: ")
    assert "\n" not in str(line)
