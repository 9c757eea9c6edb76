"""CLIP's byte pairs: ids as transformers has them, but never 0, and padded with it."""

import json
import pickle
import re
import string
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer as Pipeline
from tokenizers import pre_tokenizers
from transformers import CLIPTokenizer

from common.errors import UserError
from common.prompts import DEFAULT_PROMPT, Findings
from common.prompts.bpe import BytePairs
from common.prompts.tokenizer import LENGTH, Tokenizer
from common.runtime.explain import group_pieces

WORDS = (
    "left",
    "right",
    "lung",
    "lower",
    "upper",
    "middle",
    "infection",
    "pulmonary",
    "infected",
    "areas",
    "and",
    "no",
)
SENTENCE = "Bilateral pulmonary infection, two infected areas, lower left lung and upper right lung."


def clip_files() -> tuple[dict[str, int], list[str]]:
    """A CLIP's vocabulary in its order: bytes from "!" on, bytes at the end of a word, joined pairs, special tokens."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet(), key=lambda letter: (not 33 <= ord(letter) <= 126, letter))
    pieces = [*letters, *(letter + "</w>" for letter in letters)]
    merges = []
    for word in WORDS:
        parts = [*word[:-1], word[-1] + "</w>"]
        while len(parts) > 1:
            pair = f"{parts[0]} {parts[1]}"
            if pair not in merges:
                merges.append(pair)
                pieces.append(parts[0] + parts[1])
            parts = [parts[0] + parts[1], *parts[2:]]
    # as in the published one, where two marks in a row are a piece
    merges.append("! !</w>")
    pieces.append("!!</w>")
    return {piece: number for number, piece in enumerate([*pieces, "<|startoftext|>", "<|endoftext|>"])}, merges


VOCABULARY, MERGED = clip_files()
# one merge cannot stand twice, and none may make a piece anew
assert len(set(VOCABULARY)) == 512 + len(MERGED) + 2


def write(folder, vocabulary=VOCABULARY, merges=MERGED):
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]) + "\n")
    return str(folder)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory) -> Tokenizer:
    return Tokenizer.of(write(tmp_path_factory.mktemp("clip")))


@pytest.fixture(scope="module")
def reference() -> CLIPTokenizer:
    return CLIPTokenizer(vocab=VOCABULARY, merges=[tuple(pair.split()) for pair in MERGED])


def test_rows_are_padded_with_0_and_hold_the_special_tokens(tokenizer):
    ids = tokenizer.encode("Lower left lung.")
    start, end = VOCABULARY["<|startoftext|>"], VOCABULARY["<|endoftext|>"]
    assert isinstance(tokenizer, BytePairs)
    assert ids.dtype == np.int64
    assert ids.shape == (LENGTH,)
    assert [*ids[:6]] == [start, *(VOCABULARY[f"{word}</w>"] for word in ("lower", "left", "lung", ".")), end]
    assert not ids[6:].any()
    assert tokenizer.ids("") == [start, end]
    assert tokenizer.vocab_size == len(VOCABULARY)


@pytest.mark.parametrize(
    "sentence",
    [SENTENCE, "ÉPANCHEMENT à gauche", "a\tb\n\n c", "ground-glass (R/L)", "the patient's 12 mm, she's", "肺 left"],
)
def test_as_transformers_has_it(tokenizer, reference, sentence):
    assert tokenizer.ids(sentence) == reference(sentence)["input_ids"]


@given(sentence=st.text(string.printable.replace("!", "") + "éß°肺", max_size=30))
def test_any_sentence_as_transformers_has_it(tokenizer, reference, sentence):
    # a sentence is data: to us "<|endoftext|>" is marks and letters, to transformers a special token
    if "<|" not in sentence:
        assert tokenizer.ids(sentence) == reference(sentence)["input_ids"]


@given(sentence=st.text("!.?a ", max_size=20))
def test_exclamation_marks_are_taken_out(tokenizer, reference, sentence):
    """In CLIP's own tokeniser "!" followed by another mark is id 0, our padding."""
    ids = tokenizer.ids(sentence)
    assert all(ids)
    assert ids == reference(sentence.replace("!", " "))["input_ids"]


def test_clips_own_ids_of_an_exclamation_mark_hold_our_padding(reference):
    assert VOCABULARY["!"] == 0
    assert 0 in reference("lung!?")["input_ids"]


def test_a_sentence_cannot_write_a_special_token(tokenizer):
    ids = tokenizer.ids("<|startoftext|> lung <|endoftext|>")
    assert ids.count(VOCABULARY["<|endoftext|>"]) == ids.count(VOCABULARY["<|startoftext|>"]) == 1


def test_pieces_are_shown_as_those_of_bert(tokenizer):
    shown = ["<|startoftext|>", "left", ",", "lun", "##g", "##s", "<|endoftext|>"]
    assert tokenizer.tokens("Left, lungs!") == shown
    assert len(tokenizer.tokens(SENTENCE)) == len(tokenizer.ids(SENTENCE))
    words = [word for word, _ in group_pieces(tokenizer.tokens(SENTENCE))]
    assert words == re.findall(r"\w+", SENTENCE.lower())


@given(sentence=st.text("!.? leftrighlung'é", max_size=20))
def test_the_exported_tokeniser_gives_the_same_rows(tokenizer, sentence):
    exported = Pipeline.from_str(tokenizer.to_json())
    assert exported.encode(sentence).ids == [*tokenizer.encode(sentence)]


def test_a_sentence_too_long_is_refused_not_cut(tmp_path):
    with pytest.raises(UserError, match=r"sentence of 6 tokens, but the tokeniser's rows have 5: 'Lower left lung\.'"):
        Tokenizer.of(write(tmp_path), length=5).encode("Lower left lung.")


def test_every_canonical_caption_fits(tokenizer):
    """Where each word is one piece, as those of the captions are in CLIP's vocabulary but "bilateral"'s."""
    codes = {"chest": product((0, 1), repeat=6), "polyp": product((0, 1), repeat=9)}
    captions = [Findings(g, code, None).caption() for g in codes for code in codes[g]] + list(DEFAULT_PROMPT.values())
    assert max(len(re.findall(r"\w+|[^\w\s]", caption)) for caption in captions) + 4 <= LENGTH


def test_survives_pickling(tokenizer):
    assert pickle.loads(pickle.dumps(tokenizer)).ids(SENTENCE) == tokenizer.ids(SENTENCE)


def test_of_the_hub_cache(tmp_path, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.file_download.constants.HF_HUB_CACHE", str(tmp_path))
    snapshot = tmp_path / "models--openai--clip-vit-base-patch32" / "snapshots" / "a"
    snapshot.mkdir(parents=True)
    (tmp_path / "models--openai--clip-vit-base-patch32" / "refs").mkdir()
    (tmp_path / "models--openai--clip-vit-base-patch32" / "refs" / "main").write_text("a")
    write(snapshot)
    assert isinstance(Tokenizer.of("openai/clip-vit-base-patch32"), BytePairs)


@pytest.mark.parametrize(
    "vocabulary",
    [
        [],
        {"!": 0},
        {piece: number for piece, number in VOCABULARY.items() if piece != "<|endoftext|>"},
        {**VOCABULARY, "!": VOCABULARY["a"], "a": 0},
        {**VOCABULARY, "a": VOCABULARY["b"]},
        {**VOCABULARY, "a": "97"},
    ],
)
def test_what_is_no_vocabulary_is_one_line(tmp_path, vocabulary):
    with pytest.raises(UserError, match=r"vocab\.json: not a CLIP vocabulary: it needs .*'!' first.*use the") as fault:
        Tokenizer.of(write(tmp_path, vocabulary))
    assert "\n" not in str(fault.value)


@pytest.mark.parametrize(
    ("merges", "words"),
    [
        (["a b c"], r"merges\.txt: not a list of merges, which has two pieces in each line; fetch it again"),
        (["x y"], r"merges\.txt: does not belong to vocab\.json beside it \(.*\); fetch both"),
    ],
)
def test_what_are_no_merges_is_one_line(tmp_path, merges, words):
    with pytest.raises(UserError, match=words) as fault:
        Tokenizer.of(write(tmp_path, merges=merges))
    assert "\n" not in str(fault.value)


def test_missing_or_damaged_files_are_one_line(tmp_path):
    folder = write(tmp_path)
    (tmp_path / "merges.txt").unlink()
    with pytest.raises(UserError, match=r"merges\.txt: is not there, and vocab\.json beside it needs it; fetch it too"):
        Tokenizer.of(folder)
    (tmp_path / "merges.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match=r"merges\.txt: not a readable list of merges"):
        Tokenizer.of(folder)
    (tmp_path / "vocab.json").write_text("{")
    with pytest.raises(UserError, match=r"vocab\.json: not a readable vocabulary; fetch it again"):
        Tokenizer.of(folder)
