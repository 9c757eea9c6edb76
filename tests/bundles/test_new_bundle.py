"""What `new-bundle` makes passes the base tests as it is."""

import shutil

import pytest

from common.runtime.template import TEMPLATE, new_bundle

from .base import ROOT, Bundle, BundleTests, trained


@pytest.mark.full
class TestNewBundle(BundleTests):
    @pytest.fixture(scope="class")
    def bundle(self, tmp_path_factory):
        bundles = tmp_path_factory.mktemp("bundles")
        unwanted = shutil.ignore_patterns("runs", "eval", "models")
        shutil.copytree(ROOT / "bundles" / TEMPLATE, bundles / TEMPLATE, ignore=unwanted)
        new_bundle("film", bundles / TEMPLATE)
        return Bundle("film", bundles)

    @pytest.fixture(scope="class")
    def run(self, bundle, data, tmp_path_factory):
        return trained(bundle, data, tmp_path_factory.mktemp("film"))
