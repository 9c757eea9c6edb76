import copy
import io
import pickle

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser

from common.errors import UserError
from common.networks.image import ConvNeXt
from common.networks.mmi_unet import Bridger, MMIUNet
from common.networks.text import BertText
from common.transforms.tokenize import default_text
from tests.common.networks import loops

TEXT = {
    "vocab_size": 50,
    "hidden_size": 12,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 12,
    "max_position_embeddings": 16,
}
IDS = torch.tensor([[2, 7, 8, 9, 3, 0, 0], [2, 9, 3, 0, 0, 0, 0]])


def network(**kwargs) -> MMIUNet:
    """Stride 16: 48 x 80 has grids 24 x 40, 12 x 20, 6 x 10 and 3 x 5, odd at the deepest."""
    torch.manual_seed(0)
    image = ConvNeXt(widths=(8, 12, 16, 20), depths=(1, 1, 1, 1), patch_size=2, layer_scale=1.0)
    return MMIUNet(image, BertText(TEXT), default_text=[2, 5, 6, 3, 0, 0], heads=2, feedforward=6, **kwargs)


def random_image(batch=2, height=48, width=80) -> torch.Tensor:
    return torch.rand(batch, 1, height, width, generator=torch.Generator().manual_seed(1))


def test_parameters_at_the_papers_sizes():
    with torch.device("meta"):
        net = MMIUNet(ConvNeXt(), BertText("bert-base"), default_text=[2, 3])

    def count(module):
        return sum(p.numel() for p in module.parameters() if p.requires_grad)

    assert count(net.bridgers) == 21_804_256
    assert count(net.up_path) == 5_034_624
    assert count(net.head) == 332_185
    assert count(net.image_encoder) == 27_820_128
    assert count(net.text_encoder) == 0
    assert count(net) == 54_991_193
    assert net.divisible_by == 32


def test_instantiates_from_a_config():
    parser = ConfigParser(
        {
            "network_def": {
                "_target_": "common.networks.mmi_unet.MMIUNet",
                "image_encoder": {
                    "_target_": "common.networks.image.ConvNeXt",
                    "widths": [8, 12, 16, 20],
                    "depths": [1, 1, 1, 1],
                    "pretrained": None,
                },
                "text_encoder": {"_target_": "common.networks.text.BertText", "architecture": TEXT, "pretrained": None},
                "default_text": "$[2, 5, 3]",
                "in_channels": 3,
                "heads": 2,
                "dropout": 0.0,
            }
        }
    )
    net = parser.get_parsed_content("network_def").eval()
    assert net(torch.rand(1, 3, 64, 64)).shape == (1, 1, 64, 64)


@pytest.mark.parametrize("grid", [(4, 4), (5, 3)])
def test_bridger_equals_loops(grid):
    torch.manual_seed(0)
    bridger = Bridger(width=4, text_width=3, heads=2, feedforward=5, dropout=0.3).double().eval()
    for parameter in bridger.parameters():
        torch.nn.init.normal_(parameter)
    x, words = torch.randn(2, 4, *grid).double(), torch.randn(2, 4, 3).double()
    mask = torch.tensor([[True, True, True, False], [True, True, False, False]])
    out_v, out_t, looks = bridger(x, words, mask, return_looks=True)
    plain_v, plain_t, none = bridger(x, words, mask)
    assert none is None
    torch.testing.assert_close((plain_v, plain_t), (out_v, out_t))
    p = {key: value.numpy() for key, value in bridger.state_dict().items()}
    for b in range(2):
        expected = loops.bridger(x[b].numpy(), words[b].numpy(), mask[b].numpy(), p, heads=2)
        for ours, reference in zip((out_v, out_t, *looks), expected, strict=True):
            np.testing.assert_allclose(ours[b].detach(), reference, atol=1e-10)


def test_wiring_of_the_stages():
    """Stage ℓ+1 gets out_v + x_ℓ, Bridger ℓ+1 the words T + out_t, the decoder the four out_v."""
    net, image = network().eval(), random_image()
    seen: dict[str, list[tuple]] = {"stage": [], "bridger": [], "up": [], "head": []}
    for kind, modules in (
        ("stage", net.image_encoder.stages),
        ("bridger", net.bridgers),
        ("up", net.up_path),
        ("head", [net.head]),
    ):
        for module in modules:
            module.register_forward_hook(lambda m, args, out, kind=kind: seen[kind].append((args, out)))
    with torch.no_grad():
        logits = net(image, IDS)
        states = net.text_encoder(IDS)[:, -1]
        stem = net.image_encoder.stem(image)
    given, words = stem, states
    for (stage_in, x), (bridger_in, (out_v, out_t, _)) in zip(seen["stage"], seen["bridger"], strict=True):
        assert torch.equal(stage_in[0], given)
        assert torch.equal(bridger_in[0], x)
        assert torch.equal(bridger_in[1], words)
        assert torch.equal(bridger_in[2], IDS != 0)
        given, words = out_v + x, states + out_t
    out_v = [out[0] for _, out in seen["bridger"]]
    coarse = out_v[3]
    for (up_in, up_out), skip in zip(seen["up"], (out_v[2], out_v[1], out_v[0]), strict=True):
        assert torch.equal(up_in[0], coarse)
        assert torch.equal(up_in[1], skip)
        coarse = up_out
    assert torch.equal(seen["head"][0][0][0], coarse)
    assert torch.equal(seen["head"][0][1], logits)


def test_train_mode_gives_a_dict_and_eval_mode_logits():
    net, image = network(), random_image()
    assert net.train()(image, IDS)["pred"].shape == (2, 1, 48, 80)
    assert net.eval()(image, IDS).shape == (2, 1, 48, 80)


def test_the_sentence_matters_and_longer_padding_does_not():
    net, image = network().eval(), random_image()
    logits = net(image, IDS)
    longer = torch.cat((IDS, torch.zeros(2, 5, dtype=torch.int64)), dim=1)
    torch.testing.assert_close(net(image, longer), logits, atol=1e-5, rtol=1e-5)
    assert (net(image, IDS.flip(0)) - logits).abs().max() > 1e-4


def test_samples_of_a_batch_do_not_mix():
    net, image = network().eval(), random_image()
    both = net(image, IDS)
    for i in range(2):
        torch.testing.assert_close(net(image[i : i + 1], IDS[i : i + 1]), both[i : i + 1], atol=1e-5, rtol=1e-5)


def test_no_text_means_the_default_sentence():
    net, image = network().eval(), random_image()
    default = torch.tensor([[2, 5, 6, 3]])
    torch.testing.assert_close(net(image), net(image, default.expand(2, -1)))
    assert net.default_text.dtype == torch.int64
    assert torch.equal(net.state_dict()["default_text"], default), "without padding"


@pytest.mark.parametrize(
    ("ids", "words"),
    [
        (IDS[:1], r"torch.int64 of shape \(1, 7\), expected torch.int64 of shape \(2, length\)"),
        (IDS[0], r"of shape \(7,\)"),
        (IDS.float(), r"token ids are torch.float32"),
        (IDS + 50, r"token ids from 50 to 59, but the text encoder knows 0 to 49; use the tokeniser"),
        (IDS - 1, r"token ids from -1 to"),
        (IDS.repeat(1, 3), r"sentences of 21 tokens, but the text encoder has 16 positions; lower"),
        (IDS * torch.tensor([[1], [0]]), r"a sentence without a token"),
    ],
)
def test_ids_that_do_not_fit_are_one_line(ids, words):
    with pytest.raises(UserError, match=words) as fault:
        network()(random_image(), ids)
    assert "\n" not in str(fault.value)
    assert str(fault.value).startswith("MMIUNet: ")


def test_sizes_must_divide():
    net = network().eval()
    for size in ((16, 16), (16, 48), (48, 16), (32, 32), (48, 32), (112, 96)):
        assert net(random_image(1, *size), IDS[:1]).shape == (1, 1, *size)
        assert net.train()(random_image(2, *size), IDS)["pred"].shape == (2, 1, *size)
        net.eval()
    with pytest.raises(UserError, match=r"60 x 80 pixels.*divisible by 16; resize or pad it"):
        net(random_image(1, 60, 80), IDS[:1])


def test_a_grid_without_a_half_goes_on_as_it_is():
    """32² of ConvNeXt-T; here the stride is 16. The sentence still matters, by the Bridgers above."""
    net, image = network().eval(), random_image(1, 16, 32)
    x, words = torch.rand(1, 20, 1, 2), torch.rand(1, 7, 12)
    assert net.bridgers[3](x, words, IDS[:1] != 0, return_looks=True) == (x, words, None)
    assert (net(image, IDS[:1]) - net(image, IDS[1:])).abs().max() > 1e-4
    with pytest.raises(UserError, match="the image has 16 x 32 pixels, too few for the attention of stage 4"):
        net.word_attention(image, IDS[:1], stage=4)


def test_gradients_reach_every_parameter_but_the_documented():
    net = network(dropout=0.1)
    net.train()(random_image(), IDS)["pred"].square().mean().backward()
    without = {n for n, p in net.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())}
    # A key's bias adds one number to all scores of a query, which softmax does not see.
    without = {name for name in without if not name.endswith("key.bias")}
    documented = ("bridgers.3.text_interactor.", "bridgers.3.text_out.", "image_encoder.model.layernorm.")
    assert without == {n for n, _ in net.named_parameters() if n.startswith(documented)} - {
        "bridgers.3.text_interactor.self_attention.key.bias",
        "bridgers.3.text_interactor.cross_attention.key.bias",
    }
    assert all(p.grad is None for p in net.text_encoder.parameters())


def test_word_attention_is_a_distribution_over_the_picture():
    net, image = network().eval(), random_image()
    attention = net.word_attention(image, IDS)
    assert attention.shape == (2, 7, 6, 10)
    torch.testing.assert_close(attention.sum(dim=(2, 3)), (IDS != 0).float())
    assert net.word_attention(image, stage=1).shape == (2, 4, 12, 20), "of the default sentence's four ids"
    with pytest.raises(UserError, match="stage 5 of the Bridgers, expected 1 to 4"):
        net.word_attention(image, IDS, stage=5)


def test_copies_and_pickles_and_reloads():
    net, image = network().eval(), random_image()
    logits = net(image, IDS)
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert torch.equal(other(image, IDS), logits)
    file = io.BytesIO()
    torch.save(net.state_dict(), file)
    file.seek(0)
    fresh = network().eval()
    for parameter in fresh.parameters():
        torch.nn.init.normal_(parameter)
    fresh(image, IDS)
    fresh.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(fresh(image, IDS), logits), "the sentences of the old weights are forgotten"


def test_word_attention_is_what_the_cells_see():
    """A word's column of the picture's cross-attention, from queries of the cells and keys of the words."""
    net, image = network().eval(), random_image(1)
    seen = {}
    attention = net.bridgers[1].image_interactor.cross_attention
    attention.register_forward_hook(lambda m, args, out: seen.update(target=args[0], source=args[1]))
    maps = net.word_attention(image, IDS[:1])[0]
    q, k = (layer(seen[side]).unflatten(-1, (2, -1)).transpose(1, 2)
            for layer, side in ((attention.query, "target"), (attention.key, "source")))  # fmt: skip
    scores = (q @ k.transpose(2, 3) / q.shape[-1] ** 0.5)[..., :5].softmax(-1).mean(1)[0]  # cells, the five words
    torch.testing.assert_close(maps[:5].flatten(1), (scores / scores.sum(0)).T)


def test_weights_of_another_vocabulary_are_refused(tmp_path):
    """Two pieces in each other's place: the sizes fit, but "left" would mark the right lung."""
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "left", "right", "bilateral", "pulmonary", "infection", "upper",
              "middle", "lower", "lung", "and", ",", "."]  # fmt: skip
    nets = {}
    for name, order in {"mine": pieces, "theirs": [*pieces[:4], "right", "left", *pieces[6:]]}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "vocab.txt").write_text("\n".join(order) + "\n")
        ids = default_text("chest", str(tmp_path / name))
        nets[name] = MMIUNet(
            ConvNeXt(widths=(8, 12, 16, 20), depths=(1, 1, 1, 1), patch_size=2),
            BertText({**TEXT, "vocab_size": len(pieces), "max_position_embeddings": 48}), ids, heads=2, feedforward=6,
        )  # fmt: skip
    nets["mine"].load_state_dict(nets["mine"].state_dict())
    for strict in (True, False):
        with pytest.raises(UserError, match="the weights were trained with another vocabulary: their ids") as fault:
            nets["mine"].load_state_dict(nets["theirs"].state_dict(), strict=strict)
        assert "\n" not in str(fault.value)
    state = {key: value for key, value in nets["mine"].state_dict().items() if key != "default_text"}
    with pytest.raises(UserError, match=r"1 keys missing \(such as 'default_text'\)"):
        nets["mine"].load_state_dict(state)


def test_weights_without_the_text_encoder_are_refused():
    net = network()
    state = {key: value for key, value in net.state_dict().items() if not key.startswith("text_encoder.")}
    with pytest.raises(UserError, match=r"do not fit MMIUNet: \d+ keys missing \(such as 'text_encoder\."):
        net.load_state_dict(state, strict=False)


def test_trace():
    """With the image alone (MONAI's ``ckpt_export --use_trace True``) and with a sentence, at another shape."""
    net = network().eval()
    with torch.no_grad():
        alone = torch.jit.trace(net, (random_image(1),))
        both = torch.jit.trace(net, (random_image(), IDS))
    image = random_image(3, 64, 96)
    torch.testing.assert_close(alone(random_image(1)), net(random_image(1)), atol=1e-5, rtol=1e-5)
    ids = torch.tensor([[2, 11, 12, 3, 0], [2, 13, 3, 0, 0], [2, 14, 15, 16, 3]])
    torch.testing.assert_close(both(image, ids), net(image, ids), atol=1e-5, rtol=1e-5)


@pytest.mark.full
def test_onnx_at_another_batch_size_and_length():
    import onnxruntime

    net = network().eval()
    dim = torch.export.Dim
    batch, file = dim("batch"), io.BytesIO()
    torch.onnx.export(
        net, (random_image(), IDS), file, dynamo=True, external_data=False, verbose=False,
        input_names=["image", "text"], output_names=["pred"],
        dynamic_shapes={"image": {0: batch, 2: dim("height"), 3: dim("width")}, "text": {0: batch, 1: dim("length")}},
    )  # fmt: skip
    session = onnxruntime.InferenceSession(file.getvalue(), providers=["CPUExecutionProvider"])
    image = random_image(3, 64, 96)
    ids = torch.tensor([[2, 11, 12, 3, 0], [2, 13, 3, 0, 0], [2, 14, 15, 16, 3]])
    (pred,) = session.run(None, {"image": image.numpy(), "text": ids.numpy()})
    np.testing.assert_allclose(pred, net(image, ids).detach().numpy(), atol=1e-5)
