"""The shipped compact encoder's figures, and that its training is reproducible and reads no file."""

import hashlib
import json
import re
import subprocess
import sys
from itertools import product
from random import Random

import pytest
import torch
from scipy.stats import spearmanr
from torch.nn import functional as F
from transformers import AutoModel

from common.datasets import load_dataset
from common.networks.checkpoints import SHIPPED
from common.networks.text import BertText
from common.prompts import Findings, parse
from common.prompts.generate import examples
from common.prompts.noise import disturb, reorder
from common.prompts.tokenizer import Tokenizer
from common.prompts.train_encoder import Namer, batches, jaccard, train

MODEL = Namer("compact")
TOKENIZER = Tokenizer.of("compact")
CODES = [code for code in product((0, 1), repeat=6) if any(code)]


def wrong(made) -> list:
    """The examples of which a zone or position is named wrongly: (what it says, what was named)."""
    found = []
    with torch.no_grad():
        for ids, said in batches(made, TOKENIZER, 64):
            logits = MODEL(ids)[1]
            for i, findings in enumerate(said):
                bits = tuple((logits[findings.grammar][i] > 0).int().tolist())
                if bits != findings.zones:
                    found.append((findings, bits))
    return found


def rank_correlation(made) -> float:
    """Spearman's, of cosine against Jaccard index, over all pairs."""
    means, bits = [], []
    with torch.no_grad():
        for ids, said in batches(made, TOKENIZER, 64):
            means.append(F.normalize(MODEL(ids)[0], dim=1))
            bits += [findings.zones for findings in said]
    mean = torch.cat(means)
    rows, columns = torch.triu_indices(len(bits), len(bits), 1)
    overlap = jaccard(torch.tensor(bits, dtype=torch.float32))
    return float(spearmanr((mean @ mean.T)[rows, columns], overlap[rows, columns]).statistic)


@pytest.fixture(scope="module")
def real(qata_dir):
    """Distinct sentences of QaTa-COV19 that the parser understands, and what they say."""
    sentences = sorted({row["text_prompt"] for row in load_dataset("qata", qata_dir, "trainval")})
    made = [(sentence, parse(sentence, "image")) for sentence in sentences]
    return [example for example in made if example[1].understood]


@pytest.mark.real
def test_names_the_zones_of_real_sentences(real):
    assert len(real) > 290
    faults = wrong(real)
    assert len(faults) <= 0.005 * len(real), faults


@pytest.mark.real
@pytest.mark.parametrize("way", ["reordered", "misspelt"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_names_the_zones_of_real_sentences_changed_in_ways_held_out(real, way, seed):
    rng = Random(seed)
    made = [
        (sentence, reorder(sentence, rng, True) if way == "reordered" else disturb(sentence, rng, 1, True), said)
        for sentence, said in real
        for _ in range(4)
    ]
    changed = [(other, said) for sentence, other, said in made if other != sentence]
    assert len(changed) > 0.7 * len(made)
    faults = wrong(changed)
    assert len(faults) <= 0.005 * len(changed), faults


@pytest.mark.real
def test_similarity_of_real_sentences_follows_the_overlap_of_zones(real):
    assert rank_correlation(real) >= 0.9


def test_similarity_of_captions_follows_the_overlap_of_zones():
    assert rank_correlation([(Findings("chest", code, 2).caption(), Findings("chest", code)) for code in CODES]) >= 0.9
    polyps = [Findings("polyp", code) for code in product((0, 1), repeat=9) if any(code)]
    assert rank_correlation([(said.caption(), said) for said in polyps]) >= 0.9


def test_every_canonical_caption_is_named_rightly():
    """So left and right are never confused."""
    captions = [Findings("chest", code, count) for code in CODES for count in (None, 1, 2, 3, 4, 5, 6)]
    captions += [Findings("chest", (0,) * 6), Findings("chest", (0,) * 6, 0)]
    assert not wrong([(said.caption(), said) for said in captions])


def test_the_nine_positions_of_polyps_are_named_rightly():
    ones = [Findings("polyp", tuple(int(i == k) for i in range(9)), count) for k in range(9) for count in (None, 1)]
    assert not wrong([(said.caption(), said) for said in ones])
    codes = [Findings("polyp", code, sum(code)) for code in product((0, 1), repeat=9)]
    assert len(wrong([(said.caption(), said) for said in codes])) <= 0.03 * len(codes)


def test_names_most_of_what_clinicians_write():
    made = [(s, f) for s, f in examples(11, 2500, typos=False) if f.grammar == "chest" and "ulmonary inf" not in s]
    assert len(made) > 400
    assert len(wrong(made)) <= 0.05 * len(made)


def test_names_sides_and_count():
    said = [Findings("chest", code, count) for code in CODES[::3] for count in (None, 1, 2, 5)]
    for ids, found in batches([(findings.caption(), findings) for findings in said], TOKENIZER, 32):
        with torch.no_grad():
            logits = MODEL(ids)[1]
        sides = [{s for s, z in zip(("left", "right"), row, strict=True) if z > 0} for row in logits["sides"].tolist()]
        assert sides == [set(findings.sides) for findings in found]
        counts = [None if i == 0 else i - 1 for i in logits["count"].argmax(dim=1).tolist()]
        assert counts == [findings.count for findings in found]


def test_padding_changes_nothing():
    sentence = "Bilateral pulmonary infection, lower left lung and upper right lung."
    short, long = torch.tensor([TOKENIZER.ids(sentence)]), torch.tensor(TOKENIZER.encode(sentence))[None]
    assert short.shape[1] < long.shape[1]
    with torch.no_grad():
        torch.testing.assert_close(MODEL(short)[0], MODEL(long)[0], atol=1e-5, rtol=1e-5)


def test_shipped_files():
    folder = SHIPPED["compact"]
    assert (folder / "model.safetensors").stat().st_size <= 8e6
    ids = torch.tensor([TOKENIZER.ids("Upper left lung.")])
    with torch.no_grad():
        states = BertText("compact", pretrained="compact").eval()(ids)[:, 0]
        torch.testing.assert_close(states, MODEL.encoder(ids)[:, 0])
        # also by transformers' own loader
        theirs = AutoModel.from_pretrained(folder, dtype=torch.float32, add_pooling_layer=False).eval()
        torch.testing.assert_close(states, theirs(ids).last_hidden_state, atol=1e-4, rtol=1e-4)
    assert json.loads((folder / "config.json").read_text())["vocab_size"] == TOKENIZER.vocab_size


def test_training_is_reproducible(tmp_path):
    digests = []
    for name in ("a", "b"):
        torch.rand(3)  # what was drawn before does not matter
        train(tmp_path / name, seed=5, steps=3, batch=4, log=lambda line: None)
        files = sorted((tmp_path / name).iterdir())
        assert [file.name for file in files] == ["config.json", "model.safetensors", "vocab.txt"]
        digests.append([hashlib.sha256(file.read_bytes()).hexdigest() for file in files])
    assert digests[0] == digests[1]


def test_the_command_reads_no_file_and_prints_figures(tmp_path):
    """Between its imports and its end it opens only what it writes."""
    script = (
        "import sys, pathlib\n"
        "import common.prompts.train_encoder as t, torch.optim, tools.__main__ as cli\n"
        "t.train(pathlib.Path(sys.argv[1]) / 'first', steps=2, batch=4, log=lambda line: None)\n"
        "def audit(event, args):\n"
        "    if event == 'open' and not str(args[0]).endswith(('.py', '.pyc')): print('OPEN', args[0])\n"
        "sys.addaudithook(audit)\n"
        "sys.exit(cli.main(['train-text-encoder', '--output', sys.argv[1] + '/out', '--steps', '2', '--batch', '4']))"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True)
    opened = re.findall(r"^OPEN (.*)$", done.stdout, re.MULTILINE)
    assert all(path.startswith(str(tmp_path / "out")) for path in opened), opened
    assert re.search(r"step 2/2, \d+ s: loss \d\.\d+, sentences named rightly \d+\.\d%", done.stdout)
    assert f"text encoder: {tmp_path / 'out'}" in done.stdout
