"""Small phantoms, and a tiny training of each bundle, once a session."""

import pytest

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
