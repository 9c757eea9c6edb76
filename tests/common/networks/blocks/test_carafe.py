import io

import numpy as np
import onnxruntime
import pytest
import torch

from common.networks.blocks.carafe import Carafe
from tests.common.networks import causal_reference as reference


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
        expected = reference.carafe(x[b].double().numpy(), p, factor, kernel)
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
