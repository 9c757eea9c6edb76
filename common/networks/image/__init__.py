"""Image encoders."""

from common.networks.image.convnext import ConvNeXt

__all__ = ["ConvNeXt"]
