"""What the augmentations of a whole batch take and give: strong views of unlabelled images, and their targets."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace

import torch
from monai.transforms import Randomizable


@dataclass
class Views:
    """Strong views of a batch.

    Attributes:
        image: (B, C, H, W), as displayed: columns at the last axis.
        probability: (B, 1, H, W), the teacher's on the weak views, 0 to 1; where it is high is the target.
        sentences: B, about the picture's sides.
        given: B, whether the sentence is the image's own; a default one stands in where there was none, and names
            places of which nobody has said anything.
        changed: (B,) bool, on the CPU, which targets an augmentation has changed.
    """

    image: torch.Tensor
    probability: torch.Tensor
    sentences: list[str]
    given: list[bool]
    changed: torch.Tensor


class Mixing(Randomizable, ABC):
    """An augmentation of image, target and sentence together, which may take from other images of the batch.

    It needs what the teacher says of the weak views, so it runs in the training step and not in the data loader, after
    the augmentations of single images and before those of single sentences.

    Attributes:
        threshold: the probability from which the teacher's answer is lesion, when this augmentation is on; None leaves
            it to the trainer.
    """

    threshold: float | None = None

    @abstractmethod
    def __call__(self, views: Views) -> Views:
        """New views; those given are left as they are."""


def pasted(views: Views, source: torch.Tensor, masks: torch.Tensor, targets: torch.Tensor | None = None) -> Views:
    """Views with parts of others: (1 − M) ⊙ x_i + M ⊙ x_j of images and of probabilities.

    Args:
        views: x_i and p_i.
        source: (B,) int64, the j of each i.
        masks: M (B, 1, H, W) bool, for images.
        targets: M for probabilities; None takes ``masks``.
    """
    image = torch.where(masks, views.image[source], views.image)
    taken = masks if targets is None else targets
    probability = torch.where(taken, views.probability[source], views.probability)
    return replace(views, image=image, probability=probability, changed=taken.flatten(1).any(dim=1).cpu())
