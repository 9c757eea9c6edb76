"""Text-guided segmentation of chest images: what the MONAI bundles in ``bundles/`` share."""

from ._version import __version__

__all__ = ["__version__"]
