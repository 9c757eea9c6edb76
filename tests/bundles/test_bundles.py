"""The base tests, over every bundle."""

from .base import BundleTests
from .exports import ExportTests


class TestBundles(BundleTests, ExportTests):
    pass
