import io

import numpy as np
import pytest
import torch

from common.errors import UserError
from common.losses.causal import CausalGame
from common.networks.causal_clipseg import CausalCLIPSeg, Decoder, Fusion, Masker, Neck
from common.networks.image import ClipResNet
from common.networks.text import BertText, ClipText
from common.runtime.export.network import deployed
from common.runtime.export.table import TableNetwork
from tests.common.networks import causal_reference as reference
from tests.common.networks.clip_reference import TEXT as CLIP_TEXT

TEXT = {
    "vocab_size": 50, "hidden_size": 12, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 12,
    "max_position_embeddings": 16,
}  # fmt: skip
IMAGE = {"layers": (1, 1, 1, 1), "width": 4, "output_dim": 32}
IDS = torch.tensor([[2, 7, 8, 9, 3, 0, 0], [2, 9, 3, 0, 0, 0, 0]])


def network(text=None, **kwargs) -> CausalCLIPSeg:
    torch.manual_seed(0)
    text = BertText(TEXT) if text is None else text
    net = CausalCLIPSeg(
        ClipResNet(IMAGE, stem_stride=2, grid=3), text, [2, 5, 6, 3, 0, 0], decoder_channels=(8, 6), **kwargs
    )
    for name, parameter in net.named_parameters():
        if name.endswith("bn3.weight"):
            torch.nn.init.ones_(parameter)  # at the start they are 0, and a branch gets no gradient
    return net


def random_image(batch=2, height=48, width=80) -> torch.Tensor:
    return torch.rand(batch, 1, height, width, generator=torch.Generator().manual_seed(1))


def random_target(batch=2, height=48, width=80) -> torch.Tensor:
    return (torch.rand(batch, 1, height, width, generator=torch.Generator().manual_seed(2)) > 0.7).float()


def randomise(module: torch.nn.Module) -> dict[str, np.ndarray]:
    """Random weights and statistics, double precision, eval mode; and all of them for the reference."""
    module.double().eval()
    generator = torch.Generator().manual_seed(4)
    for name, value in module.state_dict().items():
        if name.endswith("running_var"):
            value.copy_(0.5 + torch.rand(value.shape, generator=generator))
        elif value.is_floating_point():
            value.copy_(0.5 * torch.randn(value.shape, generator=generator))
    return {key: value.numpy() for key, value in module.state_dict().items()}


def count(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_parameters_at_the_papers_sizes():
    with torch.device("meta"):
        net = CausalCLIPSeg(ClipResNet("rn101"), ClipText("rn101"), default_text=[2, 3])
        without = CausalCLIPSeg(ClipResNet("rn101"), ClipText("rn101"), default_text=[2, 3], game="none")
    assert count(net.neck) == 36_617_892
    assert count(net.neck.maskers) == 28_380_672
    assert [count(decoder) for decoder in net.decoders.values()] == [4_788_737] * 2
    assert count(net.neck) + count(net.decoders) == 46_195_366
    assert count(net.image_encoder) == 57_309_536
    assert count(net.text_encoder) == 63_428_096
    assert count(net) == 166_932_998
    assert net.divisible_by == 32
    assert count(net) - count(without) == 28_380_672 + 4_788_737


def test_masker_equals_loops():
    masker = Masker(3)
    p, x = randomise(masker), torch.randn(2, 3, 4, 5).double()
    for b in range(2):
        np.testing.assert_allclose(masker(x)[b].detach(), reference.masker(x[b].numpy(), p), atol=1e-10)


def test_neck_equals_loops():
    """Eq. 2, the three scales, both streams."""
    neck = Neck((4, 5, 4), masked=True)
    p = randomise(neck)
    maps = [torch.randn(2, c, *grid).double() for c, grid in ((4, (8, 12)), (5, (4, 6)), (4, (2, 3)))]
    causal, confounding, masks = neck(maps, confounding=True)
    for b in range(2):
        expected = reference.neck([m[b].numpy() for m in maps], p)
        np.testing.assert_allclose(causal[b].detach(), expected[0], atol=1e-9)
        np.testing.assert_allclose(confounding[b].detach(), expected[1], atol=1e-9)
        for mask, other in zip(masks, expected[2], strict=True):
            np.testing.assert_allclose(mask[b].detach(), other, atol=1e-10)
    alone = neck(maps)
    assert torch.equal(alone.causal, causal)
    assert alone.confounding is None


def test_without_the_module_the_maps_stay_as_they_are():
    neck = Neck((4, 5, 4), masked=False)
    randomise(neck)
    maps = [torch.randn(2, c, *grid).double() for c, grid in ((4, (8, 12)), (5, (4, 6)), (4, (2, 3)))]
    scales = [torch.nn.functional.avg_pool2d(maps[0], 2), neck.middle(maps[1]), neck.carafe(maps[2])]
    torch.testing.assert_close(neck(maps, confounding=True).causal, neck.fusion(torch.cat(scales, dim=1)))
    assert len(neck.maskers) == 0


@pytest.mark.parametrize("scale", [8, 16])
def test_decoder_equals_loops(scale):
    decoder = Decoder(3, (4, 2), text_width=5, scale=scale)
    p, x, sentence = randomise(decoder), torch.randn(2, 3, 2, 1).double(), torch.randn(2, 5).double()
    found = decoder(x, sentence)
    assert found.shape == (2, 1, 2 * scale, scale)
    expected = reference.decoder(x[1].numpy(), sentence[1].numpy(), p, scale)
    np.testing.assert_allclose(found[1, 0].detach(), expected, atol=1e-8)


def test_streams_share_weights_but_not_statistics():
    fusion = Fusion(6, 4).train()
    assert [name for name, _ in fusion.named_parameters()] == ["conv.weight", "norm.weight", "norm.bias"]
    torch.nn.init.normal_(fusion.norm.weight)
    x = 3 + torch.randn(8, 6, 5, 5)
    mean = fusion.conv(x).mean(dim=(0, 2, 3))
    torch.testing.assert_close(fusion(x), fusion(x, confounding=True))
    fusion(-x, confounding=True)
    torch.testing.assert_close(fusion.norm.running_mean, 0.1 * mean)
    torch.testing.assert_close(fusion.confounding_norm.running_mean, 0.9 * 0.1 * mean - 0.1 * mean)


def test_wiring_and_only_the_causal_decoder_in_eval_mode():
    net, image = network(sentence_scale=0.25).train(), random_image()
    output = net(image, IDS)
    assert output.keys() == {"pred", "confounding"}
    assert output["pred"].shape == output["confounding"].shape == (2, 1, 48, 80)
    net.eval()
    called = []
    for name, decoder in net.decoders.items():
        decoder.register_forward_hook(lambda m, args, out, name=name: called.append((name, args, out)))
    logits = net(image, IDS)
    ((name, (causal, sentence), out),) = called
    assert name == "causal"
    assert torch.equal(out, logits)
    assert torch.equal(causal, net.neck(net.image_encoder(image)).causal)
    assert torch.equal(sentence, net.text_encoder.encoder.sentence(IDS) / 4)
    called.clear()
    found = net.insights(image, IDS, torch.ones(2, 48, 80))[-1].values
    (_, (_, same), _), (name, (confounding, too), other) = called
    assert name == "confounding"
    assert torch.equal(confounding, net.neck(net.image_encoder(image), confounding=True).confounding)
    assert torch.equal(same, sentence)
    assert torch.equal(too, sentence)
    assert torch.equal(found, torch.cat((logits, other), dim=1).sigmoid())


def test_insights_are_the_masks_that_split_the_picture_and_both_answers():
    net, image, prior = network().eval(), random_image(), torch.ones(2, 48, 80)
    causal, confounding, answers = net.insights(image, IDS, prior)
    for one in (causal, confounding, answers):
        assert one.values.shape[:2] == (2, len(one.names))
        assert 0 <= one.values.min() <= one.values.max() <= 1
    torch.testing.assert_close(causal.values + confounding.values, torch.ones(2, 3, 6, 10))
    masks = net.neck(net.image_encoder(image)).masks
    for number in range(3):
        torch.testing.assert_close(causal.values[:, number], masks[number].mean(dim=1))
    torch.testing.assert_close(answers.values[:, :1], net(image, IDS).sigmoid())
    assert network(game="none").eval().insights(image, IDS, prior) == []


def gradients(net: CausalCLIPSeg, loss) -> dict[str, torch.Tensor]:
    """Of each parameter; net's random numbers and statistics are the same at each call."""
    net.zero_grad()
    loss(net(random_image(), IDS)).backward()
    return {name: torch.zeros_like(p) if p.grad is None else p.grad.clone() for name, p in net.named_parameters()}


def test_who_climbs_and_who_descends():
    """Literal: all of the network follows L_c − λ L_s. Reversal: D_s descends L_s, the others follow L_c − λ L_s."""
    target, bce = random_target().double(), torch.nn.functional.binary_cross_entropy_with_logits
    net = network().double().train()
    causal = gradients(net, lambda out: bce(out["pred"], target))
    confounding = gradients(net, lambda out: bce(out["confounding"], target))
    assert not any(g.any() for name, g in causal.items() if name.startswith("decoders.confounding."))
    assert any(g.any() for name, g in confounding.items() if name.startswith("text_encoder."))
    played = {}
    for game in ("literal", "grl"):
        net.game, net.weight = game, 0.3
        loss = CausalGame(game, weight=0.3)
        played[game] = gradients(net, lambda out, loss=loss: loss({k: v.double() for k, v in out.items()}, target))
    for name in causal:
        both = causal[name] - 0.3 * confounding[name]
        torch.testing.assert_close(played["literal"][name], both, rtol=1e-3, atol=1e-6)
        own = name.startswith("decoders.confounding.")
        torch.testing.assert_close(played["grl"][name], confounding[name] if own else both, rtol=1e-3, atol=1e-6)


def test_gradients_reach_every_parameter_but_the_mean_tokens_position():
    net = network().train()
    CausalGame()(net(random_image(), IDS), random_target()).backward()
    without = {n for n, p in net.named_parameters() if p.grad is None or not p.grad.any()}
    # A key's bias adds one number to all scores of a query, which softmax does not see.
    assert all(name.endswith(("k_proj.bias", "key.bias")) for name in without)
    assert not net.image_encoder.attnpool.positional_embedding.grad[0].any()


@pytest.mark.parametrize("game", ["none", "literal", "grl", "uniform"])
def test_a_step_in_bfloat16(game):
    net = network(game=game).train()
    with torch.autocast("cpu", torch.bfloat16):
        loss = CausalGame(game)(net(random_image(), IDS), random_target())
    loss.backward()
    assert loss.dtype == torch.float32
    assert all(p.grad is None or p.grad.isfinite().all() for p in net.parameters())


@pytest.mark.parametrize("text", [None, ClipText(CLIP_TEXT)])
def test_the_sentence_matters_and_longer_padding_does_not(text):
    net, image = network(text).eval(), random_image()
    logits = net(image, IDS)
    longer = torch.cat((IDS, torch.zeros(2, 3, dtype=torch.int64)), dim=1)
    torch.testing.assert_close(net(image, longer), logits, atol=1e-5, rtol=1e-5)
    assert (net(image, IDS.flip(0)) - logits).abs().max() > 1e-4


def test_in_training_padding_that_all_rows_share_is_not_encoded():
    net, seen = network(), []
    net.text_encoder.encoder.bert.embeddings.register_forward_hook(lambda m, args, out: seen.append(out.shape[1]))
    net.train()(random_image(), IDS)
    net.eval()(random_image(), IDS)
    assert seen == [5, 7]


def test_samples_of_a_batch_do_not_mix():
    net, image = network().eval(), random_image()
    both = net(image, IDS)
    for i in range(2):
        torch.testing.assert_close(net(image[i : i + 1], IDS[i : i + 1]), both[i : i + 1], atol=1e-5, rtol=1e-5)


def test_no_text_means_the_default_sentence():
    net, image = network().eval(), random_image()
    torch.testing.assert_close(net(image), net(image, torch.tensor([[2, 5, 6, 3]]).expand(2, -1)))


def test_a_table_of_sentences_stands_in_for_the_text_encoder():
    net, image = network().eval(), random_image()
    table = TableNetwork(net, [[2, 7, 8, 9, 3], [2, 9, 3]])
    torch.testing.assert_close(table(image, IDS), net(image, IDS), atol=1e-5, rtol=1e-5)
    assert not any("bert" in name for name, _ in table.named_parameters())


def test_dropout_is_of_the_sentence_in_training():
    net, image = network(dropout=0.5).train(), random_image()
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 0.0
    assert not torch.equal(net(image, IDS)["pred"], net(image, IDS)["pred"])
    assert torch.equal(net.eval()(image, IDS), net(image, IDS))


def test_faults_are_one_line():
    with pytest.raises(UserError, match="game 'adversarial', expected one of none, literal, grl, uniform"):
        network(game="adversarial")
    with pytest.raises(UserError, match=r"32 channels at an 8th and 12 at the end, .* set its output_dim to 32"):
        CausalCLIPSeg(ClipResNet(IMAGE | {"output_dim": 12}), BertText(TEXT), [2, 3])
    with pytest.raises(UserError, match=r"60 x 80 pixels.*divisible by 16; resize or pad it"):
        network()(random_image(1, 60, 80), IDS[:1])
    state = network(game="none").state_dict()
    with pytest.raises(UserError, match=r"do not fit CausalCLIPSeg: \d+ keys missing \(such as 'neck.maskers.0"):
        network().load_state_dict(state, strict=False)


def test_trace_at_another_batch_and_length():
    net = network().eval()
    with torch.no_grad():
        traced = torch.jit.trace(net, (random_image(), IDS), check_trace=False)
    ids = torch.tensor([[2, 11, 12, 3, 0], [2, 13, 3, 0, 0], [2, 14, 15, 16, 3]])
    image = random_image(3)
    torch.testing.assert_close(traced(image, ids), net(image, ids), atol=1e-5, rtol=1e-5)


@pytest.mark.full
@pytest.mark.parametrize("text", [None, ClipText(CLIP_TEXT)])
def test_onnx_at_another_batch_and_length(text):
    import onnxruntime

    net = network(text).eval()
    dim, file = torch.export.Dim, io.BytesIO()
    batch = dim("batch")
    torch.onnx.export(
        net, (random_image(), IDS), file, dynamo=True, external_data=False, verbose=False,
        input_names=["image", "text"], output_names=["pred"],
        dynamic_shapes={"image": {0: batch}, "text": {0: batch, 1: dim("length", max=10)}},
    )  # fmt: skip
    session = onnxruntime.InferenceSession(file.getvalue(), providers=["CPUExecutionProvider"])
    image, ids = random_image(3), torch.tensor([[2, 11, 12, 3, 0], [2, 13, 3, 0, 0], [2, 14, 15, 16, 3]])
    (pred,) = session.run(None, {"image": image.numpy(), "text": ids.numpy()})
    np.testing.assert_allclose(pred, net(image, ids).detach().numpy(), atol=1e-5)


def test_the_second_decoder_is_not_exported():
    net = network().eval()
    kept = {name for name, _ in deployed(net, (random_image(), IDS)).named_parameters()}
    assert not {name for name in kept if "confounding" in name}
    assert {name for name in kept if name.startswith("decoders.causal.")}
    assert {name for name in kept if name.startswith("neck.maskers.")}


def test_the_trained_text_encoder_has_no_dropout():
    """CLIP has none; the sentence has no other way in than this vector."""
    net = network().train()
    assert torch.equal(net.text_encoder(IDS), net.text_encoder(IDS))
