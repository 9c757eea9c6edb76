import numpy as np
import pytest
import torch
from torch import nn

from common.errors import UserError
from common.networks.blocks.attention import MultiHeadAttention
from tests.common.networks import loops


def block(width=6, heads=2, **kwargs) -> MultiHeadAttention:
    torch.manual_seed(0)
    attention = MultiHeadAttention(width, heads, **kwargs).double().eval()
    for parameter in attention.parameters():
        nn.init.normal_(parameter)
    return attention


@pytest.mark.parametrize("masked", [False, True])
def test_equals_loops_with_and_without_weights(masked):
    attention = block()
    target, source = torch.randn(2, 3, 6).double(), torch.randn(2, 4, 6).double()
    mask = torch.tensor([[True, True, False, True], [True, False, False, False]]) if masked else None
    out, none = attention(target, source, mask)
    explicit, weights = attention(target, source, mask, return_weights=True)
    assert none is None
    p = {key: value.numpy() for key, value in attention.state_dict().items()}
    for b in range(2):
        one = None if mask is None else mask[b].numpy()
        expected, expected_weights = loops.attention(target[b].numpy(), source[b].numpy(), p, 2, one)
        np.testing.assert_allclose(out[b].detach(), expected, atol=1e-12)
        np.testing.assert_allclose(explicit[b].detach(), expected, atol=1e-12)
        np.testing.assert_allclose(weights[b].detach(), expected_weights, atol=1e-12)


def test_a_masked_token_has_no_influence_and_no_gradient():
    attention = block()
    target, source = torch.randn(1, 3, 6).double(), torch.randn(1, 4, 6).double().requires_grad_()
    mask = torch.tensor([[True, True, True, False]])
    out, _ = attention(target, source, mask)
    short, _ = attention(target, source[:, :3])
    torch.testing.assert_close(out, short)
    (gradient,) = torch.autograd.grad(out.square().sum(), source)
    assert not gradient[0, 3].any()
    assert gradient[0, :3].any(dim=1).all()


def test_parameters_are_those_of_torchs_block():
    """Count and initial spread, so that a network's figures hold."""
    torch.manual_seed(0)
    ours, torchs = MultiHeadAttention(64, 4), nn.MultiheadAttention(64, 4)
    count = [sum(p.numel() for p in m.parameters()) for m in (ours, torchs)]
    assert count[0] == count[1] == 4 * 64 * 64 + 4 * 64
    for layer in (ours.query, ours.key, ours.value):
        assert layer.weight.std().item() == pytest.approx(torchs.in_proj_weight.std().item(), rel=0.05)
        assert not layer.bias.any()


def test_dropout_only_in_train_mode():
    attention = block(dropout=0.5)
    x = torch.randn(1, 3, 6).double()
    assert torch.equal(attention(x, x)[0], attention(x, x)[0])
    attention.train()
    assert not torch.equal(attention(x, x)[0], attention(x, x)[0])
    explicit = [attention(x, x, return_weights=True) for _ in range(2)]
    assert not torch.equal(explicit[0][0], explicit[1][0])
    assert torch.equal(explicit[0][1], explicit[1][1]), "weights are given before dropout"


def test_heads_must_divide_the_width():
    with pytest.raises(UserError, match="7 channels cannot be split into 2 heads; change 'heads'"):
        MultiHeadAttention(7, 2)
