"""KANLinear against the recursion of Cox and de Boor, its own backward pass against finite differences."""

import io
import math

import numpy as np
import pytest
import torch

from common.networks.blocks import kan
from common.networks.blocks.kan import BASES, KANLinear, bspline
from tests.common.networks.kan_reference import KNOTS, cox_de_boor
from tests.common.networks.kan_reference import kan as reference


@pytest.fixture
def layer() -> KANLinear:
    """With weights as large as trained ones, in slices of two rows."""
    torch.manual_seed(0)
    layer = KANLinear(5, 3)
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter)
    return layer


@pytest.fixture(autouse=True)
def small_slices(monkeypatch):
    monkeypatch.setitem(kan._SLICE, "cpu", 10)


@pytest.mark.parametrize(("dtype", "error"), [(torch.float64, 1e-14), (torch.float32, 1e-6)])
def test_bases_equal_cox_de_boor(dtype, error):
    x = np.concatenate([np.linspace(-3, 3, 241), KNOTS])
    # the recursion's degree 0 is 0 at the last knot and beyond, as is the closed form
    expected = np.array([[cox_de_boor(float(v), g, 3) for g in range(8)] for v in x])
    found = bspline(torch.tensor(x, dtype=dtype)[:, None])[..., 0]
    assert found.shape == (len(x), BASES)
    np.testing.assert_allclose(found, expected, atol=error, rtol=0)


def test_bases_sum_to_one_inside_and_vanish_outside():
    x = torch.linspace(-1, 1, 101, dtype=torch.float64)
    torch.testing.assert_close(bspline(x).sum(dim=-2), torch.ones_like(x))
    assert not bspline(torch.tensor([-2.2001, 2.2001, 40.0])).any()
    assert bspline(torch.tensor([1.5])).sum() == pytest.approx(0.68, abs=0.005)


@pytest.mark.parametrize(("dtype", "error"), [(torch.float64, 1e-13), (torch.float32, 1e-5)])
@pytest.mark.parametrize("rows", [1, 7])
def test_layer_equals_loops(layer, dtype, error, rows):
    x = np.random.default_rng(0).normal(size=(rows, 5))
    p = {name: value.detach().double().numpy() for name, value in layer.named_parameters()}
    y = layer.to(dtype)(torch.tensor(x, dtype=dtype))
    np.testing.assert_allclose(y.detach(), reference(x, p), atol=error, rtol=0)


def test_gradients(layer):
    layer = layer.double()
    x = torch.randn(7, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1), requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, *_: layer(x), (x, *layer.parameters()), atol=1e-7)


def test_leading_dimensions_and_slices_change_nothing(layer, monkeypatch):
    x = torch.randn(2, 3, 4, 5, requires_grad=True)
    results = []
    for numbers in (1, 10, 1 << 20):
        monkeypatch.setitem(kan._SLICE, "cpu", numbers)
        y = layer(x)
        assert y.shape == (2, 3, 4, 3)
        results.append((y, *torch.autograd.grad(y.square().sum(), (x, *layer.parameters()))))
    for result in results[:2]:
        torch.testing.assert_close(result, results[2])


def test_only_what_is_asked_for_is_computed(layer):
    x = torch.randn(4, 5, requires_grad=True)
    (both,) = torch.autograd.grad(layer(x).sum(), x)
    layer.requires_grad_(False)
    (alone,) = torch.autograd.grad(layer(x).sum(), x)
    assert torch.equal(alone, both)
    layer.requires_grad_(True)
    layer(x.detach()).sum().backward()
    assert layer.spline.grad.any()


def test_what_is_kept_for_the_backward_pass(layer):
    """x alone, once, and the weights."""
    x = torch.randn(1000, 5, requires_grad=True)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor):
        layer(x)
    large = [tensor for tensor in kept if tensor.numel() >= 1000]
    assert len(large) == 1
    assert large[0].data_ptr() == x.data_ptr()


def test_the_plain_path_is_the_same(layer, monkeypatch):
    x = torch.randn(2, 6, 5)
    y = layer(x)
    monkeypatch.setattr(kan, "is_exporting", lambda: True)
    torch.testing.assert_close(layer(x), y)


def test_autocast_makes_bases_in_single_precision(layer):
    x = torch.randn(64, 5, requires_grad=True)
    y = layer(x)
    with torch.autocast("cpu", torch.bfloat16):
        half = layer(x)
        of_half = layer(x.bfloat16())
    assert half.dtype == of_half.dtype == torch.bfloat16
    # the products are rounded to 8 bits, the bases are not
    assert (half - y).abs().max() < 0.03 * y.abs().max()
    grads = [torch.autograd.grad(out.float().square().sum(), (x, *layer.parameters())) for out in (half, y)]
    for ours, exact in zip(*grads, strict=True):
        assert ours.dtype == torch.float32
        assert (ours - exact).abs().max() < 0.03 * exact.abs().max()


def test_half_precision_input_is_widened(layer):
    """To the last bit what the same numbers give in single precision; forward, and backward into the weights."""
    half = torch.randn(16, 5).bfloat16().requires_grad_()
    single = half.detach().float().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        results = [(layer(x), x) for x in (half, single)]
    assert torch.equal(results[0][0], results[1][0])
    grads = [torch.autograd.grad(y.sum(), (*layer.parameters(), x)) for y, x in results]
    for ours, exact in zip(*grads, strict=True):
        assert torch.equal(ours, exact.to(ours.dtype))


def test_gradients_of_many_rows_are_summed_in_single_precision(layer):
    """In bfloat16 a sum of equal numbers stands still after 256 of them."""
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(torch.full((1024, 5), 0.5))
    (found,) = torch.autograd.grad(y.float().sum(), layer.base)
    expected = 1024 * 0.5 / (1 + math.exp(-0.5))
    torch.testing.assert_close(found, torch.full_like(found, expected), rtol=0.005, atol=0)


def test_parameters_and_their_initial_distribution():
    torch.manual_seed(0)
    layer = KANLinear(160, 96)
    assert sum(p.numel() for p in layer.parameters()) == 10 * 160 * 96
    assert layer.base.abs().max() <= 160**-0.5
    assert layer.scale.abs().max() <= 160**-0.5
    for weights in (layer.base, layer.scale):  # uniform between
        assert weights.std().item() == pytest.approx(160**-0.5 / 3**0.5, rel=0.02)
    # the curves pass through the noise at the six grid points
    points = torch.linspace(-1, 1, 6)
    curves = torch.einsum("gp,ogi->opi", bspline(points), layer.spline.detach())
    assert curves.abs().max() == pytest.approx(0.01, rel=0.01)
    assert curves.std() == pytest.approx(0.01 / 3**0.5, rel=0.02)
    with torch.device("meta"):
        assert KANLinear(160, 96).spline.shape == (96, 8, 160)


def test_trace(layer):
    x, other = torch.randn(2, 4, 5), torch.randn(3, 7, 5) * 2
    torch.testing.assert_close(torch.jit.trace(layer, (x,))(other), layer(other))


@pytest.mark.full
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_onnx(layer):
    import onnxruntime

    x, other = torch.randn(2, 4, 5), torch.randn(3, 7, 5) * 2
    file, dim = io.BytesIO(), torch.export.Dim
    torch.onnx.export(
        layer, (x,), file, dynamo=True, external_data=False, verbose=False, input_names=["x"], output_names=["y"],
        dynamic_shapes={"x": {0: dim("batch"), 1: dim("length")}},
    )  # fmt: skip
    session = onnxruntime.InferenceSession(file.getvalue(), providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(session.run(None, {"x": other.numpy()})[0], layer(other).detach(), atol=1e-5)
