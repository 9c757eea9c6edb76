"""Checkpoints in the real formats, with random weights: CXR-BERT's pickle and ConvNeXt's safetensors."""

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import save_file
from transformers import BertConfig, BertForMaskedLM, ConvNextConfig, ConvNextForImageClassification

from common.errors import UserError
from common.networks import checkpoints
from common.networks.image import ConvNeXt
from common.networks.text import BertText

TINY = {
    "vocab_size": 50,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 16,
}
CONVNEXT = {"widths": (4, 8, 12, 16), "depths": (1, 1, 2, 1)}


def cxr_bert() -> tuple[dict[str, torch.Tensor], BertForMaskedLM]:
    """The keys of microsoft/BiomedVLP-CXR-BERT-specialized: bert.*, cls.*, cls_projection_head.*."""
    model = BertForMaskedLM(BertConfig(**TINY)).eval()
    state = dict(model.state_dict())
    state["bert.embeddings.position_ids"] = torch.arange(16)[None]  # older transformers saved this buffer
    head = {"dense_to_hidden": (8, 16), "LayerNorm": (8,), "dense_to_output": (8, 8)}
    for name, shape in head.items():
        state[f"cls_projection_head.{name}.weight"] = torch.randn(shape)
        state[f"cls_projection_head.{name}.bias"] = torch.randn(8)
    return state, model


@pytest.fixture
def bert_folder(tmp_path):
    state, model = cxr_bert()
    torch.save(state, tmp_path / "pytorch_model.bin")
    return tmp_path, model


def test_cxr_bert_from_a_folder(bert_folder):
    folder, model = bert_folder
    text = BertText(TINY, pretrained=str(folder)).eval()
    ids = torch.tensor([[2, 5, 6, 3]])
    torch.testing.assert_close(text(ids)[:, 0], model.bert(ids).last_hidden_state)


def test_cxr_bert_from_the_hub_cache(bert_folder, tmp_path, monkeypatch):
    """The layout that ``hf download`` leaves, found by name and without a network."""
    name = "microsoft/BiomedVLP-CXR-BERT-specialized"
    repository = tmp_path / "hub" / f"models--{name.replace('/', '--')}"
    snapshot = repository / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc")
    folder, model = bert_folder
    (folder / "pytorch_model.bin").rename(snapshot / "pytorch_model.bin")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    text = BertText(TINY, pretrained=name)
    assert torch.equal(text.bert.embeddings.word_embeddings.weight, model.bert.embeddings.word_embeddings.weight)


def test_convnext_from_a_folder_of_safetensors(tmp_path):
    config = ConvNextConfig(hidden_sizes=list(CONVNEXT["widths"]), depths=list(CONVNEXT["depths"]))
    model = ConvNextForImageClassification(config).eval()
    assert any(key.startswith("classifier.") for key in model.state_dict())
    model.save_pretrained(tmp_path)
    assert (tmp_path / "model.safetensors").is_file()
    encoder = ConvNeXt(pretrained=str(tmp_path), **CONVNEXT).eval()
    image = torch.rand(2, 3, 64, 64)
    out = model.convnext(image, output_hidden_states=True)
    torch.testing.assert_close(encoder(image)[-1], out.last_hidden_state)
    torch.testing.assert_close(encoder.pool(encoder(image)[-1]), out.pooler_output)


def test_weights_in_half_precision_are_widened(tmp_path):
    text = BertText(TINY)
    save_file({k: v.half() for k, v in text.bert.state_dict().items()}, tmp_path / "model.safetensors")
    loaded = BertText(TINY, pretrained=str(tmp_path))
    assert {p.dtype for p in loaded.parameters()} == {torch.float32}
    weight = text.bert.embeddings.word_embeddings.weight
    assert torch.equal(loaded.bert.embeddings.word_embeddings.weight, weight.half().float())


def test_a_missing_hub_checkpoint_names_the_files_the_cache_and_the_command(tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(UserError) as fault:
        ConvNeXt(pretrained="facebook/convnext-tiny-224", **CONVNEXT)
    words = str(fault.value)
    assert "\n" not in words
    for part in ("'facebook/convnext-tiny-224'", "no model.safetensors or pytorch_model.bin", str(tmp_path),
                 "hf download facebook/convnext-tiny-224"):  # fmt: skip
        assert part in words


def test_an_empty_folder_names_the_folder_and_the_command(tmp_path):
    with pytest.raises(
        UserError, match=r"no model.safetensors or pytorch_model.bin in the folder .*--local-dir"
    ) as fault:
        BertText(TINY, pretrained=str(tmp_path))
    assert str(tmp_path) in str(fault.value)


def test_shipped_weights_that_are_absent_name_their_command(tmp_path, monkeypatch):
    monkeypatch.setitem(checkpoints.SHIPPED, "compact", tmp_path / "compact")
    with pytest.raises(UserError, match=r"'compact': no .*python -m tools train-text-encoder"):
        BertText(TINY, pretrained="compact")


def test_nothing_is_downloaded(tmp_path, monkeypatch):
    import socket

    def refuse(*args, **kwargs):
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(UserError):
        ConvNeXt(pretrained="facebook/convnext-tiny-224")


@pytest.mark.parametrize(("change", "words"), [({"hidden_size": 8}, r"has shape \(50, 16\), expected \(50, 8\)"),
                                               ({"num_hidden_layers": 3}, r"it has no 'encoder.layer.2.")])  # fmt: skip
def test_weights_of_another_architecture_are_one_line(bert_folder, change, words):
    with pytest.raises(UserError, match=words) as fault:
        BertText({**TINY, **change}, pretrained=str(bert_folder[0]))
    assert "pytorch_model.bin: these weights do not fit BertModel" in str(fault.value)


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_a_broken_file_is_one_line(tmp_path, name):
    (tmp_path / name).write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n")
    with pytest.raises(UserError, match=f"{name}: not a readable file of weights; fetch it again"):
        BertText(TINY, pretrained=str(tmp_path))


def test_a_pickle_with_code_is_refused(tmp_path):
    class Evil:
        def __reduce__(self):
            return (print, ("run",))

    torch.save({"bert.x": Evil()}, tmp_path / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"holds more than tensors \(print\), which could run code"):
        BertText(TINY, pretrained=str(tmp_path))
