"""Retrieval of sentences by pictures and back, against loops."""

import numpy as np
import pytest
import torch
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
