"""Does an exported file compute what the network computes? Measured on inputs that the export never saw."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from common.errors import UserError

# Largest difference of a logit: this much, and as much of the largest logit. float32 keeps 7 digits, sums of thousands
# of products 5 to 6 of them. A mask can change only where the logit is as close to the threshold's.
ABSOLUTE, RELATIVE = 1e-4, 1e-5

Network = Callable[..., torch.Tensor]


def measure(
    name: str,
    network: Network,
    exported: Network,
    images: torch.Tensor,
    sentences: Sequence[Sequence[int]],
    threshold: float,
    optional_text: bool,
) -> dict[str, Any]:
    """Compare an exported network with the one it was made of.

    Each sentence alone, at its own length, on the first image; all of them, padded, on a batch of as many images (the
    given ones in turn); without a sentence, where the file takes it as optional. Without sentences one image, and all.

    Args:
        name: of the file.
        network: in eval mode, as trained.
        exported: what the file computes.
        images: (N, C, H, W), not those of the export; the first one a picture.
        sentences: ids without padding; none where the network takes no text.
        threshold: of the probability.
        optional_text: the file may be called with the image alone.

    Returns:
        The largest difference, the tolerance that held, the pixels of masks that differ, and of the first image the
        pixels that differ between the sentences' masks, in the network and in the file.

    Raises:
        UserError: a difference above the tolerance. A file in which one sentence was kept for all has it too.
    """
    calls: list[tuple[torch.Tensor, ...]]
    if sentences:
        calls = [(images[:1], torch.tensor([list(ids)])) for ids in sentences]
        longest = max(len(ids) for ids in sentences)
        rows = torch.tensor([[*ids, *[0] * (longest - len(ids))] for ids in sentences])
        calls.append((images[torch.arange(len(rows)) % len(images)], rows))
        if optional_text:
            calls.append((images,))
    else:
        calls = [(images[:1],), (images,)]
    with torch.no_grad():
        expected = [network(*call) for call in calls]
        found = [exported(*call) for call in calls]
    tolerance = ABSOLUTE + RELATIVE * max(float(logits.abs().max()) for logits in expected)
    difference = max(float((a - b).abs().max()) for a, b in zip(expected, found, strict=True))
    if not difference <= tolerance:
        raise UserError(
            f"{name}: its logits differ from the network's by up to {difference:.2g}, allowed are {tolerance:.2g}; "
            f"the export is wrong, do not use it"
        )
    cut = torch.logit(torch.tensor(threshold))
    result: dict[str, Any] = {
        "largest difference of a logit": difference,
        "tolerance": tolerance,
        "batch sizes": sorted({len(call[0]) for call in calls}),
        "mask pixels that differ": sum(
            int(((a > cut) != (b > cut)).sum()) for a, b in zip(expected, found, strict=True)
        ),
    }
    if sentences:
        result["tokens of the sentences"] = [len(ids) for ids in sentences]
        result["mask pixels that the sentence changes"] = {
            "network": _between(expected[: len(sentences)], cut), "file": _between(found[: len(sentences)], cut)
        }  # fmt: skip
    return result


def _between(logits: Sequence[torch.Tensor], cut: torch.Tensor) -> int:
    """Pixels at which the masks of one image's sentences are not all the same."""
    masks = torch.cat(list(logits)) > cut
    return int((masks.any(dim=0) != masks.all(dim=0)).sum())
