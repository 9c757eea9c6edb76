import copy
import io
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser

from common.errors import UserError
from common.losses import BiCLIPLoss
from common.networks.biclip import BiCLIP, Fusion, Generator, Projection, SentenceMean, UNet
from common.networks.blocks.augmentation import Appearance, ImageNetNormalise, RandomGeometry, warp
from common.networks.text import BertText
from common.runtime.export.network import deployed, tensors
from tests.common.networks import loops

CONFIGS = Path(__file__).resolve().parents[3] / "bundles" / "biclip" / "configs"
TEXT = {
    "vocab_size": 50,
    "hidden_size": 12,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 12,
    "max_position_embeddings": 48,
}
IDS = torch.tensor([[2, 7, 8, 9, 3, 0, 0], [2, 9, 3, 0, 0, 0, 0]])
normalise = ImageNetNormalise()
PARTS = ("unet", "projection", "fusion", "generator", "cycle", "consistency")


def network(**kwargs) -> BiCLIP:
    """For pictures of about 32 x 48; the map of t' is 5 x 5."""
    torch.manual_seed(0)
    small = {"latent_size": 5, "widths": (4, 6, 8, 10, 12), "image_widths": (3, 4), "cycle_widths": (3, 4)}
    text = BertText(TEXT, layers=(1, 2, -1))
    return BiCLIP(text, default_text=[2, 5, 6, 3, 0, 0], **small | {"consistency_width": 6} | kwargs)


def random_image(batch=2, height=32, width=48, channels=1) -> torch.Tensor:
    return torch.rand(batch, channels, height, width, generator=torch.Generator().manual_seed(1))


def random_mask(batch=2, height=32, width=48) -> torch.Tensor:
    """A few blobs."""
    noise = torch.rand(batch, 1, 4, 4, generator=torch.Generator().manual_seed(2))
    return (torch.nn.functional.interpolate(noise, (height, width), mode="bicubic") > 0.6).float()


def count(module) -> int:
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


def configured(*overlays) -> BiCLIP:
    """The network of the bundle, without memory."""
    parser = ConfigParser()
    parser.read_config([str(CONFIGS / f"{name}.json") for name in ("inference", *overlays)])
    parser["network_def"]["default_text"] = [2, 5, 3]
    parser["network_def"]["text_encoder"]["architecture"] = "bert-base"
    with torch.device("meta"):
        return parser.get_parsed_content("network_def")


def test_parameters_at_the_papers_sizes():
    net = configured()
    sizes = {"unet": 31_039_361, "projection": 1_219_904, "fusion": 1_582_656, "generator": 2_715, "cycle": 70_352,
             "consistency": 17_152}  # fmt: skip
    assert {part: count(getattr(net, part)) for part in PARTS} == sizes
    assert count(net.fusion.image_encoder) == 149_504
    assert count(net.fusion.mlp) == 1_433_152
    assert count(net.text_encoder) == 0
    assert count(net) == 33_932_140
    assert net.divisible_by == 16


def test_ef_unet_is_the_same_with_three_switches_off():
    net = configured("ef_unet")
    assert (net.fusion, net.cycle, net.consistency) == (None, None, None)
    assert count(net) == 32_261_980
    same = {"generator", "projection", "unet", "text_encoder", "default_text"}
    assert {name.partition(".")[0] for name in net.state_dict()} == same
    changed = json.loads((CONFIGS / "ef_unet.json").read_text())
    assert changed.keys() - {"run_dir", "weights"} == {f"network_def::{k}" for k in ("fusion", "cycle", "consistency")}
    small = network(fusion=False, cycle=False, consistency=False).train()
    out = small(random_image(), IDS)
    assert out.keys() == {"pred", "theta", "image", "generated"}
    loss = BiCLIPLoss()
    loss(out, random_mask()).backward()
    assert loss.terms.keys() == {"dice", "ce", "gen"}
    assert [n for n, p in small.named_parameters() if p.requires_grad and not p.grad.any()] == []


# the parts, against loops


@pytest.mark.parametrize("pool", ["valid", "all"])
def test_sentence_mean_equals_loops(pool):
    torch.manual_seed(0)
    encoder = BertText(TEXT, layers=(1, 2, -1)).eval()
    padded = torch.nn.functional.pad(IDS, (0, 32 - IDS.shape[1]))
    with torch.no_grad():
        found = SentenceMean(encoder, pool).eval()(IDS)
        states = encoder(padded if pool == "all" else IDS).numpy()
        last = BertText(TEXT, layers=(-1,)).eval()
        last.bert = encoder.bert
        np.testing.assert_array_equal(states[:, 2], last(padded if pool == "all" else IDS)[:, 0].numpy())
    for b in range(2):
        places = range(32) if pool == "all" else [i for i in range(7) if IDS[b, i] != 0]
        for c in range(12):
            value = 0.0
            for layer in range(3):
                value += sum(states[b, layer, i, c] for i in places) / len(places) / 3
            assert found[b, c] == pytest.approx(value, abs=1e-5)


@pytest.mark.parametrize("pool", ["valid", "all"])
def test_a_sentence_does_not_depend_on_its_padding(pool):
    encoder = SentenceMean(BertText(TEXT, layers=(1, 2, -1)), pool).eval()
    with torch.no_grad():
        rows = [encoder(torch.nn.functional.pad(IDS, (0, more))) for more in (0, 9, 30, 41)]
        alone = torch.cat([encoder(IDS[:1, :5]), encoder(IDS[1:, :3])])
        # 40 tokens: none is cut, also where the released code has 32 places
        long = torch.arange(2, 42)[None]
        changed = long.clone()
        changed[0, 38] = 2
        assert (encoder(long) - encoder(changed)).abs().max() > 1e-3
    for row in rows[1:]:
        torch.testing.assert_close(row, rows[0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(alone, rows[0], atol=1e-5, rtol=1e-5)


def gelu(x: float) -> float:
    return x / 2 * (1 + math.erf(x / math.sqrt(2)))


def slow_mlp(x, p):
    hidden = loops.layer_norm(loops.linear(x, p["0.weight"], p["0.bias"]), p["1.weight"], p["1.bias"])
    hidden = np.array([[gelu(v) for v in row] for row in hidden])
    return loops.linear(hidden, p["3.weight"], p["3.bias"])


def slow_pooled(x, p):
    """Two convolutions with ReLU and the mean over the picture: (3, H, W) to (widths[-1],)."""
    for name in ("0", "2"):
        x = np.maximum(loops.conv(x, p[f"{name}.weight"], p[f"{name}.bias"], padding=1), 0)
    return np.array([sum(x[c].ravel()) / x[c].size for c in range(len(x))])


def randomised(module):
    torch.manual_seed(4)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    module = module.double().eval()
    return module, {key: value.numpy() for key, value in module.state_dict().items()}


def test_equation_1_equals_loops():
    fusion, p = randomised(Fusion(width=4, image_widths=(2, 3)))
    t, x = torch.randn(2, 4).double(), torch.rand(2, 3, 5, 6).double()
    found = fusion(t, x)
    for b in range(2):
        i = slow_pooled(x[b].numpy(), loops.below(p, "image_encoder"))
        z = np.array([[*t[b].numpy(), *i]])
        expected = t[b].numpy() + slow_mlp(z, loops.below(p, "mlp"))[0]
        np.testing.assert_allclose(found[b].detach(), expected, atol=1e-10)


def test_projection_of_the_sentence_and_image_to_text_head_equal_loops():
    net = network(latent_size=3, cycle_widths=(2, 3))
    for module, x in ((net.projection, torch.randn(2, 12).double()), (net.cycle, torch.rand(2, 3, 5, 6).double())):
        module, p = randomised(module)
        found = module(x).detach()
        for b in range(2):
            if module is net.cycle:
                expected = loops.linear(slow_pooled(x[b].numpy(), p)[None], p["6.weight"], p["6.bias"])
            else:
                expected = slow_mlp(x[b : b + 1].numpy(), p)
            np.testing.assert_allclose(found[b], expected[0], atol=1e-10)


def slow_up(x, weight, bias):
    """Transposed 4 x 4 convolution, stride 2, padding 1: x (I, h, w), weight (I, O, 4, 4)."""
    y = np.zeros((weight.shape[1], 2 * x.shape[1], 2 * x.shape[2]))
    for o in range(len(y)):
        y[o] = bias[o]
    for i, r, c in np.ndindex(x.shape):
        for o, a, b in np.ndindex(weight.shape[1:]):
            row, col = 2 * r + a - 1, 2 * c + b - 1
            if 0 <= row < y.shape[1] and 0 <= col < y.shape[2]:
                y[o, row, col] += x[i, r, c] * weight[i, o, a, b]
    return y


def test_the_generator_equals_loops():
    generator, p = randomised(Generator(2))
    t = torch.randn(2, 4).double()
    found = generator(t, (16, 16)).detach()
    assert found.shape == (2, 3, 16, 16)
    for b in range(2):
        x = np.array([[[t[b, 0], t[b, 1]], [t[b, 2], t[b, 3]]]])
        for name in ("0", "2", "4"):
            x = slow_up(x, p[f"layers.{name}.weight"], p[f"layers.{name}.bias"])
            x = np.maximum(x, 0) if name != "4" else 1 / (1 + np.exp(-x))
        np.testing.assert_allclose(found[b], x, atol=1e-10)


def test_at_another_size_the_map_is_resized():
    generator, _ = randomised(Generator(4))
    t = torch.randn(1, 16).double()
    wide = torch.nn.functional.interpolate(t.reshape(1, 1, 4, 4), (4, 8), mode="bilinear")
    torch.testing.assert_close(generator(t, (32, 64)), generator.layers(wide))
    torch.testing.assert_close(generator(t, (32, 32)), generator.layers(t.reshape(1, 1, 4, 4)), atol=0, rtol=0)


def slow_double(x, p):
    """Twice convolution without bias, batch norm of fixed statistics, ReLU."""
    for name in ("conv_0", "conv_1"):
        q = loops.below(p, name)
        x = loops.conv(x, q["conv.weight"], padding=1)
        for c in range(len(x)):
            x[c] = (x[c] - q["adn.N.running_mean"][c]) / math.sqrt(q["adn.N.running_var"][c] + 1e-5)
            x[c] = np.maximum(x[c] * q["adn.N.weight"][c] + q["adn.N.bias"][c], 0)
    return x


def test_the_unet_equals_loops():
    """Equations 5 and 7 (without its sigmoid): three levels, the map of the way down before that of the way up."""
    unet, _ = randomised(UNet(6, (2, 4, 6), 0.0))
    for name, buffer in unet.named_buffers():
        if name.endswith(("mean", "var")):
            buffer.uniform_(0.5, 1.5)
    p = {key: value.numpy() for key, value in unet.state_dict().items()}
    x = torch.randn(1, 6, 4, 8).double()
    maps = [slow_double(x[0].numpy(), loops.below(p, "first"))]
    for level in range(2):
        fine = maps[-1]
        pooled = np.zeros((len(fine), fine.shape[1] // 2, fine.shape[2] // 2))
        for c, r, s in np.ndindex(pooled.shape):
            pooled[c, r, s] = max(fine[c, 2 * r + a, 2 * s + b] for a in (0, 1) for b in (0, 1))
        maps.append(slow_double(pooled, loops.below(p, f"down.{level}.convs")))
    f = maps.pop()
    for level in range(2):
        q, skip = loops.below(p, f"up.{level}"), maps.pop()
        up = loops.conv_up(f, q["upsample.deconv.weight"], skip.shape[1:])
        up += q["upsample.deconv.bias"][:, None, None]
        f = slow_double(np.concatenate((skip, up)), loops.below(q, "convs"))
    np.testing.assert_allclose(unet.features(x)[0].detach(), f, atol=1e-9)
    logits = loops.conv(f, p["out.weight"], p["out.bias"])
    np.testing.assert_allclose(unet.out(unet.features(x))[0].detach(), logits, atol=1e-9)


def test_the_iac_head_equals_loops():
    head, p = randomised(Projection(3, 4))
    f = torch.randn(2, 3, 5, 2).double()
    means = np.array([[sum(f[b, c].numpy().ravel()) / 10 for c in range(3)] for b in range(2)])
    expected = loops.linear(means, p["layers.0.weight"], p["layers.0.bias"])
    expected = loops.layer_norm(expected, p["layers.1.weight"], p["layers.1.bias"])
    np.testing.assert_allclose(head(f).detach(), expected, atol=1e-10)


# the whole


def test_wiring_of_inference():
    net, image = network().eval(), random_image()
    with torch.no_grad():
        t = net.projection(net.text_encoder(IDS))
        x = image.repeat(1, 3, 1, 1)
        generated = net.generator(net.fusion(t, x), (32, 48))
        assert 0 < generated.min() < generated.max() < 1
        both = torch.cat((normalise(x), generated / 0.25 - 2), dim=1)
        expected = net.unet.out(net.unet.features(both))
        torch.testing.assert_close(net(image, IDS), expected, atol=1e-5, rtol=1e-5)


def test_wiring_of_a_step():
    """Rows and pseudo-image of the picture as it is; then both warped; weak and strong view with one pseudo-image."""
    net, image = network(), random_image()
    seen: dict[str, list] = {"unet": [], "fusion": [], "cycle": [], "head": []}
    net.unet.first.register_forward_hook(lambda m, args, out: seen["unet"].append(args[0]))
    net.fusion.register_forward_hook(lambda m, args, out: seen["fusion"].append((*args, out)))
    net.cycle.register_forward_hook(lambda m, args, out: seen["cycle"].append((args[0], out)))
    net.consistency.register_forward_hook(lambda m, args, out: seen["head"].append((args[0], out)))
    torch.manual_seed(7)
    out = net.train()(image, IDS)
    x = image.repeat(1, 3, 1, 1)
    ((t, given, refined),) = seen["fusion"]
    assert torch.equal(given, x)
    assert torch.equal(out["image"], x)
    assert torch.equal(out["text"], t)
    torch.testing.assert_close(out["generated"], net.generator(refined, (32, 48)))
    ((back, t_hat),) = seen["cycle"]
    assert torch.equal(back, out["generated"])
    assert torch.equal(t_hat, out["cycle"])
    weak, strong = seen["unet"]
    pseudo = (warp(out["generated"], out["theta"]) - 0.5) / 0.25
    torch.testing.assert_close(weak, torch.cat((normalise(warp(x, out["theta"])), pseudo), 1), atol=1e-5, rtol=0)
    torch.testing.assert_close(strong[:, 3:], pseudo, atol=1e-5, rtol=0)
    torch.manual_seed(7)
    assert torch.equal(net.geometry(x), out["theta"])
    view = Appearance.draw(x).apply(warp(x, out["theta"]))
    torch.testing.assert_close(strong[:, :3], normalise(view), atol=1e-4, rtol=0)
    (f_w, p_w), (f_s, p_s) = seen["head"]
    torch.testing.assert_close(out["pred"], net.unet.out(f_w))
    assert torch.equal(out["weak"], p_w)
    assert torch.equal(out["strong"], p_s)
    assert p_w.requires_grad
    assert not f_s.requires_grad
    assert not p_s.requires_grad


@pytest.mark.parametrize(("hflip", "vflip", "affine"), [(1, 0, 0), (0, 1, 0), (1, 1, 0), (0.5, 0.5, 1)])
def test_image_pseudo_image_and_mask_stay_aligned(hflip, vflip, affine):
    """The picture is the mask, and so is the pseudo-image: wherever they go, the loss's mask must go too."""
    batch = 8
    mask = random_mask(batch)
    net = network(geometry=RandomGeometry(hflip, vflip, affine)).train()
    net.generator.register_forward_hook(lambda m, args, out: mask.expand(-1, 3, -1, -1))
    seen, targets = [], []
    net.unet.first.register_forward_hook(lambda m, args, out: seen.append(args[0]))
    torch.manual_seed(0)
    out = net(mask, IDS.repeat(batch // 2, 1))
    loss = BiCLIPLoss()
    loss.segmentation.dice.register_forward_hook(lambda m, args, out: targets.append(args[1]))
    loss(out, mask)
    (moved,) = targets
    std, mean = torch.tensor([0.229, 0.224, 0.225])[:, None, None], torch.tensor([0.485, 0.456, 0.406])[:, None, None]
    picture, pseudo = seen[0][:, :3] * std + mean, seen[0][:, 3:] * 0.25 + 0.5
    assert set(moved.unique().tolist()) == {0, 1}
    assert (moved != mask).float().mean() > 0.1
    if not affine:
        flipped = mask.flip([axis for axis, on in ((3, hflip), (2, vflip)) if on])
        assert torch.equal(moved, flipped)
        torch.testing.assert_close(picture, flipped.expand(-1, 3, -1, -1), atol=1e-5, rtol=0)
    torch.testing.assert_close(pseudo, picture, atol=1e-5, rtol=0)
    assert ((picture > 0.5) != (moved > 0.5)).float().mean() < 0.02
    assert loss.terms["gen"] == 0, "the generator's target is the mask as it was"


def released_step(net: BiCLIP, image: torch.Tensor, ids: torch.Tensor) -> dict[str, torch.Tensor]:
    """As the released code: both passes with a graph, the projection of the strong one detached."""
    x = image.repeat(1, 3, 1, 1)
    t = net.projection(net.text_encoder(ids))
    generated = net.generator(net.fusion(t, x), image.shape[-2:])
    theta = net.geometry(x)
    picture, pseudo = warp(torch.cat((x, generated), 1), theta).split(3, dim=1)
    pseudo = (pseudo - 0.5) / 0.25
    strong_view = Appearance.draw(picture).apply(picture)
    weak = net.unet.features(torch.cat((normalise(picture), pseudo), 1))
    strong = net.unet.features(torch.cat((normalise(strong_view), pseudo), 1))
    return {"pred": net.unet.out(weak), "theta": theta, "image": x, "generated": generated, "text": t,
            "cycle": net.cycle(generated), "weak": net.consistency(weak),
            "strong": net.consistency(strong).detach()}  # fmt: skip


def test_the_strong_pass_without_a_graph_changes_nothing():
    """Losses, gradients, running means and variances and the counts of batches are the released code's."""
    ours = network().train()
    theirs = copy.deepcopy(ours)
    image, mask = random_image(6), random_mask(6)
    found = []
    for net, step in ((ours, lambda: ours(image, IDS.repeat(3, 1))),
                      (theirs, lambda: released_step(theirs, image, IDS.repeat(3, 1)))):  # fmt: skip
        torch.manual_seed(11)
        loss = BiCLIPLoss()
        loss(step(), mask).backward()
        gradients = {name: p.grad for name, p in net.named_parameters() if p.requires_grad}
        found.append((loss.terms, gradients, dict(net.named_buffers())))
    torch.testing.assert_close(*found, atol=1e-5, rtol=1e-4)
    assert ours.unet.first.conv_0.adn.N.num_batches_tracked == 2, "the strong view counts in the statistics"


def test_gradients_reach_every_parameter():
    net = network(dropout=0.1).train()
    BiCLIPLoss()(net(random_image(), IDS), random_mask()).backward()
    assert [n for n, p in net.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())] == []
    assert all(p.grad is None for p in net.text_encoder.parameters())


def test_half_precision_gives_finite_losses_and_all_gradients():
    """Also of the IAC head: its weights must not be cast first where there is no graph."""
    net = network().train()
    loss = BiCLIPLoss()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        total = loss(net(random_image(), IDS), random_mask())
    total.backward()
    assert all(torch.isfinite(term) for term in (total, *loss.terms.values()))
    without = [n for n, p in net.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())]
    assert without == []
    assert all(torch.isfinite(p.grad).all() for p in net.parameters() if p.requires_grad)
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.no_grad():
        half = net.eval()(random_image(), IDS)
    torch.testing.assert_close(half.float(), net(random_image(), IDS).detach(), atol=0.05, rtol=0.05)


def test_a_step_is_a_matter_of_the_seed():
    net = network().train()
    outs = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        outs.append(net(random_image(), IDS))
    assert torch.equal(outs[0]["pred"], outs[1]["pred"])
    assert torch.equal(outs[0]["strong"], outs[1]["strong"])
    assert not torch.equal(outs[0]["theta"], outs[2]["theta"])


def test_train_mode_gives_a_dict_and_eval_mode_logits():
    net, image = network(), random_image()
    shapes = {key: tuple(value.shape) for key, value in net.train()(image, IDS).items()}
    assert shapes == {
        "pred": (2, 1, 32, 48), "theta": (2, 2, 3), "image": (2, 3, 32, 48), "generated": (2, 3, 32, 48),
        "text": (2, 25), "cycle": (2, 25), "weak": (2, 6), "strong": (2, 6),
    }  # fmt: skip
    assert net.eval()(image, IDS).shape == (2, 1, 32, 48)
    assert torch.equal(net(image, IDS), net(image, IDS)), "nothing is drawn"


def test_the_sentence_matters_and_longer_padding_does_not():
    net, image = network().eval(), random_image()
    for parameter in net.generator.parameters():
        torch.nn.init.normal_(parameter)  # at first the pseudo-image is grey
    logits = net(image, IDS)
    longer = torch.cat((IDS, torch.zeros(2, 5, dtype=torch.int64)), dim=1)
    torch.testing.assert_close(net(image, longer), logits, atol=1e-4, rtol=1e-4)
    assert (net(image, IDS.flip(0)) - logits).abs().max() > 1e-3
    assert torch.allclose(net(image), net(image, torch.tensor([[2, 5, 6, 3]]).expand(2, -1)), atol=1e-5)


def test_samples_of_a_batch_do_not_mix():
    net, image = network().eval(), random_image()
    both = net(image, IDS)
    for i in range(2):
        torch.testing.assert_close(net(image[i : i + 1], IDS[i : i + 1]), both[i : i + 1], atol=1e-5, rtol=1e-5)


def test_one_channel_is_three_alike():
    grey, colour = network().eval(), network(in_channels=3).eval()
    colour.load_state_dict(grey.state_dict())
    torch.testing.assert_close(grey(random_image(), IDS), colour(random_image().repeat(1, 3, 1, 1), IDS))


def test_sizes_must_divide():
    net = network()
    for size in ((16, 16), (16, 48), (48, 32), (80, 64), (112, 96)):
        assert net.eval()(random_image(1, *size), IDS[:1]).shape == (1, 1, *size)
        assert net.train()(random_image(2, *size), IDS)["generated"].shape == (2, 3, *size)
    with pytest.raises(UserError, match=r"BiCLIP: the image is 60 x 80 pixels.*divisible by 16; resize or pad it"):
        net(random_image(1, 60, 80), IDS[:1])
    assert network(widths=(4, 6)).divisible_by == 8, "of the generator"


def test_another_pool_is_refused():
    with pytest.raises(UserError, match="BiCLIP: pool 'max', expected valid or all"):
        network(pool="max")


# export


def test_deployed_is_the_generator_but_not_what_only_training_needs():
    net = network().eval()
    kept = {name.partition(".")[0] for name, _ in tensors(deployed(net, (random_image(), IDS)))}
    assert kept == {"text_encoder", "projection", "fusion", "generator", "normalise", "unet"}


@pytest.mark.parametrize("pool", ["valid", "all"])
def test_trace(pool):
    """With the image alone (MONAI's ``ckpt_export --use_trace True``) and with a sentence, at another shape."""
    net = network(pool=pool).eval()
    with torch.no_grad():
        alone = torch.jit.trace(net, (random_image(1),))
        both = torch.jit.trace(net, (random_image(), IDS))
    image = random_image(3, 64, 96)
    torch.testing.assert_close(alone(random_image(1)), net(random_image(1)), atol=1e-4, rtol=1e-4)
    ids = torch.tensor([[2, 11, 12, 3, 0], [2, 13, 3, 0, 0], [2, 14, 15, 16, 3]])
    torch.testing.assert_close(both(image, ids), net(image, ids), atol=1e-4, rtol=1e-4)
    longer = torch.nn.functional.pad(ids, (0, 20))
    torch.testing.assert_close(both(image, longer), net(image, ids), atol=1e-4, rtol=1e-4)


@pytest.mark.full
@pytest.mark.parametrize("pool", ["valid", "all"])
def test_onnx_at_another_batch_size_and_length(pool):
    import onnxruntime

    net = network(pool=pool).eval()
    dim = torch.export.Dim
    batch, file = dim("batch"), io.BytesIO()
    program = torch.export.export(
        net, (random_image(), IDS), prefer_deferred_runtime_asserts_over_guards=True,
        dynamic_shapes={"image": {0: batch}, "text": {0: batch, 1: dim("length", min=2, max=48)}},
    )  # fmt: skip
    torch.onnx.export(program, (), file, dynamo=True, external_data=False, verbose=False, input_names=["image", "text"])
    session = onnxruntime.InferenceSession(file.getvalue(), providers=["CPUExecutionProvider"])
    image = random_image(3)
    for more in (0, 20):
        ids = torch.tensor([[2, 11, 12, 3, 0], [2, 13, 3, 0, 0], [2, 14, 15, 16, 3]])
        ids = torch.nn.functional.pad(ids, (0, more))
        (pred,) = session.run(None, {"image": image.numpy(), "text": ids.numpy()})
        np.testing.assert_allclose(pred, net(image, ids).detach().numpy(), atol=1e-4)
