"""U-KAN's encoder against loops over single indices; no reference imports anything of ``common``."""

import numpy as np
import pytest
import torch
from torch import nn

from common.networks.image.ukan import UKAN, DoubleConv, KANStage, TokKAN
from tests.common.networks.kan_reference import kan
from tests.common.networks.loops import batch_norm, below, conv, layer_norm, max_pool
from tests.common.networks.test_c2seg import WIDTHS, arrays, filled, random_image


def double_conv(x, p):
    """Twice conv 3 × 3, batch norm, ReLU: x (I, H, W)."""
    for number in (0, 3):
        x = conv(x, p[f"{number}.weight"], p[f"{number}.bias"], padding=1)
        x = np.maximum(batch_norm(x, below(p, str(number + 1))), 0)
    return x


def normalised(x, p):
    """Layer norm over the channels of each cell: x (C, h, w)."""
    y = np.zeros_like(x)
    for r, c in np.ndindex(x.shape[1:]):
        y[:, r, c] = layer_norm(x[None, :, r, c], p["weight"], p["bias"])[0]
    return y


def tok_kan(x, p):
    """x + f(LN x), f three times KAN of each token and depthwise convolution, batch norm, ReLU on the grid."""
    y = normalised(x, below(p, "norm"))
    for number in range(3):
        for r, c in np.ndindex(x.shape[1:]):
            y[:, r, c] = kan(y[None, :, r, c], below(p, f"kans.{number}"))[0]
        q = below(p, f"convs.{number}")
        y = np.array(
            [conv(y[k : k + 1], q["0.weight"][k : k + 1], q["0.bias"][k : k + 1], padding=1)[0] for k in range(len(y))]
        )
        y = np.maximum(batch_norm(y, below(q, "1")), 0)
    return x + y


def kan_stage(x, p):
    """Conv 3 × 3 of stride 2 and layer norm, the block, layer norm."""
    x = conv(x, p["embed.weight"], p["embed.bias"], stride=2, padding=1)
    return normalised(tok_kan(normalised(x, below(p, "embed_norm")), below(p, "block")), below(p, "norm"))


def grid(*shape) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("module", "reference", "shape"),
    [
        (DoubleConv(2, 3, 4), double_conv, (2, 2, 4, 6)),
        (nn.MaxPool2d(2), lambda x, p: max_pool(x), (2, 3, 4, 6)),
        (TokKAN(2), tok_kan, (2, 2, 3, 2)),
        (KANStage(2, 3), kan_stage, (2, 2, 4, 6)),
    ],
    ids=["double_conv", "max_pool", "tok_kan", "kan_stage"],
)
def test_a_part_equals_loops(module, reference, shape):
    filled(module)
    x = grid(*shape)
    p = arrays(module)
    for ours, sample in zip(module(x).detach(), x.numpy(), strict=True):
        np.testing.assert_allclose(ours, reference(sample, p), atol=1e-9)


def test_the_encoder_equals_loops():
    """Two stages of convolutions, pooled, and one of KAN, each on what the one before gives."""
    encoder = filled(UKAN((2, 3, 4), 2))
    image = grid(1, 1, 8, 16)
    x, p = np.repeat(image[0].numpy(), 3, axis=0), arrays(encoder)
    for number, found in enumerate(encoder(image)):
        q = below(p, f"stages.{number}")
        x = max_pool(double_conv(x, below(q, "0"))) if number < 2 else kan_stage(x, q)
        np.testing.assert_allclose(found[0].detach(), x, atol=1e-8)


@pytest.mark.parametrize(("kan_from", "stages"), [(0, 3), (2, 1), (3, 0)])
def test_which_stages_are_kan(kan_from, stages):
    encoder = UKAN(WIDTHS, kan_from).eval()
    kinds = [isinstance(stage, KANStage) for stage in encoder.stages]
    assert kinds == [False] * (3 - stages) + [True] * stages
    maps = encoder(random_image())
    assert [tuple(m.shape[1:]) for m in maps] == [(4, 12, 20), (6, 6, 10), (8, 3, 5)]
    grey = random_image()
    torch.testing.assert_close(encoder(grey.expand(-1, 3, -1, -1))[-1], maps[-1])


def test_the_papers_grids_and_widths():
    encoder = UKAN().eval()
    with torch.no_grad():
        maps = encoder(random_image(1, 64, 96))
    assert [tuple(m.shape[1:]) for m in maps] == [(16, 32, 48), (32, 16, 24), (128, 8, 12), (160, 4, 6), (256, 2, 3)]
    assert [isinstance(stage, KANStage) for stage in encoder.stages] == [False] * 3 + [True] * 2
    assert encoder.stride == 32
    assert sum(p.numel() for p in encoder.parameters()) == 3_506_864
