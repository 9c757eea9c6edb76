"""Small phantoms, and a tiny training of each bundle, once a session."""

import shutil

import pytest

import common
from common.datasets import phantoms

from .base import BUNDLES, SIZE, Bundle, trained


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("phantoms")
    phantoms.write(root, count=20, size=SIZE, seed=1, inbox=6)
    return root


@pytest.fixture(scope="session", params=BUNDLES)
def bundle(request):
    return Bundle(request.param)


@pytest.fixture(scope="session")
def run(bundle, data, tmp_path_factory):
    return trained(bundle, data, tmp_path_factory.mktemp(bundle.name))


@pytest.fixture(scope="session")
def exported(bundle, run, tmp_path_factory):
    """A folder with the trained weights, and all that is exported of them."""
    from common.runtime.export.export import export

    folder = tmp_path_factory.mktemp(f"exported_{bundle.name}")
    shutil.copy(run["weights"], folder / "model.pt")
    size = run["image_size"]
    export(common.load(bundle.root, ["demo"], "cpu", image_size=size, weights=str(folder / "model.pt")))
    return folder
