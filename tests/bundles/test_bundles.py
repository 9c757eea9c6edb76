"""The base tests, over every bundle."""

from .base import BundleTests


class TestBundles(BundleTests):
    pass
