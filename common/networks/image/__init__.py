"""Image encoders."""

from common.networks.image.clip_resnet import ClipResNet
from common.networks.image.convnext import ConvNeXt

__all__ = ["ClipResNet", "ConvNeXt"]
