import copy
import io
import pickle

import numpy as np
import pytest
import torch
from monai.networks.nets import UNet

from common.errors import UserError
from common.networks.image_only import ImageOnly


def network(**kwargs) -> ImageOnly:
    torch.manual_seed(0)
    unet = UNet(spatial_dims=2, in_channels=1, out_channels=1, channels=(4, 8, 16), strides=(2, 2), num_res_units=1)
    return ImageOnly(unet, **kwargs)


def test_eval_gives_logits_and_train_a_dict():
    net, image = network(), torch.rand(2, 1, 16, 24)
    assert set(net(image)) == {"pred"}
    logits = net.eval()(image)
    assert logits.shape == (2, 1, 16, 24)
    assert logits.min() < 0, "logits, no probabilities"


def test_the_sentence_is_ignored():
    net, image = network().eval(), torch.rand(2, 1, 16, 16)
    text = torch.tensor([[2, 7, 3], [2, 3, 0]])
    assert torch.equal(net(image, text), net(image))
    assert torch.equal(net(image=image, text=text), net(image))


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((2, 3, 16, 16), r"shape \(2, 3, 16, 16\), expected \(batch, 1,"),
        ((1, 16, 16), r"shape \(1, 16, 16\), expected"),
        ((1, 1, 16, 18), r"16 x 18 pixels.*divisible by 4; resize or pad"),
    ],
)
def test_a_wrong_image_is_one_line(shape, words):
    with pytest.raises(UserError, match=words) as fault:
        network(divisible_by=4)(torch.rand(shape))
    assert "\n" not in str(fault.value)


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize(("edit", "words"), [
    (lambda s: s.popitem(), r"1 keys missing \(such as 'network\."),
    (lambda s: s.update(stranger=torch.zeros(1)), r"1 foreign keys \(such as 'stranger'\)"),
    (lambda s: s.update({next(iter(s)): torch.zeros(7)}), r"1 of another shape .*\(7,\), expected"),
])  # fmt: skip
def test_weights_that_do_not_fit_are_refused_before_anything_is_copied(strict, edit, words):
    net = network()
    before = copy.deepcopy(net.state_dict())
    state = {k: v + 1 for k, v in net.state_dict().items()}
    edit(state)
    with pytest.raises(UserError, match=words) as fault:
        net.load_state_dict(state, strict=strict)
    assert "\n" not in str(fault.value)
    assert "ImageOnly" in str(fault.value)
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())


def test_a_nested_network_loads_under_its_prefix():
    outer = torch.nn.ModuleDict({"model": network(), "other": torch.nn.Linear(1, 1)})
    outer.load_state_dict(outer.state_dict())
    state = {k: v for k, v in outer.state_dict().items() if not k.startswith("model.network.model.0")}
    with pytest.raises(UserError, match="keys missing"):
        outer.load_state_dict(state, strict=False)


def test_copies_and_pickles():
    net, image = network().eval(), torch.rand(1, 1, 16, 16)
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert torch.equal(other(image), net(image))
        other.load_state_dict(net.state_dict())


def test_trace_with_the_image_alone():
    """What MONAI's ``ckpt_export --use_trace True`` does."""
    net = network(divisible_by=4).eval()
    with torch.no_grad():
        traced = torch.jit.trace(net, example_inputs=[torch.rand(1, 1, 16, 16)])
    image = torch.rand(3, 1, 24, 32)
    torch.testing.assert_close(traced(image), net(image))


@pytest.mark.full
def test_onnx_at_another_batch_and_size():
    import onnxruntime

    net = network(divisible_by=4).eval()
    sizes = {0: torch.export.Dim("batch"), 2: torch.export.Dim("height"), 3: torch.export.Dim("width")}
    file = io.BytesIO()
    torch.onnx.export(
        net, (torch.rand(2, 1, 16, 24),), dynamo=True, external_data=False, verbose=False,
        input_names=["image"], output_names=["pred"], dynamic_shapes={"image": sizes},
    ).save(file)  # fmt: skip
    session = onnxruntime.InferenceSession(file.getvalue(), providers=["CPUExecutionProvider"])
    image = torch.rand(3, 1, 32, 40)
    (pred,) = session.run(None, {"image": image.numpy()})
    np.testing.assert_allclose(pred, net(image).detach().numpy(), atol=1e-5)
