"""Every bundle is trained from submitted labels, and scores uncertainty, as MONAI Label does both; without it."""

import hashlib
import json

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser, run
from PIL import Image

from common.bundle import BUNDLES
from common.datasets import phantoms
from common.serving.label.served import serve

from .conftest import small_bundle

NAMES = sorted(path.parent.name for path in BUNDLES.glob("*/configs"))


@pytest.fixture(scope="module")
def labels(tmp_path_factory):
    """Six phantoms and their masks, as a datastore of MONAI Label lays them."""
    root = tmp_path_factory.mktemp("datastore")
    (root / "labels" / "final").mkdir(parents=True)
    items = []
    for number in range(6):
        drawn = phantoms.draw(number, 96)
        image, label = root / f"{number}.png", root / "labels" / "final" / f"{number}.png"
        Image.fromarray(drawn.image).save(image)
        Image.fromarray(drawn.mask.astype(np.uint8)).save(label)
        items.append({"image": str(image), "label": str(label)})
    return items


def fine_tune(served, items):
    """What MONAI Label's training task hands to MONAI, in one process."""
    configs = served.folder / "configs"
    parser = ConfigParser()
    parser.read_config(str(configs / "train.json"))
    handlers = parser.get("train#handlers")
    load = {"_target_": "CheckpointLoader", "load_path": str(served.folder / "models" / "model.pt"),
            "load_dict": {"model": "$@network"}, "strict": False}  # fmt: skip
    handlers.insert(0, load)
    overrides = {
        "bundle_root": str(served.folder), "train#trainer#max_epochs": 2, "train#dataset#data": items[:4],
        "validate#dataset#data": items[4:], "device": "cpu", "train#handlers": handlers,
    }  # fmt: skip
    run(run_id="run", meta_file=str(configs / "metadata.json"), config_file=str(configs / "train.json"), **overrides)


@pytest.mark.full
@pytest.mark.parametrize("name", NAMES)
def test_corrections_train_it_and_uncertainty_is_measured(name, labels, tmp_path):
    served = serve(str(small_bundle(tmp_path / name, name)), tmp_path / "app")
    model = served.folder / "models" / "model.pt"
    before = hashlib.sha256(model.read_bytes()).hexdigest()
    fine_tune(served, labels)
    previous = model.with_name("previous_model.pt")
    if previous.exists():
        assert hashlib.sha256(previous.read_bytes()).hexdigest() == before
        assert json.loads(model.with_suffix(".json").read_text())["metric"] == "val_dice"
    else:
        assert hashlib.sha256(model.read_bytes()).hexdigest() == before
    assert (served.folder / "runs" / "1" / "history.csv").read_text().count("\n") == 3
    # dropout on, the network in train mode, one image: logits, each time others where there is dropout
    parser = ConfigParser()
    parser.read_config(str(served.folder / "configs" / "inference.json"))
    parser.update({"bundle_root": str(served.folder), "device": "cpu"})
    if "dropout" not in parser["network_def"]:
        return
    parser["network_def"]["dropout"] = 0.2
    network = parser.get_parsed_content("network_def").train()
    data = {"image": labels[0]["image"]}
    for step in parser.get_parsed_content("preprocessing").transforms:
        data = step(data)
    with torch.no_grad():
        first, second = (parser.get_parsed_content("inferer")(data["image"][None], network) for _ in range(2))
    assert first.shape == (1, 1, 64, 64)
    assert torch.isfinite(first).all()
    assert not torch.equal(first, second)
