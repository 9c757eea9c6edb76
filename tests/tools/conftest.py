"""What tests of several commands share."""

import pytest
import torch
from monai.bundle import ConfigParser

from common.bundle import bundle_folder, configuration_files


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Random weights of each bundle's demo network."""
    folder = tmp_path_factory.mktemp("weights")
    for name in ("mmi_unet", "unet"):
        torch.manual_seed(0)
        parser = ConfigParser()
        parser.read_config(configuration_files(bundle_folder(name), ["inference", "demo"]))
        torch.save(parser.get_parsed_content("network_def").state_dict(), folder / f"{name}.pt")
    return folder
