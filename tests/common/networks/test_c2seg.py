"""C2Seg: each equation against loops over single indices, parameters against the paper's, wiring by hooks."""

import copy
import inspect
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from monai.bundle import ConfigParser

from common.errors import UserError
from common.networks.c2seg import BCAM, C2Seg, DualA, Fusion, Gate, Pretraining, parameter_groups
from common.networks.image.ukan import UKAN
from common.networks.text import BertText, ClipText
from common.runtime.export.network import deployed, tensors
from tests.common.networks.kan_reference import kan
from tests.common.networks.loops import below, layer_norm, linear
from tests.common.networks.test_mmi_unet import IDS, TEXT

WIDTHS = (4, 6, 8)
MASK = torch.tensor([[True, True, True, False], [True, True, False, False]])


def network(kind=C2Seg, **kwargs):
    """Stride 8: 24 x 40 has grids 12 x 20, 6 x 10 and 3 x 5."""
    torch.manual_seed(0)
    kan_from = kwargs.pop("kan_from", 2)
    return kind(UKAN(WIDTHS, kan_from), BertText(TEXT), default_text=[2, 5, 6, 3, 0, 0], **kwargs)


def random_image(batch=2, height=24, width=40, channels=1) -> torch.Tensor:
    return torch.rand(batch, channels, height, width, generator=torch.Generator().manual_seed(1))


def filled(module: torch.nn.Module) -> torch.nn.Module:
    """In double precision, with weights as large as trained ones, and batch norms that have seen something."""
    torch.manual_seed(0)
    for name, value in module.double().eval().state_dict().items():
        if value.is_floating_point():
            torch.nn.init.normal_(value, std=0.7) if "var" not in name else torch.nn.init.uniform_(value, 0.5, 2)
    return module


def arrays(module: torch.nn.Module, prefix: str = "") -> dict[str, np.ndarray]:
    """Parameters by their names below ``prefix``."""
    return {k.removeprefix(prefix): v.numpy() for k, v in module.state_dict().items() if k.startswith(prefix)}


def project(x, p):
    """Keys and values of one side: a KAN layer or a linear one, of 2C channels."""
    y = kan(x, p) if "base" in p else linear(x, p["weight"], p["bias"])
    return y[:, : y.shape[1] // 2], y[:, y.shape[1] // 2 :]


def attend(image, text, mask, p):
    """Of one sample V (P, C), L (N, C): A, softmax_N(A), softmax_P(Aᵀ) as (P, N), V_value, L_value."""
    (v_key, v_value), (l_key, l_value) = project(image, below(p, "image")), project(text, below(p, "text"))
    n_cells, n_words, c = len(image), len(text), image.shape[1]
    a = np.zeros((n_cells, n_words))
    over_words, over_cells = np.zeros_like(a), np.zeros_like(a)
    for q in range(n_cells):
        for n in range(n_words):
            a[q, n] = sum(v_key[q, k] * l_key[n, k] for k in range(c)) / math.sqrt(c)
    for q in range(n_cells):
        for n in range(n_words):
            if mask[n]:
                over_words[q, n] = math.exp(a[q, n]) / sum(math.exp(a[q, m]) for m in range(n_words) if mask[m])
                over_cells[q, n] = math.exp(a[q, n]) / sum(math.exp(a[r, n]) for r in range(n_cells))
    return over_words, over_cells, v_value, l_value


def bcam(image, text, mask, p, literal):
    over_words, over_cells, v_value, l_value = attend(image, text, mask, p)
    n_cells, n_words, c = len(image), len(text), image.shape[1]
    f_v, f_l = np.zeros((n_cells, c)), np.zeros((n_cells, c))
    for q in range(n_cells):
        for k in range(c):
            f_v[q, k] = sum(over_words[q, n] * l_value[n, k] for n in range(n_words))
            f_l[q, k] = sum(over_cells[q, n] for n in range(n_words)) / sum(mask) * v_value[q, k]
            if not literal:
                f_l[q, k] *= n_cells
    return f_v, f_l


def dual(image, text, mask, p):
    over_words, over_cells, v_value, l_value = attend(image, text, mask, p)
    updated = np.zeros_like(l_value)
    for n in range(len(text)):
        for k in range(image.shape[1]):
            updated[n, k] = l_value[n, k] + sum(over_cells[q, n] * v_value[q, k] for q in range(len(image)))
    f_v = np.zeros_like(v_value)
    for q in range(len(image)):
        for k in range(image.shape[1]):
            f_v[q, k] = sum(over_words[q, n] * updated[n, k] for n in range(len(text)))
    return (f_v,)


def gate(x, p):
    layer = kan if "first.base" in p else lambda x, p: linear(x, p["weight"], p["bias"])
    hidden = np.maximum(layer(layer_norm(x, p["norms.0.weight"], p["norms.0.bias"]), below(p, "first")), 0)
    g = layer(layer_norm(hidden, p["norms.1.weight"], p["norms.1.bias"]), below(p, "second"))
    return np.array([[x[q, k] * math.tanh(g[q, k]) for k in range(x.shape[1])] for q in range(len(x))])


def test_parameters_at_the_papers_sizes():
    with torch.device("meta"):
        text = ClipText("vit-b-32")
        net, first = C2Seg(UKAN(), text, [49_406, 49_407]), Pretraining(UKAN(), text, [49_406, 49_407])

    def count(module):
        return sum(p.numel() for p in module.parameters() if p.requires_grad)

    norms = sum(p.numel() for n, p in net.fusions.named_parameters() if "norm" in n)
    assert count(net.image_encoder) == 3_506_864
    assert norms == 9_472
    assert count(net.fusions) - norms == 13_577_888
    assert count(net.decoder) + count(net.head) == 1_578_785
    assert count(net.text_encoder) == 0
    assert count(first.project) == 256 * 512
    assert count(net) + count(first.project) - norms == 18_794_609
    assert count(net) + count(first.project) == 18_804_081
    assert net.divisible_by == 32


@pytest.mark.parametrize("literal", [False, True])
@pytest.mark.parametrize("projection", ["kan", "linear"])
def test_bcam_equals_loops(projection, literal):
    module = filled(BCAM(3, projection, literal))
    v, l = torch.randn(2, 5, 3).double(), torch.randn(2, 4, 3).double()  # noqa: E741
    streams = module(v, l, MASK)
    for b in range(2):
        expected = bcam(v[b].numpy(), l[b].numpy(), MASK[b].numpy(), arrays(module), literal)
        for ours, reference in zip(streams, expected, strict=True):
            np.testing.assert_allclose(ours[b].detach(), reference, atol=1e-10)


def test_weights_of_eq_6_have_mean_one():
    """As printed they sum to 1 over the picture: 8e-5 at 112²."""
    module = filled(BCAM(3))
    v, l = torch.randn(1, 50, 3).double(), torch.randn(1, 4, 3).double()  # noqa: E741
    value = module.scores(v, l)[1]
    weight = module(v, l, MASK[:1])[1] / value
    assert weight.mean().item() == pytest.approx(1)
    torch.testing.assert_close(weight, weight[..., :1].expand_as(weight))


def test_dual_attention_equals_loops():
    module = filled(DualA(3))
    v, l = torch.randn(2, 5, 3).double(), torch.randn(2, 4, 3).double()  # noqa: E741
    (f_v,) = module(v, l, MASK)
    for b in range(2):
        (expected,) = dual(v[b].numpy(), l[b].numpy(), MASK[b].numpy(), arrays(module))
        np.testing.assert_allclose(f_v[b].detach(), expected, atol=1e-10)


@pytest.mark.parametrize("kind", ["kan", "mlp"])
def test_gate_equals_loops(kind):
    module = filled(Gate(3, kind))
    x = torch.randn(1, 5, 3).double()
    np.testing.assert_allclose(module(x)[0].detach(), gate(x[0].numpy(), arrays(module)), atol=1e-10)


def test_fusion_equals_loops():
    """Words to C channels, norms of both sides, attention, gates, [F_v || F_l] through a 1 × 1 convolution."""
    module = filled(Fusion(3, 2, BCAM(3), "kan", dropout=0.5))
    grid, states = torch.randn(2, 3, 2, 3).double(), torch.randn(2, 4, 2).double()
    out = module(grid, states, MASK)
    p = arrays(module)
    for b in range(2):
        v = np.array([[grid[b, k, r, c].item() for k in range(3)] for r in range(2) for c in range(3)])
        words = linear(states[b].numpy(), p["words.weight"], p["words.bias"])
        v = layer_norm(v, p["image_norm.weight"], p["image_norm.bias"])
        words = layer_norm(words, p["text_norm.weight"], p["text_norm.bias"])
        streams = bcam(v, words, MASK[b].numpy(), below(p, "attention"), literal=False)
        gated = [gate(stream, below(p, f"gates.{number}")) for number, stream in enumerate(streams)]
        for o in range(3):
            for r in range(2):
                for c in range(3):
                    joined = [*gated[0][3 * r + c], *gated[1][3 * r + c]]
                    expected = p["out.bias"][o] + sum(p["out.weight"][o, k, 0, 0] * joined[k] for k in range(6))
                    assert out[b, o, r, c].item() == pytest.approx(expected, abs=1e-10)


def test_wiring_of_encoder_fusion_and_decoder():
    """A stage gets V of the stage before, not F_out; the decoder F_out alone, the deepest as its input."""
    net, image = network().eval(), random_image()
    seen: dict[str, list[tuple]] = {"stage": [], "fusion": [], "mix": [], "head": []}
    for kind, modules in (("stage", net.image_encoder.stages), ("fusion", net.fusions), ("mix", net.decoder),
                          ("head", [net.head])):  # fmt: skip
        for module in modules:
            module.register_forward_hook(lambda m, args, out, kind=kind: seen[kind].append((args, out)))
    with torch.no_grad():
        logits = net(image, IDS)
        states = net.text_encoder(IDS)[:, -1]
    given = image.expand(-1, 3, -1, -1)
    for (stage_in, v), (fusion_in, _) in zip(seen["stage"], seen["fusion"], strict=True):
        assert torch.equal(stage_in[0], given)
        assert torch.equal(fusion_in[0], v)
        assert torch.equal(fusion_in[1], states)
        assert torch.equal(fusion_in[2], IDS != 0)
        given = v
    f_out = [out for _, out in seen["fusion"]]
    x = f_out[2]
    for (mix_in, mixed), skip in zip(seen["mix"], (f_out[1], f_out[0], 0), strict=True):
        assert torch.equal(mix_in[0], x)
        x = F.interpolate(mixed, scale_factor=2, mode="bilinear") + skip
    assert torch.equal(seen["head"][0][0][0], x)
    assert torch.equal(seen["head"][0][1], logits)


def test_train_mode_gives_a_dict_and_eval_mode_logits():
    net, image = network(), random_image()
    assert net.train()(image, IDS)["pred"].shape == (2, 1, 24, 40)
    assert net.eval()(image, IDS).shape == (2, 1, 24, 40)
    with pytest.raises(UserError, match=r"28 x 40 pixels.*divisible by 8; resize or pad it"):
        net(random_image(2, 28, 40), IDS)


@pytest.mark.parametrize("fusion", ["bcam", "dual"])
def test_the_sentence_matters_and_longer_padding_does_not(fusion):
    net, image = filled(network(fusion=fusion)).float(), random_image()
    logits = net(image, IDS)
    longer = torch.cat((IDS, torch.zeros(2, 5, dtype=torch.int64)), dim=1)
    torch.testing.assert_close(net(image, longer), logits, atol=1e-4, rtol=1e-4)
    assert (net(image, IDS.flip(0)) - logits).abs().max() > 1
    for i in range(2):
        torch.testing.assert_close(net(image[i : i + 1], IDS[i : i + 1]), logits[i : i + 1], atol=1e-4, rtol=1e-4)


def test_no_text_means_the_default_sentence():
    net, image = network().eval(), random_image()
    torch.testing.assert_close(net(image), net(image, torch.tensor([[2, 5, 6, 3]]).expand(2, -1)))


@pytest.mark.parametrize(
    "options",
    [
        {"fusion": "none"},
        {"fusion": "dual", "gate": "none"},
        {"gate": "none"},
        {},
        {"gate": "mlp"},
        {"projection": "linear"},
        {"eq6_literal": True},
        {"kan_from": 3},
        {"kan_from": 0},
        {"fusion_from": 1},
        {"dropout": 0.2},
    ],
    ids=str,
)
def test_every_ablation_learns_in_all_its_parameters(options):
    """Tables 3 and 4(a)."""
    net = network(**options).train()
    net(random_image(), IDS)["pred"].square().mean().backward()
    without = {n for n, p in net.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())}
    # the mean that a batch norm takes away takes the bias before it along
    assert {name for name in without if not name.endswith(".bias")} == set()
    assert all(p.grad is None for p in net.text_encoder.parameters())


def test_scales_above_the_first_fusion_hand_on_the_encoders_map():
    net, image = network(fusion_from=1).eval(), random_image()
    given = []
    net.decode = lambda maps: given.extend(maps) or maps[0]
    net(image, IDS)
    maps = net.image_encoder(image)
    assert len(net.fusions) == 2
    assert torch.equal(given[0], maps[0])
    for number in (1, 2):
        assert torch.equal(given[number], net.fusions[number - 1](maps[number], net.text_encoder(IDS)[:, -1], IDS != 0))
    assert net.word_attention(image, IDS, scale=1).shape == (2, 7, 6, 10)
    with pytest.raises(UserError, match="scale 0, expected 1 to 2"):
        net.word_attention(image, IDS, scale=0)


def test_image_only_ignores_the_sentence():
    net, image = network(fusion="none").eval(), random_image()
    assert torch.equal(net(image, IDS), net(image, IDS.flip(0)))
    with pytest.raises(UserError, match="word_attention: scale 2, the network has no fusion"):
        net.word_attention(image, IDS)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"fusion": "duala"}, "network_def fusion: 'duala', expected one of bcam, dual, none"),
        ({"gate": "linear"}, "network_def gate: 'linear', expected one of kan, mlp, none"),
        ({"projection": "mlp"}, "network_def projection: 'mlp', expected one of kan, linear"),
    ],
)
def test_an_unknown_option_is_one_line(options, words):
    with pytest.raises(UserError, match=words):
        network(**options)


def test_word_attention_is_what_the_cells_see():
    net, image = network().eval(), random_image()
    found = net.word_attention(image, IDS, scale=1)
    assert found.shape == (2, 7, 6, 10)
    torch.testing.assert_close(found.sum(dim=(2, 3)), (IDS != 0).float())
    scores = {}
    net.fusions[1].attention.image.register_forward_hook(lambda m, args, out: scores.update(image=out))
    net.fusions[1].attention.text.register_forward_hook(lambda m, args, out: scores.update(text=out))
    net(image, IDS)
    a = torch.einsum("bpc,bnc->bpn", scores["image"][..., :6], scores["text"][..., :6]) / 6**0.5
    seen = a[0, :, :5].softmax(dim=1)  # cells, the first sentence's five words
    torch.testing.assert_close(found[0, 3].flatten(), seen[:, 3] / seen[:, 3].sum())
    assert net.word_attention(image, scale=0).shape == (2, 4, 12, 20), "of the default sentence's four ids"
    with pytest.raises(UserError, match="scale 3, expected 0 to 2"):
        net.word_attention(image, IDS, scale=3)


def test_stage_one_gives_the_pooled_picture_and_the_sentence():
    net, image = network(Pretraining, fusion="bcam").eval(), random_image()
    found = net(image, IDS)
    assert found.shape == (2, 2, 12)
    deepest = net.image_encoder(image)[-1]
    for b in range(2):
        pooled = [deepest[b, k].mean().item() for k in range(8)]
        for o in range(12):
            v = sum(net.project.weight[o, k].item() * pooled[k] for k in range(8))
            assert found[b, 0, o].item() == pytest.approx(v, abs=1e-6)
    torch.testing.assert_close(found[:, 1], BertText.sentence(net.text_encoder.encoder.encoder, IDS))
    net.train()(image, IDS)["pred"].square().mean().backward()
    trained = {name.split(".")[0] for name, p in net.named_parameters() if p.requires_grad}
    assert trained == {"image_encoder", "project"}
    assert net.project.bias is None


def test_stage_two_begins_with_the_encoder_of_stage_one(tmp_path):
    first = network(Pretraining)
    first.train()(random_image(), IDS)  # batch norms have seen something
    torch.save(first.state_dict(), tmp_path / "model.pt")
    encoder = UKAN(WIDTHS, 2, str(tmp_path / "model.pt"))
    for key, value in encoder.state_dict().items():
        assert torch.equal(value, first.image_encoder.state_dict()[key]), key


def test_weights_of_stage_one_that_do_not_fit_are_one_line(tmp_path):
    path = tmp_path / "model.pt"
    words = r"model\.pt: there are no weights of stage I; make them .*pretrain\.json, or train without them: leave"
    with pytest.raises(UserError, match=words):
        UKAN(WIDTHS, 2, str(path))
    torch.save(network(Pretraining).state_dict(), path)
    for widths, kan_from in (((4, 6, 12), 2), (WIDTHS, 3), ((4, 6), 2)):
        with pytest.raises(UserError, match=r"model\.pt: these weights of stage I are of another encoder \('image_en"):
            UKAN(widths, kan_from, str(path))


def test_other_weights_do_not_pass_as_those_of_stage_one(tmp_path):
    """Stage II's have seen masks: what came of them would pass for the gain of stage I."""
    path = tmp_path / "weights.pt"
    state = network(Pretraining).state_dict()
    second = "these are weights of stage II, which have seen masks; give the"
    none = r"these are no weights of stage I; give the model\.pt that the bundle's configs/pretrain\.json made"
    for content, words in (
        (network().state_dict(), second),
        (network(fusion="none").state_dict(), second),
        ({"a": torch.zeros(1)}, none),
        ({"image_encoder.model.norm.weight": torch.zeros(1)}, none),
        (torch.zeros(1), none),
        ({"project.weight": torch.zeros(1)}, r"of another encoder \('image_encoder\..*' has shape None, expected \("),
        ({"network": state, "_run": {"epoch": 1}}, r"this is last\.pt of a run; give its model\.pt$"),
    ):
        torch.save(content, path)
        with pytest.raises(UserError, match=rf"weights\.pt: .*{words}"):
            UKAN(WIDTHS, 2, str(path))


def test_weights_of_the_other_eq_6_are_one_line():
    """Its option changes neither names nor shapes; weights from before it was kept are those of the default."""
    states = {literal: network(eq6_literal=literal).state_dict() for literal in (False, True)}
    assert states[False].keys() == states[True].keys()
    for own, theirs in ((False, True), (True, False)):
        net = network(eq6_literal=own)
        words = (
            f"^these weights do not fit C2Seg: they were trained with network_def::eq6_literal {theirs}, "
            f"here it is {own}; use the weights that"
        )
        for strict in (True, False):
            with pytest.raises(UserError, match=words):
                net.load_state_dict(states[theirs], strict=strict)
        net.load_state_dict(states[own])
        with pytest.raises(UserError, match="2 keys missing"):
            net.load_state_dict({k: v for k, v in states[theirs].items() if not k.startswith("head.")})
    old = {key: value for key, value in states[False].items() if key != "eq6_literal"}
    network().load_state_dict(old)
    torch.nn.ModuleDict({"module": network()}).load_state_dict({f"module.{key}": value for key, value in old.items()})
    assert "eq6_literal" not in old
    with pytest.raises(UserError, match="trained with network_def::eq6_literal False, here it is True"):
        network(eq6_literal=True).load_state_dict(old)
    for fusion in ("dual", "none"):  # without eq. 6 it makes no difference
        network(fusion=fusion, eq6_literal=True).load_state_dict(network(fusion=fusion).state_dict())


def test_eq_6_is_no_part_of_what_is_deployed():
    image = random_image()
    plain = deployed(network(eq6_literal=True), (image, IDS))
    assert "eq6_literal" not in dict(tensors(plain))
    assert torch.equal(plain(image, IDS), network(eq6_literal=True).eval()(image, IDS))


def test_stage_one_takes_what_stage_two_takes_and_nothing_else():
    names = set(inspect.signature(C2Seg).parameters) - set(inspect.signature(Pretraining).parameters)
    network(Pretraining, **dict.fromkeys(names))
    with pytest.raises(UserError, match="network_def: neither stage takes 'eq6_litteral', expected one of image_enc"):
        network(Pretraining, gate="kan", eq6_litteral=True)


@pytest.mark.parametrize("given", [None, "stage1.pt"])
def test_the_encoder_has_its_own_rate_and_is_said_to_come_from_stage_one(given, caplog):
    caplog.set_level("INFO")
    net = network()
    rest, encoder = parameter_groups(torch.nn.ModuleDict({"module": net}), 0.01, 0.002, given)
    assert (rest["lr"], encoder["lr"]) == (0.01, 0.002)
    assert {id(p) for p in encoder["params"]} == {id(p) for p in net.image_encoder.parameters()}
    both = {id(p) for group in (rest, encoder) for p in group["params"]}
    assert both == {id(p) for p in net.parameters() if p.requires_grad}
    line = "the encoder is that of stage1.pt, learning rate 0.002" if given else "none, the encoder starts at random"
    assert line in caplog.text


def test_instantiates_from_a_config():
    parser = ConfigParser(
        {
            "network_def": {
                "_target_": "common.networks.c2seg.C2Seg",
                "image_encoder": {
                    "_target_": "common.networks.image.ukan.UKAN",
                    "widths": [4, 6, 8],
                    "kan_from": 2,
                    "stage_one": None,
                },
                "text_encoder": {"_target_": "common.networks.text.BertText", "architecture": TEXT, "pretrained": None},
                "default_text": "$[2, 5, 3]",
                "in_channels": 3,
                "fusion": "dual",
                "gate": "none",
            }
        }
    )
    net = parser.get_parsed_content("network_def").eval()
    assert net(torch.rand(1, 3, 24, 24)).shape == (1, 1, 24, 24)


def test_copies_and_trace():
    net, image = network().eval(), random_image()
    assert torch.equal(copy.deepcopy(net)(image, IDS), net(image, IDS))
    with torch.no_grad():
        both = torch.jit.trace(net, (image, IDS))
    other = random_image(3, 32, 48)
    ids = torch.tensor([[2, 11, 12, 3, 0], [2, 13, 3, 0, 0], [2, 14, 15, 16, 3]])
    torch.testing.assert_close(both(other, ids), net(other, ids), atol=1e-5, rtol=1e-5)
