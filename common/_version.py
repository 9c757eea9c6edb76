"""The version of the package; it stands in every bundle's ``required_packages_version``."""

__version__ = "0.1.0"
