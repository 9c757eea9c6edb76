import numpy as np
import pytest
import torch

from common.errors import UserError
from common.losses.guidance import guidance
from common.networks.image import ConvNeXt
from common.networks.mmi_unet import MMIUNet
from common.networks.ssa import SSA, mean_look, words_of
from common.networks.text import BertText
from common.prompts.zones import composite_prior
from tests.common.networks import loops
from tests.common.networks.test_mmi_unet import IDS, TEXT, random_image


def network(**kwargs) -> SSA:
    torch.manual_seed(0)
    image = ConvNeXt(widths=(8, 12, 16, 20), depths=(1, 1, 1, 1), patch_size=2, layer_scale=1.0)
    return SSA(
        image_encoder=image, text_encoder=BertText(TEXT), default_text=[2, 5, 6, 3], heads=2, feedforward=6,
        align_width=10, **{"dropout": 0.0} | kwargs,
    )  # fmt: skip


def test_parameters_at_the_papers_sizes():
    with torch.device("meta"):
        net = SSA(image_encoder=ConvNeXt(), text_encoder=BertText("bert-base"), default_text=[2, 3])
    counts = {name: sum(p.numel() for p in part.parameters() if p.requires_grad) for name, part in net.named_children()}
    assert counts["image_projection"] == counts["text_projection"] == 768 * 256 + 256 + 2 * 256
    assert sum(counts.values()) == 54_991_193 + 394_752


def test_words_are_what_lies_between_the_special_tokens():
    ids = torch.tensor([[2, 7, 8, 9, 3, 0], [2, 7, 8, 9, 5, 3], [2, 7, 3, 0, 0, 0], [2, 3, 0, 0, 0, 0]])
    assert words_of(ids).int().tolist() == [
        [0, 1, 1, 1, 0, 0], [0, 1, 1, 1, 1, 0], [0, 1, 0, 0, 0, 0], [1, 1, 0, 0, 0, 0],
    ]  # fmt: skip


@pytest.mark.parametrize(("stage", "side"), [(3, "words"), (4, "words"), (4, "cells")])
def test_what_training_gets_equals_the_loops(stage, side):
    """Tokens from the Bridgers' outputs, and a side of the second Bridger: heads and words averaged."""
    net, image = network(align_stage=stage, attention_of=side).train().double(), random_image().double()
    seen = []
    for bridger in net.bridgers:
        bridger.register_forward_hook(lambda m, args, out: seen.append((args, out)))
    out = net(image, IDS)
    assert out.keys() == {"pred", "text", "words", "image_tokens", "word_tokens", "attention"}
    assert torch.equal(out["text"], IDS) and torch.equal(out["words"], words_of(IDS))
    (x, words, mask, *_), (_, _, looks) = seen[1]
    p = {key: value.numpy() for key, value in net.bridgers[1].state_dict().items()}
    q = {key: value.detach().numpy() for key, value in net.named_parameters() if "projection" in key}
    for b in range(2):
        *_, of_cells, of_words = loops.bridger(
            x[b].detach().numpy(), words[b].detach().numpy(), mask[b].numpy(), p, heads=2
        )
        look = of_words if side == "words" else of_cells
        expected = np.zeros(look.shape[2:])
        mine = [n for n in range(7) if out["words"][b, n]]
        for n in mine:
            for h in range(2):
                expected += look[h, n] / 2 / len(mine)
        np.testing.assert_allclose(out["attention"][b].detach(), expected, atol=1e-9)
        assert expected.std() > 1e-6
        if side == "words":
            assert expected.sum() == pytest.approx(1)
        out_v, out_t, _ = seen[stage - 1][1]
        cells = out_v[b].detach().numpy()
        cells = np.array([cells[:, r, c] for r in range(cells.shape[1]) for c in range(cells.shape[2])])
        for name, tokens in (("image", cells), ("word", out_t[b].detach().numpy())):
            part = f"{'text' if name == 'word' else name}_projection"
            tokens = loops.linear(tokens, q[f"{part}.0.weight"], q[f"{part}.0.bias"])
            tokens = loops.layer_norm(tokens, q[f"{part}.1.weight"], q[f"{part}.1.bias"])
            np.testing.assert_allclose(out[f"{name}_tokens"][b].detach(), tokens, atol=1e-9)
    assert looks.of_words.shape == (2, 2, 7, 6, 10)


def test_in_eval_mode_it_is_mmi_unet():
    net, image = network().eval(), random_image()
    torch.manual_seed(0)
    plain = MMIUNet(
        ConvNeXt(widths=(8, 12, 16, 20), depths=(1, 1, 1, 1), patch_size=2, layer_scale=1.0), BertText(TEXT),
        default_text=[2, 5, 6, 3], heads=2, feedforward=6,
    ).eval()  # fmt: skip
    assert torch.equal(net(image, IDS), plain(image, IDS)), "the same first weights, too: ablations start alike"
    names = {name for name, _ in net.named_parameters()} - {name for name, _ in plain.named_parameters()}
    assert {name.split(".")[0] for name in names} == {"image_projection", "text_projection"}


def test_nothing_of_it_is_traced():
    """No operation and no weight of it: the traced graph is MMI-UNet's."""
    net, image = network().eval(), random_image()
    traced = torch.jit.freeze(torch.jit.trace(net, (image, IDS), check_trace=False))
    for layer in (net.image_projection[0], net.text_projection[0]):
        held = [n.t("value") for n in traced.graph.findAllNodes("prim::Constant") if n.hasAttribute("value")
                and n.kindOf("value") == "t"]  # fmt: skip
        assert len(held) > 20
        assert not any(t.shape == layer.weight.shape and torch.equal(t, layer.weight) for t in held)
    assert torch.allclose(traced(image, IDS), net(image, IDS), atol=1e-6)


def test_a_side_that_is_none():
    with pytest.raises(UserError, match="SSA: attention_of is 'pixels', expected words or cells"):
        network(attention_of="pixels")


@pytest.mark.parametrize("side", ["words", "cells"])
def test_attention_for_explain_is_that_of_training(side):
    net, image = network(attention_of=side), random_image()
    trained = net.train()(image, IDS)["attention"]
    torch.testing.assert_close(net.eval().attention(image, IDS), trained)
    assert net.attention(image).shape == (2, 6, 10)
    longer = torch.nn.functional.pad(IDS, (0, 4))
    torch.testing.assert_close(net.attention(image, longer), trained)


def test_insights_are_the_guidance_of_the_loss():
    net, image = network().eval(), random_image()
    prior = torch.stack([torch.from_numpy(composite_prior(bits, (48, 80)).copy())
                         for bits in ((0, 0, 1, 0, 0, 0), (1, 1, 0, 1, 0, 0))])  # fmt: skip
    (found,) = net.insights(image, IDS, prior)
    guides = guidance(net.train()(image, IDS)["attention"], prior)
    torch.testing.assert_close(found.values, torch.stack([guides.attention, prior, guides.prior, guides.guide], 1))
    assert len(found.names) == 4
    for b, (top, left, bottom, right) in enumerate(guides.box):
        inside = found.outline[b] > 0.5
        assert abs(float(inside.sum() - (bottom - top) * (right - left))) < 130


def test_every_parameter_learns_from_the_alignment():
    """The words of the last Bridger too, which have no gradient in MMI-UNet."""
    net = network().train()
    out = net(random_image(), IDS)
    (out["image_tokens"].square().mean() * 2 + (out["word_tokens"] ** 3).mean() + out["pred"].mean()).backward()
    names = {n for n, p in net.named_parameters() if p.requires_grad and p.grad is None}
    assert names <= {n for n, _ in net.named_parameters() if n.startswith("image_encoder.model.layernorm.")}


@pytest.mark.parametrize("key", ["align_stage", "attention_stage"])
def test_a_stage_that_is_none(key):
    with pytest.raises(UserError, match=f"SSA: {key} is 5, expected 1 to 4"):
        network(**{key: 5})


def test_an_image_too_small_for_the_stage():
    with pytest.raises(UserError, match="SSA: the image has 16 x 32 pixels, too few for the attention of stage 4"):
        network(attention_stage=4).train()(random_image(2, 16, 32), IDS)


def test_mean_look_leaves_padding_out():
    looks = torch.rand(1, 2, 3, 2, 2)
    words = torch.tensor([[False, True, True]])
    found = mean_look(looks, words)
    torch.testing.assert_close(found[0], looks[0, :, 1:].mean(dim=(0, 1)))
