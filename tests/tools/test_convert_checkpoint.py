"""``python -m tools convert-checkpoint``: what it says, and that what it makes is used."""

import json

import pytest
import torch
from transformers import BertConfig, BertForMaskedLM, ConvNextConfig, ConvNextForImageClassification

from common.networks.image import ConvNeXt
from common.networks.text import BertText
from common.prompts.tokenizer import Tokenizer
from tools.__main__ import main

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "lung", "left", "right", "lower", "upper", "middle", "."]
FIELDS = {"vocab_size": len(WORDS), "hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 1,
          "intermediate_size": 24, "max_position_embeddings": 48}  # fmt: skip


@pytest.fixture
def bert(tmp_path):
    folder = tmp_path / "bert"
    folder.mkdir()
    torch.save(BertForMaskedLM(BertConfig(**FIELDS)).state_dict(), folder / "pytorch_model.bin")
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    return folder


def test_text(bert, tmp_path, capsys):
    out = tmp_path / "ready"
    assert main(["convert-checkpoint", "text", str(bert), "--output", str(out), "--half"]) == 0
    said = capsys.readouterr().out
    digest = json.loads((out / "provenance.json").read_text())["source_sha256"]
    size = (bert / "pytorch_model.bin").stat().st_size
    for line in (
        f"source     pytorch_model.bin, {size:,} bytes",
        f"SHA-256    {digest}",
        "           compare it with the published one",
        "left out   cls (7)",
        f"use        --text_checkpoint {out}, network_def::text_encoder::architecture: the fields found",
    ):
        assert line in said.splitlines()
    assert "hidden_size 64, num_hidden_layers 1, num_attention_heads 1" in said
    ids = torch.tensor(Tokenizer.of(str(out)).encode("Lower left lung."))[None]
    assert BertText(FIELDS, pretrained=str(out))(ids).shape[-1] == 64


def test_image(tmp_path, capsys):
    model = ConvNextForImageClassification(ConvNextConfig(hidden_sizes=[4, 8, 12, 16], depths=[1, 1, 1, 1]))
    model.save_pretrained(tmp_path / "hf")
    out = tmp_path / "ready"
    assert main(["convert-checkpoint", "image", str(tmp_path / "hf" / "model.safetensors"), "--output", str(out)]) == 0
    said = capsys.readouterr().out
    assert "found      ConvNeXt: widths [4, 8, 12, 16], depths [1, 1, 1, 1], patch_size 4\n" in said
    assert f"use        --image_checkpoint {out}\n" in said
    ConvNeXt(str(out), (4, 8, 12, 16), (1, 1, 1, 1))


def test_bert_base_is_named_so():
    from tools.convert_checkpoint import _same

    assert _same({}, {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "vocab_size": 30522})
    assert not _same({}, {"hidden_size": 768, "num_hidden_layers": 6})


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--sha256", "0" * 64], "its SHA-256 is"),
        (["--vocabulary", "none.txt"], "none.txt: is not there"),
    ],
)
def test_faults_are_one_line(bert, tmp_path, capsys, arguments, words):
    assert main(["convert-checkpoint", "text", str(bert), "--output", str(tmp_path / "out"), *arguments]) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ") and words in err and err.count("\n") == 1
    assert not (tmp_path / "out").exists()
