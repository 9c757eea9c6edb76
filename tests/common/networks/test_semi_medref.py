import math

import numpy as np
import pytest
import torch

from common.errors import UserError
from common.networks.guide_decoder import GuideDecoder
from common.networks.image import ConvNeXt
from common.networks.mmi_unet import MMIUNet
from common.networks.semi_medref import SemiMedRefGuideDecoder, SemiMedRefMMIUNet
from common.networks.text import BertText
from tests.common.networks import loops
from tests.common.networks.test_mmi_unet import IDS, TEXT, random_image

LAYERS = (1, 2, -1)
SIZES = {"widths": (8, 12, 16, 20), "depths": (1, 1, 1, 1), "patch_size": 2, "layer_scale": 1.0}
BACKBONES = {
    SemiMedRefMMIUNet: (MMIUNet, {"heads": 2, "feedforward": 6, "dropout": 0.0}),
    SemiMedRefGuideDecoder: (GuideDecoder, {"text_length": 12, "guides": (5, 4, 3)}),
}
both = pytest.mark.parametrize("kind", BACKBONES)


def network(kind, **kwargs):
    torch.manual_seed(0)
    text = BertText({**TEXT, "num_hidden_layers": 3}, layers=LAYERS if kind in BACKBONES else (-1,))
    options = BACKBONES[kind][1] if kind in BACKBONES else next(o for c, o in BACKBONES.values() if c is kind)
    return kind(image_encoder=ConvNeXt(**SIZES), text_encoder=text, default_text=[2, 5, 6, 3], **options, **kwargs)


@pytest.mark.parametrize(("kind", "backbone", "image"), [
    (SemiMedRefMMIUNet, 54_991_193, 768 * 768 + 768 + 2 * 768),
    (SemiMedRefGuideDecoder, 42_178_081, 768 * 768 + 768),
])  # fmt: skip
def test_parameters_at_the_papers_sizes(kind, backbone, image):
    more = {"text_length": 24} if kind is SemiMedRefGuideDecoder else {}
    with torch.device("meta"):
        net = kind(
            image_encoder=ConvNeXt(), text_encoder=BertText("bert-base", layers=LAYERS), default_text=[2, 3], **more
        )
    counts = {name: sum(p.numel() for p in part.parameters() if p.requires_grad) for name, part in net.named_children()}
    head = 2 * (768 * 768 + 768) + 2 * 768
    assert sum(p.numel() for p in net.embeddings.text.parameters()) == head == 1_182_720
    assert sum(p.numel() for p in net.embeddings.image.parameters()) == image
    assert sum(counts.values()) == backbone + head + image


@both
def test_in_eval_mode_it_is_its_backbone(kind):
    plain, image = network(BACKBONES[kind][0]).eval(), random_image()
    net = network(kind, align_width=10).eval()
    assert torch.equal(net(image, IDS), plain(image, IDS)), "the same first weights, too: ablations start alike"
    names = {name for name, _ in net.named_parameters()} - {name for name, _ in plain.named_parameters()}
    assert {name.split(".")[0] for name in names} == {"embeddings"}
    assert torch.equal(net(image), plain(image))


@both
def test_views_of_one_call_are_as_of_several(kind):
    """What the loss gets; batch norm sees each view by itself."""
    net, views = network(kind, align_width=10).train(), [random_image(b) for b in (2, 3, 3)]
    ids = torch.cat((IDS, IDS[:1]))
    zones = torch.ones(3, 6)
    out = net(views[0], IDS, strong=views[1], strong_text=ids, weak=views[2] / 2, weak_text=ids.flip(0), zones=zones)
    assert out["zones"] is zones
    first, second, third = net(views[0], IDS), net(views[1], ids), net(views[2] / 2, ids.flip(0))
    for key in ("pred", "image_embedding", "text_embedding"):
        torch.testing.assert_close(out[key], first[key])
    torch.testing.assert_close(out["strong_pred"], second["pred"])
    for key in ("image_embedding", "text_embedding"):
        torch.testing.assert_close(out["weak_" + key], third[key])
    assert out.keys() == {*first, "strong_pred", "weak_image_embedding", "weak_text_embedding", "zones"}


def head(x, p):
    x = loops.linear(x[None], p["0.weight"], p["0.bias"])
    x = loops.layer_norm(x, p["1.weight"], p["1.bias"])
    if "3.weight" in p:
        x = np.vectorize(lambda v: v * (1 + math.erf(v / math.sqrt(2))) / 2)(x)
        x = loops.linear(x, p["3.weight"], p["3.bias"])
    return x[0]


@both
def test_embeddings_equal_the_loops(kind):
    net, image = network(kind, align_width=5).train().double(), random_image().double()
    deepest = []
    part = net.bridgers[3] if kind is SemiMedRefMMIUNet else net.image_encoder.stages[3]
    part.register_forward_hook(lambda m, args, out: deepest.append(out[0] if isinstance(out, tuple) else out))
    out = net(image, IDS)
    p = {key: value.detach().numpy() for key, value in net.named_parameters() if "embeddings" in key}
    p = loops.below(p, "embeddings")
    states = net.text_encoder(IDS).numpy()  # (B, layers, L, width)
    for b in range(2):
        x = deepest[0][b].detach().numpy()
        pooled = np.array([sum(x[c, r, s] for r, s in np.ndindex(*x.shape[1:])) / x[c].size for c in range(len(x))])
        if kind is SemiMedRefMMIUNet:
            expected = head(pooled, loops.below(p, "image"))
        else:
            norm = net.image_encoder.model.layernorm
            pooled = loops.layer_norm(pooled[None], norm.weight.detach().numpy(), norm.bias.detach().numpy(), norm.eps)
            expected = loops.linear(pooled, p["image.0.weight"], p["image.0.bias"])[0]
        np.testing.assert_allclose(out["image_embedding"][b].detach(), expected, atol=1e-9)
        words = [n for n in range(7) if IDS[b, n]]
        mean = np.zeros(states.shape[-1])
        for layer in range(3):
            for n in words:
                mean += states[b, layer, n] / 3 / len(words)
        np.testing.assert_allclose(out["text_embedding"][b].detach(), head(mean, loops.below(p, "text")), atol=1e-9)


@both
def test_text_layers_are_checked(kind):
    with pytest.raises(UserError, match=r"gives layers \[-1\], but sentences are compared by \[1, 2, -1\]; set"):
        kind(image_encoder=ConvNeXt(**SIZES), text_encoder=BertText(TEXT), default_text=[2, 3], **BACKBONES[kind][1])


@both
def test_every_parameter_learns(kind):
    """From segmentation and alignment; the words of MMI-UNet's last Bridger are used by neither."""
    net = network(kind, align_width=6).train()
    out = net(torch.cat([random_image()] * 2), torch.nn.functional.pad(IDS.repeat(2, 1), (0, 5), value=7))
    (
        out["pred"].square().mean() + (out["image_embedding"] ** 3).mean() + (out["text_embedding"] ** 3).mean()
    ).backward()
    without = {n for n, p in net.named_parameters() if p.requires_grad and p.grad is None}
    spare = ("bridgers.3.text_interactor.", "bridgers.3.text_out.", "image_encoder.model.layernorm.")
    expected = {n for n, _ in net.named_parameters() if n.startswith(spare)}
    assert without == (expected if kind is SemiMedRefMMIUNet else set())
