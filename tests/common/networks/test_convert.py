"""Published checkpoints, with random weights in their real formats, made ready for offline use."""

import hashlib
import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertForMaskedLM, ConvNextConfig, ConvNextForImageClassification

from common.errors import UserError
from common.networks import convert as module
from common.networks.convert import convert
from common.networks.image import ConvNeXt
from common.networks.text import BertText
from common.prompts.tokenizer import Tokenizer

TINY = {
    "vocab_size": 9, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24,
    "max_position_embeddings": 16,
}  # fmt: skip
WIDTHS, DEPTHS = (4, 8, 12, 16), (1, 2, 3, 1)
VOCABULARY = "\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "lung", "left", "right", "lower", "."]) + "\n"
IDS = torch.tensor([[2, 5, 6, 3, 0]])


def tensors(*shapes):
    return [torch.randn(shape) for shape in shapes]


@pytest.fixture
def bert():
    torch.manual_seed(0)
    return BertForMaskedLM(BertConfig(**TINY)).eval()


@pytest.fixture
def cxr_bert(bert, tmp_path):
    """microsoft/BiomedVLP-CXR-BERT-specialized as downloaded: bert.*, cls.*, cls_projection_head.*, position ids."""
    folder = tmp_path / "cxr-bert"
    folder.mkdir()
    state = dict(bert.state_dict())
    state["bert.embeddings.position_ids"] = torch.arange(16)[None]
    for name, shape in {"dense_to_hidden": (8, 16), "LayerNorm": (8,), "dense_to_output": (8, 8)}.items():
        state[f"cls_projection_head.{name}.weight"], state[f"cls_projection_head.{name}.bias"] = tensors(shape, 8)
    torch.save(state, folder / "pytorch_model.bin")
    (folder / "vocab.txt").write_text(VOCABULARY)
    (folder / "config.json").write_text(json.dumps({"num_attention_heads": 2}))
    return folder


def authors_convnext(widths=WIDTHS, depths=DEPTHS, classes=5):
    """Random weights under the names of ConvNeXt's authors: facebookresearch/ConvNeXt, models/convnext.py."""
    torch.manual_seed(1)
    state = {}

    def put(name, *shape, scale=0.2):
        state[f"{name}.weight"], state[f"{name}.bias"] = scale * torch.randn(shape), 0.1 * torch.randn(shape[0])

    put("downsample_layers.0.0", widths[0], 3, 4, 4)
    put("downsample_layers.0.1", widths[0], scale=1)
    for i in (1, 2, 3):
        put(f"downsample_layers.{i}.0", widths[i - 1], scale=1)
        put(f"downsample_layers.{i}.1", widths[i], widths[i - 1], 2, 2)
    for i, (c, depth) in enumerate(zip(widths, depths, strict=True)):
        for j in range(depth):
            put(f"stages.{i}.{j}.dwconv", c, 1, 7, 7)
            put(f"stages.{i}.{j}.norm", c, scale=1)
            put(f"stages.{i}.{j}.pwconv1", 4 * c, c)
            put(f"stages.{i}.{j}.pwconv2", c, 4 * c)
            state[f"stages.{i}.{j}.gamma"] = torch.rand(c)
    put("norm", widths[-1], scale=1)
    put("head", classes, widths[-1])
    return state


def channels_norm(x, p, name):
    """LayerNorm over the channels of (B, C, H, W), written out, ε 1e-6."""
    mean = x.mean(1, keepdim=True)
    variance = ((x - mean) ** 2).mean(1, keepdim=True)
    y = (x - mean) / torch.sqrt(variance + 1e-6)
    return y * p[f"{name}.weight"][:, None, None] + p[f"{name}.bias"][:, None, None]


def authors_forward(p, x, depths=DEPTHS):
    """ConvNeXt by the equations of arXiv 2201.03545, on the authors' names: the four maps and the pooled one."""
    maps = []
    for i, depth in enumerate(depths):
        convolution, norm = (0, 1) if i == 0 else (1, 0)
        if i:
            x = channels_norm(x, p, f"downsample_layers.{i}.{norm}")
        name = f"downsample_layers.{i}.{convolution}"
        x = F.conv2d(x, p[f"{name}.weight"], p[f"{name}.bias"], stride=2 if i else 4)
        if not i:
            x = channels_norm(x, p, "downsample_layers.0.1")
        for j in range(depth):
            b = f"stages.{i}.{j}"
            y = F.conv2d(x, p[f"{b}.dwconv.weight"], p[f"{b}.dwconv.bias"], padding=3, groups=x.shape[1])
            y = channels_norm(y, p, f"{b}.norm")
            y = torch.einsum("oc,bchw->bohw", p[f"{b}.pwconv1.weight"], y) + p[f"{b}.pwconv1.bias"][:, None, None]
            y = y * 0.5 * (1 + torch.erf(y / 2**0.5))
            y = torch.einsum("oc,bchw->bohw", p[f"{b}.pwconv2.weight"], y) + p[f"{b}.pwconv2.bias"][:, None, None]
            x = x + p[f"{b}.gamma"][:, None, None] * y
        maps.append(x)
    pooled = F.layer_norm(x.mean((-2, -1)), x.shape[1:2], p["norm.weight"], p["norm.bias"], 1e-6)
    return maps, pooled


def test_cxr_bert_as_downloaded(bert, cxr_bert, tmp_path):
    made = convert("text", str(cxr_bert), tmp_path / "out")
    folder = tmp_path / "out"
    assert sorted(p.name for p in folder.iterdir()) == ["model.safetensors", "provenance.json", "vocab.txt"]
    text = BertText(TINY, pretrained=str(folder)).eval()
    expected = bert.bert(IDS, attention_mask=(IDS != 0).long()).last_hidden_state
    torch.testing.assert_close(text(IDS)[:, 0, :4], expected[:, :4])
    assert made.architecture == {**TINY, "type_vocab_size": 2}
    assert made.left_out == {"cls": 7, "cls_projection_head": 6}
    assert made.parameters == sum(p.numel() for p in text.parameters())
    assert json.loads((folder / "provenance.json").read_text())["source_sha256"] == made.source_sha256
    assert made.sha256 == hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    assert (folder / "vocab.txt").read_text() == VOCABULARY
    assert len({p.stat().st_mode for p in folder.iterdir()}) == 1  # all readable by whom the umask lets


def test_cxr_bert_real_sizes_are_bert_base(tmp_path):
    """Keys and shapes of the real one; the numbers are zeros, as they would take half a gigabyte."""
    with torch.device("meta"):
        full = BertForMaskedLM(BertConfig())
    state = {key: torch.zeros(1).expand(value.shape) for key, value in full.state_dict().items()}
    _, encoder, left_out, fields = module._text(tmp_path / "pytorch_model.bin", state)
    whole = BertConfig()
    assert {name: getattr(whole, name) for name in fields} == fields
    assert sum(value.numel() for value in encoder.values()) == 108_891_648  # BERT-base without its pooler
    assert left_out == {"cls": 7}


def test_old_names_of_the_norms(bert, tmp_path):
    state = {
        key.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): value
        for key, value in bert.state_dict().items()
    }
    assert "bert.embeddings.LayerNorm.gamma" in state
    torch.save(state, tmp_path / "pytorch_model.bin", _use_new_zipfile_serialization=False)
    (tmp_path / "vocab.txt").write_text(VOCABULARY)
    made = convert("text", str(tmp_path / "pytorch_model.bin"), tmp_path / "out")
    text = BertText(TINY, pretrained=str(tmp_path / "out")).eval()
    torch.testing.assert_close(text(IDS[:, :4])[:, 0], bert.bert(IDS[:, :4]).last_hidden_state)
    assert made.format == "BERT, old names"


def test_an_encoder_alone_in_safetensors_with_its_vocabulary_elsewhere(bert, tmp_path):
    bert.bert.save_pretrained(tmp_path / "bert")
    (tmp_path / "words.txt").write_text(VOCABULARY)
    with pytest.raises(UserError, match=r"vocab.txt: is not there, and .* --vocabulary FILE"):
        convert("text", str(tmp_path / "bert"), tmp_path / "out")
    assert not (tmp_path / "out").exists()
    convert("text", str(tmp_path / "bert"), tmp_path / "out", vocabulary=tmp_path / "words.txt")
    text = BertText(TINY, pretrained=str(tmp_path / "out")).eval()
    torch.testing.assert_close(text(IDS[:, :4])[:, 0], bert.bert(IDS[:, :4]).last_hidden_state)


def test_convnext_of_its_authors_computes_the_same(tmp_path):
    state = authors_convnext()
    torch.save({"model": state}, tmp_path / "convnext_tiny_1k_224_ema.pth")
    made = convert("image", str(tmp_path / "convnext_tiny_1k_224_ema.pth"), tmp_path / "out")
    assert made.architecture == {"widths": list(WIDTHS), "depths": list(DEPTHS), "patch_size": 4}
    assert made.format == "ConvNeXt of its authors" and made.left_out == {"head": 2}
    encoder = ConvNeXt(str(tmp_path / "out"), WIDTHS, DEPTHS).eval()
    image = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        maps = encoder(image)
        expected, pooled = authors_forward(state, image)
        for found, wanted in zip(maps, expected, strict=True):
            torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(encoder.pool(maps[-1]), pooled, rtol=1e-3, atol=1e-4)


def test_convnext_tiny_covers_every_parameter(tmp_path):
    """The real sizes and names: 27.820 M parameters, each from one tensor of the authors."""
    shapes = {key: torch.zeros(1).expand(value.shape) for key, value in authors_convnext((96, 192, 384, 768),
              (3, 3, 9, 3), 21841).items()}  # fmt: skip
    found, encoder, left_out, fields = module._image(tmp_path / "convnext_tiny_22k_224.pth", shapes)
    with torch.device("meta"):
        own = dict(ConvNeXt().model.named_parameters())
    assert {k: v.shape for k, v in encoder.items()} == {k: v.shape for k, v in own.items()}
    assert sum(v.numel() for v in encoder.values()) == 27_820_128
    assert fields == {"widths": [96, 192, 384, 768], "depths": [3, 3, 9, 3], "patch_size": 4}
    assert left_out == {"head": 2} and found == "ConvNeXt of its authors"


def test_convnext_of_hugging_face(tmp_path):
    model = ConvNextForImageClassification(ConvNextConfig(hidden_sizes=list(WIDTHS), depths=list(DEPTHS))).eval()
    model.save_pretrained(tmp_path / "hf")
    made = convert("image", str(tmp_path / "hf"), tmp_path / "out")
    image = torch.randn(1, 3, 64, 64)
    encoder = ConvNeXt(str(tmp_path / "out"), WIDTHS, DEPTHS).eval()
    torch.testing.assert_close(encoder(image)[-1], model.convnext(image).last_hidden_state)
    assert made.left_out == {"classifier": 2}


def test_half_precision(cxr_bert, tmp_path):
    whole = convert("text", str(cxr_bert), tmp_path / "whole")
    made = convert("text", str(cxr_bert), tmp_path / "half", half=True)
    state, halved = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "half"))
    assert {v.dtype for v in halved.values()} == {torch.float16} and (whole.precision, made.precision) == (
        "float32",
        "float16",
    )
    text = BertText(TINY, pretrained=str(tmp_path / "half"))
    assert {p.dtype for p in text.parameters()} == {torch.float32}
    for key, value in text.bert.state_dict().items():
        assert torch.equal(value, state[key].half().float())


def test_the_same_file_gives_the_same_bytes(cxr_bert, tmp_path):
    made = [convert("text", str(cxr_bert), tmp_path / name) for name in "ab"]
    assert made[0] == made[1]


# what is checked


def digest_of(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_sha256(cxr_bert, tmp_path):
    path = cxr_bert / "pytorch_model.bin"
    digest = digest_of(path)
    made = convert("text", str(path), tmp_path / "a", sha256=digest.upper())
    assert made.source_sha256 == digest and made.checked == "agrees with the one given"
    begun = convert("text", str(path), tmp_path / "begun", sha256=digest[:63])
    assert begun.checked == "begins like the one given (63 of 64 digits known)"
    wrong = ("0" if digest[0] != "0" else "1") + digest[1:]
    with pytest.raises(UserError, match=rf"its SHA-256 is {digest}, the one given begins with {wrong[:12]}; "):
        convert("text", str(path), tmp_path / "b", sha256=wrong)
    with pytest.raises(UserError, match="--sha256 xyz: is no SHA-256"):
        convert("text", str(path), tmp_path / "b", sha256="xyz")
    assert not (tmp_path / "b").exists()


def test_a_published_name_needs_its_published_bytes(tmp_path, monkeypatch):
    path = tmp_path / "convnext_tiny_22k_224.pth"
    torch.save({"model": authors_convnext()}, path)
    with pytest.raises(
        UserError, match=r"SHA-256 is .*, the published convnext_tiny_22k_224.pth begins with b2b2153ae940; .* bytes"
    ):
        convert("image", str(path), tmp_path / "out")
    monkeypatch.setitem(module.KNOWN, path.name, digest_of(path)[:12])
    made = convert("image", str(path), tmp_path / "out")
    assert made.checked == "begins like the published convnext_tiny_22k_224.pth (12 of 64 digits known)"


def test_a_pickle_with_code_is_refused_and_not_run(tmp_path, capsys):
    class Evil:
        def __reduce__(self):
            return (print, ("run",))

    torch.save({"model": authors_convnext(), "args": Evil()}, tmp_path / "x.pth")
    with pytest.raises(UserError, match=r"x.pth: holds more than tensors \(print\), which could run code") as fault:
        convert("image", str(tmp_path / "x.pth"), tmp_path / "out")
    assert "\n" not in str(fault.value) and capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("kind", "change", "words"),
    [
        ("image", lambda s: s.pop("stages.2.1.gamma"), r"has no 'encoder.stages.2.layers.1.layer_scale_parameter' \(1"),
        ("image", lambda s: s.update({"stages.0.0.grn.beta": torch.zeros(4)}), "grn.beta', which ConvNeXt does not"),
        ("image", lambda s: s.update({"norm.weight": torch.zeros(15)}), r"shape \(15,\), expected \(16,\)"),
        ("image", lambda s: s["norm.bias"].fill_(np.nan), "'layernorm.bias' holds NaN or infinity"),
        ("text", lambda s: s, "so it is no BERT; give the text encoder's checkpoint"),
    ],
)
def test_what_does_not_fit_is_one_line(tmp_path, kind, change, words):
    state = authors_convnext()
    change(state)
    torch.save(state, tmp_path / "x.pth")
    with pytest.raises(UserError, match=words) as fault:
        convert(kind, str(tmp_path / "x.pth"), tmp_path / "out")
    assert "\n" not in str(fault.value) and str(tmp_path / "x.pth") in str(fault.value)
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob(".*"))


def test_a_layer_that_bert_does_not_have(bert, tmp_path):
    state = bert.state_dict() | {"bert.encoder.layer.1.adapter.weight": torch.zeros(2)}
    save_file({k: v.clone() for k, v in state.items()}, tmp_path / "model.safetensors")
    (tmp_path / "vocab.txt").write_text(VOCABULARY)
    with pytest.raises(UserError, match=r"has 'encoder.layer.1.adapter.weight', which BERT does not \(1 such\)"):
        convert("text", str(tmp_path), tmp_path / "out")


def test_numbers_too_large_for_half(cxr_bert, tmp_path):
    state = torch.load(cxr_bert / "pytorch_model.bin", weights_only=True)
    state["bert.embeddings.LayerNorm.bias"][0] = 1e5
    torch.save(state, cxr_bert / "pytorch_model.bin")
    with pytest.raises(UserError, match="holds 100000, too large for half precision; omit --half"):
        convert("text", str(cxr_bert), tmp_path / "out", half=True)


def test_a_vocabulary_of_another_encoder(cxr_bert, tmp_path):
    (cxr_bert / "vocab.txt").write_text(VOCABULARY + "more\n")
    with pytest.raises(UserError, match="10 pieces, but the encoder has 9 embeddings; give its own vocabulary"):
        convert("text", str(cxr_bert), tmp_path / "out")
    (cxr_bert / "vocab.txt").write_text("[UNK]\n" + VOCABULARY.replace("[UNK]\n", ""))
    with pytest.raises(UserError, match=r"no vocabulary of BERT, whose first piece is \[PAD\]"):
        convert("text", str(cxr_bert), tmp_path / "out")


@pytest.mark.parametrize(
    ("old", "new"),
    [("right", "left"), ("lung", "[PAD]"), ("[SEP]", "sep"), ("[PAD]", "pad"), ("left", "[CLS]"), (".", "")],
)
def test_vocabularies_are_those_that_the_tokeniser_takes(cxr_bert, tmp_path, old, new):
    (cxr_bert / "vocab.txt").write_text(VOCABULARY.replace(f"{old}\n", f"{new}\n", 1))
    refused = []
    for attempt in (lambda: Tokenizer.of(str(cxr_bert)), lambda: convert("text", str(cxr_bert), tmp_path / "out")):
        try:
            attempt()
        except UserError as fault:
            assert "vocab.txt: " in str(fault) and "\n" not in str(fault)
            refused.append(str(fault))
    assert len(refused) == (0 if new == "" else 2)


def test_what_is_there_is_not_overwritten(cxr_bert, tmp_path):
    (tmp_path / "out").mkdir()
    convert("text", str(cxr_bert), tmp_path / "out")
    before = digest_of(tmp_path / "out" / "model.safetensors")
    with pytest.raises(UserError, match="out: is there already; give another --output"):
        convert("text", str(cxr_bert), tmp_path / "out")
    assert digest_of(tmp_path / "out" / "model.safetensors") == before


def test_a_source_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match=r"no model.safetensors or pytorch_model.bin in the folder"):
        convert("image", str(tmp_path), tmp_path / "out")
    with pytest.raises(UserError, match="hf download facebook/convnext-none-1"):
        convert("image", "facebook/convnext-none-1", tmp_path / "out")
