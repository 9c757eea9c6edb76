"""Training of the compact text encoder, from generated sentences alone: minutes on one CPU core.

A BERT (``BertText("compact")``) reads a sentence; from the mean of its last states over the tokens a linear head
names the six zones, the two sides, the nine polyp positions and the count. Beside that, the cosine of the means
of two sentences is drawn to the Jaccard index of their bits, so that similarities follow the overlap of zones.

Written to a folder: ``vocab.txt``, ``config.json`` (of ``transformers``), and ``model.safetensors`` in half
precision, with keys ``bert.*`` and ``head.*``. ``BertText(pretrained=...)`` takes the first and leaves the head.
"""

from __future__ import annotations

import json
import string
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F

from common.networks.checkpoints import WEIGHTS, find_file
from common.networks.text import BertText
from common.networks.text.bert import ARCHITECTURES
from common.prompts.findings import Findings
from common.prompts.generate import Example, examples
from common.prompts.noise import KEYS
from common.prompts.tokenizer import MENDS, VOCABULARY, Tokenizer
from common.prompts.words import SIDES

# what the head names: logits of the chest's six bits, its two sides, nine polyp positions; and classes of the count
PARTS = {"chest": 6, "sides": 2, "polyp": 9, "count": 11}  # count: unsaid, 0, 1, ... 9
_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


class Namer(nn.Module):
    """The compact encoder with the head that names what a sentence says.

    Attributes:
        encoder: a ``BertText``; its last states are used.
        head: from their mean over the tokens to the logits of ``PARTS``.
    """

    def __init__(self, pretrained: str | None = None) -> None:
        super().__init__()
        self.encoder = BertText("compact", pretrained, dropout=0.0)
        self.head = nn.Linear(self.encoder.width, sum(PARTS.values()))
        if pretrained is not None:
            state = load_file(find_file(pretrained, WEIGHTS[:1]))
            self.head.load_state_dict({key: state[f"head.{key}"] for key in ("weight", "bias")})
            self.eval()

    def forward(self, ids: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Ids (B, L), padded with 0, to the means (B, width) and the logits of each of ``PARTS`` (B, n)."""
        mean = self.mean(self.encoder(ids)[:, -1], ids)
        return mean, self.name(mean)

    def mean(self, states: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        """Mean of the states (B, L, width) of the tokens: (B, width)."""
        mask = (ids != 0).unsqueeze(-1)
        return (states * mask).sum(dim=1) / mask.sum(dim=1)

    def name(self, mean: torch.Tensor) -> dict[str, torch.Tensor]:
        """The logits of each of ``PARTS``, (B, n), of means (B, width)."""
        return dict(zip(PARTS, self.head(mean).split(tuple(PARTS.values()), dim=1), strict=True))


def vocabulary(sentences: list[str], size: int) -> list[str]:
    """The pieces of a vocabulary, by id.

    Special ones, all ASCII marks, letters and digits, key words that go on another word ("lowerright"), and the most
    frequent words of ``sentences``; what remains of ``size`` is ``[unused...]``.
    """
    letters = string.ascii_lowercase + string.digits
    pieces = [*_SPECIAL, *string.punctuation, *letters, *(f"##{letter}" for letter in letters)]
    pieces += sorted(f"##{word}" for word in KEYS if len(word) > 2)
    table = str.maketrans(dict.fromkeys(string.punctuation, " "))
    counts = Counter(word for sentence in sentences for word in sentence.lower().translate(table).split())
    words = sorted((word for word in counts if len(word) > 1), key=lambda word: (-counts[word], word))
    pieces = (pieces + words)[:size]
    return pieces + [f"[unused{i}]" for i in range(size - len(pieces))]


def train(
    output: Path,
    seed: int = 0,
    steps: int = 5000,
    batch: int = 32,
    rate: float = 6e-4,
    log: Callable[[str], None] = print,
) -> None:
    """Train vocabulary and encoder, and write them to ``output``.

    The same arguments give the same bytes on the same machine: one thread, seeded.

    Args:
        output: folder; made if it is not there.
        seed: of sentences and weights.
        steps: of the optimiser.
        batch: sentences a step.
        rate: highest learning rate.
        log: gets a line of figures now and then.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        _train(output, seed, steps, batch, rate, log)
    finally:
        torch.set_num_threads(threads)


def _train(output: Path, seed: int, steps: int, batch: int, rate: float, log: Callable[[str], None]) -> None:
    start = time.monotonic()
    output.mkdir(parents=True, exist_ok=True)
    size = ARCHITECTURES["compact"]["vocab_size"]
    clean = [sentence for sentence, _ in examples(seed + 1, 20 * size, typos=False)]
    pieces = vocabulary(clean, size)
    # misspelt words are mended in use; what is left of them then is read because they are not mended here
    tokenizer = Tokenizer(pieces)
    torch.manual_seed(seed)
    model = Namer()
    for layer in model.encoder.bert.encoder.modules():
        if isinstance(layer, nn.Linear):
            # BERT's 0.02 is for a width of 768 and leaves attention uniform for long
            nn.init.normal_(layer.weight, std=model.encoder.width**-0.5)
    objective = _Objective(model.encoder.width)
    parameters = [*model.parameters(), *objective.parameters()]
    optimizer = torch.optim.AdamW(parameters, rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps, pct_start=0.1)
    test = batches(examples(seed + 2, 256), tokenizer, 64)
    # sentences without misspellings first: what a word means is learnt sooner from the word itself
    plain = examples(seed, steps // 5 * batch, typos=False)
    typed = examples(seed + 3, (steps - steps // 5) * batch)
    shuffled = [made for part in (plain, typed) for made in batches(part, tokenizer, batch, Random(seed))]
    for step, (ids, found) in enumerate(shuffled, 1):
        loss = objective(model, ids, found)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        if step % 250 == 0 or step in (50, 100, steps):
            exact = named(model, test)
            log(f"step {step}/{steps}, {time.monotonic() - start:.0f} s: loss {loss.item():.3f}, "
                f"sentences named rightly {exact:.1%}")  # fmt: skip
    (output / VOCABULARY).write_text("\n".join(pieces) + "\n", encoding="utf-8")
    config = {"model_type": "bert", **ARCHITECTURES["compact"], "pad_token_id": 0, MENDS: True}
    config["training"] = {"seed": seed, "steps": steps, "batch": batch, "rate": rate}
    (output / "config.json").write_text(json.dumps(config, indent=4) + "\n", encoding="utf-8")
    state = {key.removeprefix("encoder."): value.half() for key, value in model.state_dict().items()}
    # one entry only: safetensors writes several in an order that changes from run to run
    save_file(state, output / WEIGHTS[0], metadata={"format": "pt"})


Batch = tuple[torch.Tensor, list[Findings]]


def batches(made: list[Example], tokenizer: Tokenizer, size: int, rng: Random | None = None) -> list[Batch]:
    """Examples as ids (size, L) and what they say, sentences of a like length together; shuffled by ``rng``."""
    rows = [(tokenizer.ids(sentence), findings) for sentence, findings in made]
    longest = ARCHITECTURES["compact"]["max_position_embeddings"]
    made_batches = []
    for first in range(0, len(rows), 16 * size):
        chunk = sorted(rows[first : first + 16 * size], key=lambda row: len(row[0]))
        for i in range(0, len(chunk), size):
            part = chunk[i : i + size]
            length = min(len(part[-1][0]), longest)
            ids = torch.tensor([row[:length] + [0] * (length - len(row)) for row, _ in part])
            made_batches.append((ids, [findings for _, findings in part]))
    if rng:
        rng.shuffle(made_batches)
    return made_batches


def named(model: Namer, tests: list[Batch]) -> float:
    """Share of sentences of which all bits of zones or positions are named rightly."""
    right = total = 0
    model.eval()
    with torch.no_grad():
        for ids, found in tests:
            logits = model(ids)[1]
            for i, findings in enumerate(found):
                right += tuple((logits[findings.grammar][i] > 0).int().tolist()) == findings.zones
            total += len(found)
    model.train()
    return right / total


def jaccard(bits: torch.Tensor) -> torch.Tensor:
    """Jaccard index of each pair of rows of bits (N, n): (N, N); 1 for two rows without a bit."""
    both = bits @ bits.T
    either = bits.sum(dim=1)[:, None] + bits.sum(dim=1) - both
    return torch.where(either > 0, both / either.clamp(min=1), 1.0)


class _Objective(nn.Module):
    """What training asks of the encoder; its own layer is dropped afterwards.

    The head's cross-entropies, the squared error of cosine against Jaccard index, and that each bit is told by some
    word: its logit is the log-sum-exp of a layer's logits of all tokens. This last part makes words carry what their
    place says, and binds levels to sides several times sooner than the head alone.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.words = nn.Linear(width, PARTS["chest"] + PARTS["polyp"])

    def forward(self, model: Namer, ids: torch.Tensor, found: list[Findings]) -> torch.Tensor:
        """The loss of a batch."""
        states = model.encoder(ids)[:, -1]
        mean = model.mean(states, ids)
        logits = model.name(mean)
        told = self.words(states).masked_fill((ids == 0).unsqueeze(-1), -1e4).logsumexp(dim=1)
        tellings = dict(zip(("chest", "polyp"), told.split((PARTS["chest"], PARTS["polyp"]), dim=1), strict=True))
        counts = torch.tensor([-1 if findings.count is None else findings.count for findings in found]) + 1
        loss = 0.2 * F.cross_entropy(logits["count"], counts)
        for grammar, telling in tellings.items():
            rows = [i for i, findings in enumerate(found) if findings.grammar == grammar]
            if not rows:
                continue
            bits = torch.tensor([found[i].zones for i in rows], dtype=torch.float32)
            share = len(rows) / len(found)
            direction = F.normalize(mean[rows], dim=1)
            loss = loss + share * (
                F.binary_cross_entropy_with_logits(logits[grammar][rows], bits)
                + F.binary_cross_entropy_with_logits(telling[rows], bits)
                + F.mse_loss(direction @ direction.T, jaccard(bits))
            )
            if grammar == "chest":
                sides = torch.tensor([[side in found[i].sides for side in SIDES] for i in rows], dtype=torch.float32)
                loss = loss + 0.5 * share * F.binary_cross_entropy_with_logits(logits["sides"][rows], sides)
        return loss
