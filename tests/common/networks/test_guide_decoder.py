import math

import numpy as np
import pytest
import torch

from common.errors import UserError
from common.networks.guide_decoder import GuideDecoder, GuideLayer, Guides, positions
from common.networks.image import ConvNeXt
from common.networks.text import BertText
from tests.common.networks import loops
from tests.common.networks.test_mmi_unet import IDS, TEXT, random_image


def network(**kwargs) -> GuideDecoder:
    """Stride 16: 48 x 80 has grids 24 x 40, 12 x 20, 6 x 10 and 3 x 5."""
    torch.manual_seed(0)
    image = ConvNeXt(widths=(8, 12, 16, 20), depths=(1, 1, 1, 1), patch_size=2, layer_scale=1.0)
    options = {"default_text": [2, 5, 6, 3, 0, 0], "text_length": 12, "guides": (5, 4, 3)} | kwargs
    return GuideDecoder(image, BertText(TEXT), **options)


def test_parameters_at_the_papers_sizes():
    with torch.device("meta"):
        net = GuideDecoder(ConvNeXt(), BertText("bert-base"), default_text=[2, 3], text_length=24)

    def count(module):
        return sum(p.numel() for p in module.parameters() if p.requires_grad)

    guides = {768: 24, 384: 12, 192: 9}
    for layer, (width, number) in zip(net.guide_layers, guides.items(), strict=True):
        attentions = 2 * 4 * (width * width + width)
        words = 24 * number + number + 768 * width + width
        assert count(layer) == attentions + words + 4 * 2 * width + 1
    for block, width in zip(net.up_path, (384, 192, 96), strict=True):
        assert count(block) == 2 * width * width * 4 + 2 * width * width * 9 + width * width * 9 + 4 * width
    assert count(net.guide_layers) == 7_249_320
    assert count(net.up_path) == 6_776_448
    assert count(net.head) == 332_185
    assert count(net.image_encoder) == 27_820_128
    assert count(net) == 42_178_081
    assert net.divisible_by == 32


def code(tokens):
    """sin and cos of n / 10000^(2i/C) by turns."""
    found = np.zeros(tokens.shape)
    for n, c in np.ndindex(*tokens.shape):
        angle = n / 10_000 ** ((c - c % 2) / tokens.shape[1])
        found[n, c] = math.cos(angle) if c % 2 else math.sin(angle)
    return found


def attention(target, keys, values, p, heads):
    """As of the loops, but values are made of other tokens than keys."""
    q, k, v = (loops.linear(x, p[f"{name}.weight"], p[f"{name}.bias"])
               for name, x in (("query", target), ("key", keys), ("value", values)))  # fmt: skip
    d = target.shape[1] // heads
    joined = np.zeros(target.shape)
    for h, n in np.ndindex(heads, len(target)):
        e = [math.exp(sum(q[n, h * d + c] * k[m, h * d + c] for c in range(d)) / math.sqrt(d)) for m in range(len(k))]
        for m in range(len(k)):
            for c in range(d):
                joined[n, h * d + c] += e[m] / sum(e) * v[m, h * d + c]
    return loops.linear(joined, p["out.weight"], p["out.bias"])


def guides_of(words, mask, p):
    mix, bias = p["mix.weight"], p["mix.bias"]
    mixed = np.zeros((len(mix), words.shape[1]))
    for g, c in np.ndindex(*mixed.shape):
        x = bias[g] + sum(mix[g, n] * words[n, c] for n in range(len(words)) if mask[n])
        mixed[g, c] = x * (1 + math.erf(x / math.sqrt(2))) / 2
    projected = loops.linear(mixed, p["project.weight"], p["project.bias"])
    return np.where(projected > 0, projected, 0.01 * projected)


def guided(x, words, mask, p):
    """f' = f + LN(MHSA(f)), f_c = f' + α LN(MHCA(f', guides)); x (C, h, w)."""

    def norm(name, a):
        return loops.layer_norm(a, p[f"{name}.weight"], p[f"{name}.bias"])

    cells = np.array([x[:, r, c] for r in range(x.shape[1]) for c in range(x.shape[2])])
    normed = norm("self_in", cells)
    query = normed + code(normed)
    cells = cells + norm("self_out", attention(query, query, normed, loops.below(p, "self_attention"), 1))
    guides = guides_of(words, mask, loops.below(p, "guides"))
    query = norm("cross_in", cells) + code(cells)
    update = attention(query, guides + code(guides), guides, loops.below(p, "cross_attention"), 4)
    cells = cells + p["scale"] * norm("cross_out", update)
    back = np.zeros(x.shape)
    for number, (r, c) in enumerate(np.ndindex(*x.shape[1:])):
        back[:, r, c] = cells[number]
    return back


def test_guide_layer_equals_loops():
    torch.manual_seed(0)
    layer = GuideLayer(8, guides=3, text_length=6, text_width=5, scale=0.7, dropout=0.3).double().eval()
    for name, parameter in layer.named_parameters():
        if name != "scale":
            torch.nn.init.normal_(parameter)
    x, words = torch.randn(2, 8, 3, 2).double(), torch.randn(2, 4, 5).double()
    mask = torch.tensor([[True, True, True, False], [True, True, False, False]])
    found = layer(x, words, mask).detach()
    p = {key: value.numpy() for key, value in layer.state_dict().items()}
    for b in range(2):
        expected = guided(x[b].numpy(), words[b].numpy(), mask[b].numpy(), p)
        np.testing.assert_allclose(found[b], expected, atol=1e-6)


def test_positions_equal_loops():
    tokens = torch.zeros(2, 7, 6, dtype=torch.float64)
    np.testing.assert_allclose(positions(tokens), code(tokens[0].numpy()), atol=1e-6)


def test_guides_are_the_released_convolution():
    """Conv1d with words as channels, at the full length."""
    torch.manual_seed(0)
    guides, words = Guides(6, 3, 5, 4), torch.randn(2, 6, 5)
    mixed = torch.nn.functional.conv1d(words, guides.mix.weight[..., None], guides.mix.bias)
    expected = torch.nn.functional.leaky_relu(guides.project(torch.nn.functional.gelu(mixed)))
    torch.testing.assert_close(guides(words, torch.ones(2, 6, dtype=torch.bool)), expected)


def test_wiring():
    """From the deepest map up: guided, then joined with the next stage's skip."""
    net, image = network().eval(), random_image()
    seen = {"guide": [], "up": []}
    for kind, modules in (("guide", net.guide_layers), ("up", net.up_path)):
        for module in modules:
            module.register_forward_hook(lambda m, args, out, kind=kind: seen[kind].append((args, out)))
    with torch.no_grad():
        logits, maps = net(image, IDS), net.image_encoder(image)
        states = net.text_encoder(IDS)[:, -1]
    x = maps[3]
    for number, ((guide_in, guide_out), (up_in, up_out)) in enumerate(zip(seen["guide"], seen["up"], strict=True)):
        assert torch.equal(guide_in[0], x) and torch.equal(guide_in[1], states) and torch.equal(guide_in[2], IDS != 0)
        assert torch.equal(up_in[0], guide_out) and torch.equal(up_in[1], maps[2 - number])
        x = up_out
    assert torch.equal(net.head(x), logits)
    assert logits.shape == (2, 1, 48, 80)


def test_the_sentence_matters_and_longer_padding_does_not():
    net, image = network().eval(), random_image()
    logits = net(image, IDS)
    torch.testing.assert_close(net(image, torch.nn.functional.pad(IDS, (0, 5))), logits, atol=1e-5, rtol=1e-5)
    assert (net(image, IDS.flip(0)) - logits).abs().max() > 1e-4
    torch.testing.assert_close(net(image), net(image, torch.tensor([[2, 5, 6, 3]] * 2)))
    for i in range(2):
        torch.testing.assert_close(net(image[i : i + 1], IDS[i : i + 1]), logits[i : i + 1], atol=1e-5, rtol=1e-5)


def test_sentences_that_are_too_long_are_refused_not_cut():
    with pytest.raises(UserError, match=r"GuideDecoder: sentences of 14 tokens, but the text encoder has 12 positions"):
        network()(random_image(), IDS.repeat(1, 2))
    with pytest.raises(UserError, match="text_length is 17, but the text encoder has 16 positions; lower text_length"):
        network(text_length=17)


def test_gradients_reach_every_parameter_but_the_documented():
    net = network(dropout=0.1).train()
    image, ids = torch.cat([random_image()] * 2), torch.nn.functional.pad(IDS.repeat(2, 1), (0, 5), value=7)
    net(image, ids)["pred"].square().mean().backward()
    without = {n for n, p in net.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())}
    without = {name for name in without if not name.endswith("key.bias")}
    assert without == {n for n, _ in net.named_parameters() if n.startswith("image_encoder.model.layernorm.")}
    assert all(p.grad is None for p in net.text_encoder.parameters())


def test_scale_zero_takes_no_sentence():
    """α is all by which the sentence enters."""
    net, image = network(scale=0.0).eval(), random_image()
    torch.testing.assert_close(net(image, IDS.flip(0)), net(image, IDS))


def test_trace_at_another_shape_and_length():
    net = network().eval()
    with torch.no_grad():
        traced = torch.jit.trace(net, (random_image(), IDS))
    image, ids = random_image(3, 64, 96), torch.tensor([[2, 11, 3, 0], [2, 13, 3, 0], [2, 14, 15, 3]])
    torch.testing.assert_close(traced(image, ids), net(image, ids), atol=1e-5, rtol=1e-5)


def test_export_at_every_length():
    """Also the longest, at which the convolution over the words takes all its places."""
    net, dim = network().eval(), torch.export.Dim
    batch = dim("batch", min=1, max=8)
    shapes = {"image": {0: batch}, "text": {0: batch, 1: dim("length", min=2, max=12)}}
    program = torch.export.export(net, (random_image(), IDS), dynamic_shapes=shapes).module()
    for length in (4, 11, 12):
        ids = torch.arange(3 * length).reshape(3, length) % 40 + 2
        image = random_image(3)
        torch.testing.assert_close(program(image, ids), net(image, ids), atol=1e-5, rtol=1e-5)
