"""``--set ID=VALUE`` of the commands that load a bundle."""

import pytest

from common.bundle import bundle_folder, configuration_files
from common.errors import UserError
from tools.settings import settings

FILES = configuration_files(bundle_folder("mmi_unet"), ["inference", "demo"])


def test_values_are_json_or_else_text():
    pairs = ["text_checkpoint=a folder/x=y", "image_size=[64, 64]", "amp=false", "network_def::heads=4",
             "network_def#dropout=0.5", "laterality=null", 'captions="original"', "weights=1.pt"]  # fmt: skip
    assert settings(pairs, FILES) == {
        "text_checkpoint": "a folder/x=y", "image_size": [64, 64], "amp": False, "network_def::heads": 4,
        "network_def#dropout": 0.5, "laterality": None, "captions": "original", "weights": "1.pt",
    }  # fmt: skip
    assert settings([], FILES) == {}


@pytest.mark.parametrize("value", ["$print(1)", " $print(1)", "%train.json", "@weights", '"$print(1)"',
                                   '["a", {"b": "$print(1)"}]', '{"$print(1)": 1}'])  # fmt: skip
def test_what_monai_would_evaluate_is_refused(value):
    with pytest.raises(UserError, match=r"starts with \$, % or @ is not taken") as fault:
        settings([f"weights={value}"], FILES)
    assert "\n" not in str(fault.value)


@pytest.mark.parametrize(("pair", "words"), [("weights", "is no ID=VALUE"), ("=1", "is no ID=VALUE"),
                                             ("wieghts=a", "has no 'wieghts'")])  # fmt: skip
def test_what_is_no_setting(pair, words):
    with pytest.raises(UserError, match=words):
        settings([pair], FILES)
