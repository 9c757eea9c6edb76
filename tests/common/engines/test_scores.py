import csv
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from monai.data import DataLoader, Dataset, decollate_batch
from monai.transforms import Compose, EnsureChannelFirstd, LoadImaged, Resized
from PIL import Image

from common.engines import ScoreCases
from common.errors import UserError
from common.images import ChestReader, read_image, to_stored, write_radiograph
from common.transforms import ToDisplayd

SENTENCE = "Unilateral pulmonary infection, one infected area, lower left lung."


def lesion():
    """As displayed: low at the left of the picture."""
    mask = np.zeros((60, 48), np.uint8)
    mask[36:54, 4:16] = 255
    return mask


def loaded(image, label):
    chain = Compose(
        [
            LoadImaged(["image", "label"], reader=ChestReader, image_only=True),
            EnsureChannelFirstd(["image", "label"]),
            ToDisplayd(["image", "label"]),
        ]
    )
    item = chain({"image": str(image), "label": str(label)})
    return item | {"text_prompt": SENTENCE, "prompt_used": "given", "subject": "s", "source": "test"}


@pytest.mark.parametrize("orientation", [("L", "F"), ("R", "F"), ("F", "L"), ("L", "H")])
def test_source_grid_of_every_orientation(tmp_path, orientation):
    """A perfect prediction scores 1 and lies on the sentence's side, however the file is stored."""
    image, label = tmp_path / "x.dcm", tmp_path / "y.png"
    write_radiograph(image, lesion(), patient_orientation=orientation, spacing=(0.5, 0.25))
    meta = LoadImaged("image", reader=ChestReader, image_only=True)({"image": str(image)})["image"].meta
    stored = to_stored(lesion(), meta["display"])
    Image.fromarray(stored.T).save(label)
    item = loaded(image, label)
    row = ScoreCases(tmp_path, "chest").score(item, torch.as_tensor(stored[None] > 0).float())
    assert row["dice"] == 1.0
    assert row["laterality_prediction"] == row["laterality_truth"] == 1.0
    assert (row["row_mm"], row["column_mm"]) == (0.5, 0.25)
    # the mirror image of the mask is on the other side
    wrong = ScoreCases(tmp_path, "chest").score(
        item, torch.as_tensor(to_stored(lesion()[:, ::-1].copy(), meta["display"])[None] > 0).float()
    )
    assert wrong["dice"] == 0.0
    assert wrong["laterality_prediction"] == 0.0


def test_network_grid_compares_what_the_network_saw(tmp_path):
    Image.fromarray(lesion()).save(tmp_path / "x.png")
    item = loaded(tmp_path / "x.png", tmp_path / "x.png")
    row = ScoreCases(tmp_path, "chest", grid="network").score(item, item["label"])
    assert (row["dice"], row["height"], row["width"]) == (1.0, 60, 48)
    assert row["row_mm"] is None


def test_a_default_sentence_is_not_held_against_the_mask(tmp_path):
    Image.fromarray(lesion()).save(tmp_path / "x.png")
    item = loaded(tmp_path / "x.png", tmp_path / "x.png") | {"prompt_used": "default"}
    row = ScoreCases(tmp_path, "chest", grid="network").score(item, item["label"])
    assert row["laterality_prediction"] is None


def test_files_and_order(tmp_path, capsys):
    Image.fromarray(lesion()).save(tmp_path / "b.png")
    Image.fromarray(lesion()).save(tmp_path / "a.png")
    scores = ScoreCases(tmp_path / "out", "chest", about={"split": "test"})
    items = [loaded(tmp_path / f"{n}.png", tmp_path / f"{n}.png") for n in "ba"]
    preds = [{"pred": torch.as_tensor(lesion().T[None] > 0).float()} for _ in items]
    engine = SimpleNamespace(state=SimpleNamespace(batch=items, output=preds, rank=0))
    scores.start(engine)
    scores(engine)
    scores.finish(engine)
    rows = list(csv.DictReader((tmp_path / "out" / "scores.csv").open()))
    assert [row["image"][-5:] for row in rows] == ["a.png", "b.png"]
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert (summary["split"], summary["grid"], summary["dice"]["micro"]["value"]) == ("test", "source", 1.0)
    assert (tmp_path / "out" / "table.txt").read_text().strip() in capsys.readouterr().out


def test_refusals(tmp_path):
    with pytest.raises(UserError, match="scored_grid is 'paper'; write 'source'"):
        ScoreCases(tmp_path, "chest", grid="paper")
    Image.fromarray(lesion()).save(tmp_path / "x.png")
    Image.fromarray(lesion()[::2]).save(tmp_path / "y.png")
    item = loaded(tmp_path / "x.png", tmp_path / "x.png")
    item["label"].meta["filename_or_obj"] = str(tmp_path / "y.png")
    with pytest.raises(UserError, match=r"y.png: the mask is 48 x 30 pixels, its image 48 x 60; give a mask on its"):
        ScoreCases(tmp_path, "chest").score(item, torch.zeros(1, 48, 60))


@pytest.mark.parametrize("orientation", [("R", "F"), ("F", "L")])
def test_the_way_survives_resizing_and_batches(tmp_path, orientation):
    """The evaluator sees what the data loader made of the meta; the mask still finds its place."""
    image, label = tmp_path / "x.dcm", tmp_path / "y.png"
    write_radiograph(image, lesion(), patient_orientation=orientation)
    stored = to_stored(lesion(), read_image(image)[1]["display"])
    Image.fromarray(stored.T).save(label)
    item = Resized(["image", "label"], (32, 32))(loaded(image, label))
    (item,) = decollate_batch(next(iter(DataLoader(Dataset([item]), batch_size=1))))
    row = ScoreCases(tmp_path, "chest").score(item, torch.as_tensor(stored[None] > 0).float())
    assert (row["dice"], row["height"], row["width"], row["laterality_truth"]) == (1.0, 60, 48, True)
