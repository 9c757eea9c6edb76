"""A bundle whose lesion is what is bright: every step is real but the network's weights."""

import json
import shutil
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[3]


def bright_bundle(folder: Path, takes_text: bool, size=(64, 48)) -> Path:
    """A bundle in ``folder``: one convolution of 1 x 1 makes what is brighter than the mean a lesion."""
    source = ROOT / "bundles" / ("mmi_unet" if takes_text else "unet")
    shutil.copytree(source / "configs", folder / "configs")
    path = folder / "configs" / "inference.json"
    config = json.loads(path.read_text())
    config["network_def"] = {
        "_target_": "common.networks.image_only.ImageOnly",
        "network": {"_target_": "torch.nn.Conv2d", "in_channels": 1, "out_channels": 1, "kernel_size": 1},
    }
    config["image_size"] = list(size)
    config["device"] = "$torch.device('cpu')"
    path.write_text(json.dumps(config))
    (folder / "models").mkdir()
    weights = {"network.weight": torch.full((1, 1, 1, 1), 20.0), "network.bias": torch.tensor([-10.0])}
    torch.save(weights, folder / "models" / "model.pt")
    return folder


@pytest.fixture(scope="session")
def bright(tmp_path_factory):
    return bright_bundle(tmp_path_factory.mktemp("bundles") / "bright", takes_text=False)


@pytest.fixture(scope="session")
def bright_text(tmp_path_factory):
    return bright_bundle(tmp_path_factory.mktemp("bundles") / "bright_text", takes_text=True)
