import numpy as np
import pytest
import torch

from common.networks.blocks.upsampling import SubpixelHead, UpBlock
from tests.common.networks import loops


@pytest.mark.parametrize("scale", [2, 4])
def test_subpixel_head_equals_loops(scale):
    torch.manual_seed(0)
    head = SubpixelHead(8, scale).double()
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter)
    x = torch.randn(1, 8, 3, 2).double()
    expected = loops.subpixel_head(x[0].numpy(), {k: v.numpy() for k, v in head.state_dict().items()}, scale)
    np.testing.assert_allclose(head(x)[0].detach(), expected, atol=1e-10)


def test_up_block_joins_the_doubled_map_and_the_skip():
    torch.manual_seed(0)
    block = UpBlock(4, 3).double().eval()
    x, skip = torch.randn(1, 4, 2, 3).double(), torch.randn(1, 3, 4, 6).double()
    p = {key: value.numpy() for key, value in block.state_dict().items()}
    up = loops.conv_up(x[0].numpy(), p["up.weight"], (4, 6)) + p["up.bias"][:, None, None]
    mixed = loops.conv(np.concatenate((up, skip[0].numpy())), p["mix.0.weight"], p["mix.0.bias"], padding=1)
    expected = np.maximum(mixed / np.sqrt(1 + 1e-5), 0)  # a fresh batch norm in eval mode
    np.testing.assert_allclose(block(x, skip)[0].detach(), expected, atol=1e-12)
