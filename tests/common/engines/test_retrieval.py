"""Retrieval of sentences by pictures and back, against loops."""

import numpy as np
import pytest
import torch
import torch.distributed as dist
from ignite.engine import Engine

from common.engines import CaptionRetrieval
from common.engines.retrieval import MEASURES, retrieval
from common.errors import UserError

IDS = torch.tensor([[2, 5, 3, 0], [2, 6, 3, 0], [2, 5, 3, 0], [2, 5, 6, 3], [2, 6, 3, 0], [2, 7, 3, 0]])


def vectors(seed=0):
    """Six pictures, four distinct sentences, each with one vector."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(6, 3, generator=generator)
    of = {tuple(row.tolist()): torch.randn(3, generator=generator) for row in IDS}
    return images, torch.stack([of[tuple(row.tolist())] for row in IDS])


def cosine(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True)) / np.sqrt(sum(x * x for x in a) * sum(y * y for y in b))


def reference(images, sentences):
    words = [tuple(row.tolist()) for row in IDS]
    distinct = sorted(set(words))
    vector = {w: sentences[words.index(w)].numpy() for w in distinct}
    ranks = []
    for i, image in enumerate(images.numpy()):
        own = cosine(image, vector[words[i]])
        ranks.append(1 + sum(cosine(image, vector[w]) > own for w in distinct if w != words[i]))
    precisions = []
    for w in distinct:
        order = sorted(range(6), key=lambda i: -cosine(images[i].numpy(), vector[w]))
        hits, at = 0, []
        for place, i in enumerate(order, 1):
            if words[i] == w:
                hits += 1
                at.append(hits / place)
        precisions.append(sum(at) / len(at))
    return {
        "mrr": sum(1 / r for r in ranks) / 6,
        "top1": sum(r == 1 for r in ranks) / 6,
        "top5": sum(r <= 5 for r in ranks) / 6,
        "map": sum(precisions) / len(precisions),
    }


@pytest.mark.parametrize("seed", range(4))
def test_equals_loops(seed):
    images, sentences = vectors(seed)
    assert retrieval(images, sentences, IDS) == pytest.approx(reference(images, sentences))


def test_pictures_on_their_sentences_find_them_and_equal_vectors_nothing():
    _, sentences = vectors()
    assert retrieval(sentences * 7, sentences, IDS) == pytest.approx(dict.fromkeys(MEASURES, 1.0))
    found = retrieval(torch.ones(6, 3), torch.ones(6, 3), IDS)
    assert found["mrr"] == pytest.approx(1 / 4)
    assert found["top1"] == 0


def test_five_are_five():
    """Of seven sentences: the own one is the fifth for one picture, the sixth for the other."""
    angles = torch.arange(7) * 0.2
    sentences = torch.stack((angles.cos(), angles.sin()), dim=1)
    images = sentences.clone()
    images[4], images[5] = sentences[0], sentences[0]
    found = retrieval(images, sentences, torch.arange(7)[:, None])
    assert found == pytest.approx({"mrr": (5 + 1 / 5 + 1 / 6) / 7, "top1": 5 / 7, "top5": 6 / 7, "map": found["map"]})


@pytest.mark.parametrize("dimension", [3, 512])
def test_ties_count_for_the_worst_in_any_order(dimension):
    """Equal vectors: of M pictures the K right ones come last, the j-th with precision j / (M − K + j)."""
    vector = torch.randn(dimension, generator=torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(1)
    right = [2, 2, 1, 1]  # pictures of each sentence
    expected = sum(sum(j / (6 - k + j) for j in range(1, k + 1)) / k for k in right) / 4
    for _ in range(5):
        order = torch.randperm(6, generator=generator)
        found = retrieval(vector.expand(6, -1) * (order[:, None] + 1), vector.expand(6, -1), IDS[order])
        assert found == pytest.approx({"mrr": 1 / 4, "top1": 0, "top5": 1, "map": expected})


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_what_is_not_finite_finds_nothing_and_comes_first_where_it_is_wrong(value):
    _, sentences = vectors()
    spoilt = torch.full((6, 3), value)
    nothing = dict.fromkeys(MEASURES, 0.0)
    assert retrieval(spoilt, sentences, IDS) == nothing
    assert retrieval(sentences, spoilt, IDS) == nothing
    assert retrieval(spoilt, spoilt, torch.zeros(6, 4, dtype=torch.int64)) == nothing, "even of one sentence alone"
    images = sentences.clone()
    images[3, 1] = value
    found = retrieval(images, sentences, IDS)  # the only picture of its sentence
    first = {1: [1 / 2], 2: [1 / 2, 2 / 3]}  # precisions of the other sentences, with one picture and with two
    others = (2 * sum(first[2]) / 2 + sum(first[1])) / 4
    assert found == pytest.approx({"mrr": 5 / 6, "top1": 5 / 6, "top5": 5 / 6, "map": others})
    images = sentences.clone()
    images[0, 1] = value  # of its sentence there is picture 2 as well, and 4 is as near without having it
    images[4] = sentences[0]
    precision = sum(((1 / 2) / 2, (1 / 2 + 2 / 5) / 2, 1 / 2, 1 / 2)) / 4
    assert retrieval(images, sentences, IDS)["map"] == pytest.approx(precision)
    words = sentences.clone()
    words[3, 1] = value
    found = retrieval(sentences, words, IDS)
    assert found == pytest.approx({"mrr": 5 / 12, "top1": 0, "top5": 5 / 6, "map": 3 / 4})


def test_all_processes_are_one_evaluation(monkeypatch):
    images, sentences = vectors()

    def gather(parts, own):
        assert len(own[0]) == len(own[1]) == 4
        parts[:] = [own, (torch.stack((images[4:], sentences[4:]), dim=1), IDS[4:])]

    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_world_size", lambda: 2)
    monkeypatch.setattr(dist, "all_gather_object", gather)
    metric = CaptionRetrieval("map")
    for row in range(4):
        metric.update((torch.stack((images[row], sentences[row])), IDS[row]))
    assert metric.compute() == pytest.approx(retrieval(images, sentences, IDS)["map"])


def test_half_precision_is_widened():
    """Vectors whose length is beyond half precision, and with a gradient."""
    images, sentences = (200 * side for side in vectors())
    metric = CaptionRetrieval("mrr")
    for row in range(6):
        metric.update((torch.stack((images[row], sentences[row])).half().requires_grad_(), IDS[row]))
    halved = retrieval(images.half().float(), sentences.half().float(), IDS)
    assert metric.compute() == pytest.approx(halved["mrr"])


def test_as_a_metric_of_an_evaluator():
    images, sentences = vectors()

    def step(engine, rows):
        engine.state.batch = [{"text": IDS[row]} for row in rows]
        return [{"pred": torch.stack((images[row], sentences[row]))} for row in rows]

    engine = Engine(step)
    for measure in MEASURES:
        CaptionRetrieval(measure).attach(engine, measure)
    for _ in range(2):  # nothing of the first evaluation is left in the second
        engine.run([[0, 1, 2, 3], [4, 5]])
        assert engine.state.metrics == pytest.approx(retrieval(images, sentences, IDS))


def test_an_unknown_measure_is_one_line():
    with pytest.raises(UserError, match="retrieval: measure 'recall', expected one of mrr, top1, top5, map"):
        CaptionRetrieval("recall")
