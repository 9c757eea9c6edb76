"""Tokeniser: ids as BERT has them, never cut, never unknown."""

import pickle
import string
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import BertTokenizerFast

from common.datasets import load_dataset
from common.errors import UserError
from common.networks.checkpoints import SHIPPED
from common.networks.text import BertText
from common.prompts import DEFAULT_PROMPT, Findings
from common.prompts.tokenizer import LENGTH, Tokenizer

TOKENIZER = Tokenizer.of("compact")
PLAIN = Tokenizer((SHIPPED["compact"] / "vocab.txt").read_text().split())  # which mends nothing
ASCII = st.text(string.printable.strip() + " ", max_size=12)
SENTENCE = "Bilateral pulmonary infection, two infected areas, lowerl left lung and upperright lung."


def test_ids_are_padded_with_0_and_hold_the_special_tokens():
    ids = TOKENIZER.encode("Lower left lung.")
    assert ids.dtype == np.int64
    assert ids.shape == (LENGTH,)
    assert TOKENIZER.tokens("Lower left lung.") == ["[CLS]", "lower", "left", "lung", ".", "[SEP]"]
    assert [*ids[:6]] == TOKENIZER.ids("Lower left lung.")
    assert ids[:6].all()
    assert not ids[6:].any()
    assert (TOKENIZER.encode("") != 0).sum() == 2


def test_the_vocabulary_is_that_of_the_encoder():
    assert TOKENIZER.vocab_size == BertText("compact").vocab_size == 1024


@pytest.mark.parametrize(
    "sentence", [SENTENCE, "ÉPANCHEMENT à gauche", "a\tb\nc", "ground-glass (R/L)", "[SEP] [MASK]"]
)
def test_as_transformers_has_it(sentence):
    reference = BertTokenizerFast(vocab=str(SHIPPED["compact"] / "vocab.txt"))
    # a sentence is data: to us "[SEP]" is three marks, to transformers a special token
    sentence_there = sentence.replace("[", "[ ").replace("]", " ]")
    assert PLAIN.ids(sentence) == reference(sentence_there)["input_ids"]
    assert PLAIN.ids(sentence).count(3) == 1


@given(ASCII)
def test_no_ascii_sentence_has_an_unknown_piece(sentence):
    assert "[UNK]" not in TOKENIZER.tokens(sentence)
    tokens = PLAIN.tokens(sentence)
    assert "[UNK]" not in tokens
    assert "".join(t.removeprefix("##") if len(t) > 2 else t for t in tokens[1:-1]) == "".join(sentence.lower().split())


@pytest.mark.parametrize(
    ("sentence", "mended"),
    [
        ("Lowerl LEFFT lung", "lower left lung"),
        ("upperright lumg, lowerall left", "upper right lung , lower all left"),
        ("bilaterl, midlle", "bilateral , middle"),
        ("ower uooer", "lower upper"),
    ],
)
def test_words_that_tell_a_place_are_mended(sentence, mended):
    assert TOKENIZER.tokens(sentence)[1:-1] == mended.split()
    assert TOKENIZER.ids(sentence) == TOKENIZER.ids(mended) != PLAIN.ids(sentence)


@pytest.mark.parametrize("word", ["light", "eight", "rite", "case", "call", "wall", "long", "cleft", "near", "no"])
def test_other_words_are_not_taken_for_them(word):
    assert TOKENIZER.tokens(word) == PLAIN.tokens(word)


def test_published_vocabularies_mend_nothing(tmp_path):
    pieces = (SHIPPED["compact"] / "vocab.txt").read_text()
    (tmp_path / "vocab.txt").write_text(pieces)
    assert Tokenizer.of(str(tmp_path)).tokens(SENTENCE) == PLAIN.tokens(SENTENCE)
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    assert Tokenizer.of(str(tmp_path)).tokens(SENTENCE) == PLAIN.tokens(SENTENCE)


def test_the_words_that_decide_are_whole():
    for word in ("left", "right", "upper", "middle", "lower", "all", "lung", "top", "bottom", "center", "no"):
        assert TOKENIZER.tokens(word) == ["[CLS]", word, "[SEP]"]
    assert PLAIN.tokens("lowerright")[1:-1] == ["lower", "##right"]


def test_a_sentence_too_long_is_refused_not_cut():
    with pytest.raises(UserError, match=r"sentence of 6 tokens, but the tokeniser's rows have 5: 'Lower left lung\.'"):
        Tokenizer.of("compact", length=5).encode("Lower left lung.")


def test_every_canonical_caption_fits():
    codes = {"chest": product((0, 1), repeat=6), "polyp": product((0, 1), repeat=9)}
    lengths = [
        len(TOKENIZER.ids(Findings(grammar, code, count).caption()))
        for grammar in codes
        for code in codes[grammar]
        for count in (None, 0, 1, 9, 20, 100)
        if count or not any(code)
    ]
    assert max(lengths) <= LENGTH
    assert all(len(TOKENIZER.ids(sentence)) <= LENGTH for sentence in DEFAULT_PROMPT.values())


@pytest.mark.real
def test_every_real_sentence_fits(qata_dir, kvasir_dir):
    rows = load_dataset("qata", qata_dir, "trainval") + load_dataset("kvasir", kvasir_dir, "train")
    for sentence in {row["text_prompt"] for row in rows}:
        assert TOKENIZER.encode(sentence).shape == (LENGTH,), sentence


def test_survives_pickling():
    assert pickle.loads(pickle.dumps(TOKENIZER)).ids(SENTENCE) == TOKENIZER.ids(SENTENCE)


def test_the_vocabulary_of_another_bert(tmp_path):
    """CXR-BERT's special tokens have other numbers, as has BERT-base's."""
    pieces = ["[PAD]", *(f"[unused{i}]" for i in range(99)), "[UNK]", "[CLS]", "[SEP]", "[MASK]", "left", "lung", "##s"]
    (tmp_path / "vocab.txt").write_text("\n".join(pieces) + "\n")
    tokenizer = Tokenizer.of(str(tmp_path), length=8)
    assert [*tokenizer.encode("left lungs what")] == [101, 104, 105, 106, 100, 102, 0, 0]
    assert tokenizer.vocab_size == len(pieces)


@pytest.mark.parametrize(
    "pieces", [["[CLS]", "[PAD]", "[UNK]", "[SEP]"], ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "a"], ["[PAD]", "a"], []]
)
def test_what_is_no_vocabulary_is_one_line(tmp_path, pieces):
    (tmp_path / "vocab.txt").write_text("\n".join(pieces))
    with pytest.raises(UserError, match=r"vocab\.txt: not a BERT vocabulary: it needs .*\[PAD\] first"):
        Tokenizer.of(str(tmp_path))


def test_a_missing_vocabulary_names_file_and_folder(tmp_path):
    with pytest.raises(UserError, match=r"vocabulary '.*': no vocab\.txt or vocab\.json in the folder .*; .*download"):
        Tokenizer.of(str(tmp_path))
