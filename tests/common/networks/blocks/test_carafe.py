import io

import numpy as np
import onnxruntime
import pytest
import torch

from common.networks.blocks.carafe import Carafe
from tests.common.networks import loops


def reassembled(x, kernels, factor, k):
    """Wang et al., eq. 2: x (C, h, w), kernels (k·k, σ·h, σ·w), one output pixel after the other."""
    channels, height, width = x.shape
    y = np.zeros((channels, factor * height, factor * width))
    for c, row, col in np.ndindex(y.shape):
        i, j = row // factor, col // factor
        for n in range(-(k // 2), k // 2 + 1):
            for m in range(-(k // 2), k // 2 + 1):
                if 0 <= i + n < height and 0 <= j + m < width:
                    weight = kernels[(n + k // 2) * k + m + k // 2, row, col]
                    y[c, row, col] += weight * x[c, i + n, j + m]
    return y


def slow(x, p, factor, k):
    """The whole operator on one sample."""
    code = loops.conv(x, p["compress.weight"], p["compress.bias"])
    code = loops.conv(code, p["encode.weight"], p["encode.bias"], padding=1)
    kernels = np.zeros((k * k, factor * x.shape[1], factor * x.shape[2]))
    for n, row, col in np.ndindex(kernels.shape):
        kernels[n, row, col] = code[
            n * factor**2 + (row % factor) * factor + col % factor, row // factor, col // factor
        ]
    for row, col in np.ndindex(kernels.shape[1:]):
        e = np.exp(kernels[:, row, col] - kernels[:, row, col].max())
        kernels[:, row, col] = e / e.sum()
    return loops.conv(reassembled(x, kernels, factor, k), p["out.weight"], p["out.bias"])


def block(factor=2, kernel=3) -> Carafe:
    torch.manual_seed(0)
    made = Carafe(8, factor, kernel).eval()
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter)
    return made


@pytest.mark.parametrize(("factor", "kernel", "grid"), [(2, 3, (3, 5)), (3, 5, (2, 3)), (2, 3, (1, 1))])
def test_equals_loops(factor, kernel, grid):
    made, x = block(factor, kernel), torch.randn(2, 8, *grid)
    p = {key: value.double().numpy() for key, value in made.state_dict().items()}
    for b in range(2):
        expected = slow(x[b].double().numpy(), p, factor, kernel)
        np.testing.assert_allclose(made(x)[b].detach(), expected, rtol=1e-5, atol=1e-5)


def test_parameters_at_512_channels():
    """1×1 512 → 128, 3×3 128 → 36, 1×1 512 → 512, all with bias."""
    with torch.device("meta"):
        made = Carafe(512)
    assert [sum(p.numel() for p in part.parameters()) for part in (made.compress, made.encode, made.out)] == [
        65_664, 41_508, 262_656,
    ]  # fmt: skip


def test_trace_and_onnx_at_another_grid_and_batch():
    made, x, other = block(), torch.randn(2, 8, 3, 5), torch.randn(3, 8, 4, 2)
    with torch.no_grad():
        torch.testing.assert_close(torch.jit.trace(made, (x,))(other), made(other), rtol=1e-5, atol=1e-5)
    dim, file = torch.export.Dim, io.BytesIO()
    torch.onnx.export(
        made, (x,), file, dynamo=True, external_data=False, verbose=False, input_names=["x"], output_names=["y"],
        dynamic_shapes=({0: dim("batch"), 2: dim("height"), 3: dim("width")},),
    )  # fmt: skip
    session = onnxruntime.InferenceSession(file.getvalue(), providers=["CPUExecutionProvider"])
    (y,) = session.run(None, {"x": other.numpy()})
    np.testing.assert_allclose(y, made(other).detach(), rtol=1e-5, atol=1e-4)
