import io

import numpy as np
import onnxruntime
import pytest
import torch

from common.networks.blocks.correlation import correlate
from tests.common.networks import causal_reference as reference


def inputs(batch=2, size=3, grid=(4, 6)):
    torch.manual_seed(0)
    return torch.randn(batch, 5, *grid), torch.randn(batch, 5, size, size), torch.randn(batch)


@pytest.mark.parametrize(("size", "grid"), [(3, (4, 6)), (5, (2, 3)), (1, (3, 2))])
def test_equals_loops(size, grid):
    maps, kernels, bias = inputs(size=size, grid=grid)
    found = correlate(maps, kernels, bias)
    assert found.shape == (2, 1, *grid)
    for b in range(2):
        expected = reference.correlate(maps[b].double().numpy(), kernels[b].double().numpy(), bias[b])
        np.testing.assert_allclose(found[b, 0], expected, rtol=1e-5, atol=1e-5)


def test_equals_the_grouped_convolution():
    maps, kernels, bias = inputs(batch=3)
    grouped = torch.nn.functional.conv2d(maps.flatten(0, 1)[None], kernels, bias, padding=1, groups=3)
    torch.testing.assert_close(correlate(maps, kernels, bias), grouped.transpose(0, 1), rtol=1e-5, atol=1e-5)


def test_trace_and_onnx_at_another_batch_and_grid():
    class Module(torch.nn.Module):
        def forward(self, maps, kernels, bias):
            return correlate(maps, kernels, bias)

    first, other = inputs(), inputs(batch=3, grid=(7, 5))
    expected = correlate(*other)
    torch.testing.assert_close(torch.jit.trace(Module(), first)(*other), expected, rtol=1e-5, atol=1e-5)
    dim, file = torch.export.Dim, io.BytesIO()
    batch = dim("batch")
    torch.onnx.export(
        Module().eval(), first, file, dynamo=True, external_data=False, verbose=False,
        input_names=["maps", "kernels", "bias"], output_names=["y"],
        dynamic_shapes=({0: batch, 2: dim("height"), 3: dim("width")}, {0: batch}, {0: batch}),
    )  # fmt: skip
    session = onnxruntime.InferenceSession(file.getvalue(), providers=["CPUExecutionProvider"])
    (y,) = session.run(None, {k: v.numpy() for k, v in zip(("maps", "kernels", "bias"), other, strict=True)})
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)
