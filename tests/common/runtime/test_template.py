import json
import shutil
from pathlib import Path

import pytest

from common.errors import UserError
from common.runtime.template import differences, new_bundle, sync

BUNDLES = Path(__file__).resolve().parents[3] / "bundles"


@pytest.fixture
def template(tmp_path):
    shutil.copytree(BUNDLES / "mmi_unet", tmp_path / "mmi_unet", ignore=shutil.ignore_patterns("runs", "eval", "*.pt"))
    return tmp_path / "mmi_unet"


def change(path, key, value):
    content = json.loads(path.read_text())
    item = content
    *parents, last = key.split("::")
    for parent in parents:
        item = item[int(parent) if isinstance(item, list) else parent]
    item[last] = value
    path.write_text(json.dumps(content, indent=4, ensure_ascii=False) + "\n")


def test_the_repositorys_bundles_are_in_step():
    assert [d for b in BUNDLES.glob("*/configs") for d in differences(b.parent)] == []


def test_a_new_bundle_is_in_step_and_keeps_what_is_its_own(template):
    bundle = new_bundle("my_method", template)
    assert differences(bundle, template) == []
    assert json.loads((bundle / "configs" / "metadata.json").read_text())["name"] == "my_method"
    card = (bundle / "docs" / "README.md").read_text()
    assert "<!-- numbers:my_method -->\nNot measured yet.\n<!-- /numbers -->" in card
    assert card.startswith("# Model Overview\n\nmy_method: a copy of the template mmi_unet, not described yet.")
    assert "bundles/mmi_unet" not in card and card.count("bundles/my_method/configs/train.json") >= 3
    assert "MICCAI 2024" not in card.split("##")[0]
    change(bundle / "configs" / "train.json", "network_def", {"_target_": "UNet"})
    change(bundle / "configs" / "train.json", "train::random_transforms", [])
    assert differences(bundle, template) == []


def test_other_differences_are_printed_and_removed(template):
    bundle = new_bundle("my_method", template)
    change(bundle / "configs" / "train.json", "val_interval", 5)
    change(bundle / "configs" / "train.json", "learning_rate", 0.1)
    change(bundle / "configs" / "inference.json", "postprocessing::transforms::0::sigmoid", False)
    (bundle / "configs" / "logging.conf").write_text("")
    found = sync(bundle, template)
    assert found == [
        "configs/logging.conf: other bytes",
        "configs/train.json val_interval: 5, in mmi_unet 1",
        "configs/inference.json postprocessing::transforms::0::sigmoid: False, in mmi_unet True",
    ]
    assert differences(bundle, template) == []
    assert json.loads((bundle / "configs" / "train.json").read_text())["learning_rate"] == 0.1


@pytest.mark.parametrize(
    ("name", "words"),
    [("My-Method", "small letters"), ("lung_detection", "MONAI Label"), ("mmi_unet", "is there already")],
)
def test_names_that_do_not_do(template, name, words):
    with pytest.raises(UserError, match=words):
        new_bundle(name, template)
