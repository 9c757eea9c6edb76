import math

import pytest
import torch

from common.losses.itcl import itcl, soft_positives

ZONES = torch.tensor([[0, 0, 1, 0, 0, 1], [0, 1, 1, 0, 0, 0], [0, 0, 1, 0, 0, 1], [0] * 6, [0] * 6, [1, 1, 1, 0, 0, 0]])


def jaccard(a, b):
    both = sum(x and y for x, y in zip(a, b, strict=True))
    either = sum(x or y for x, y in zip(a, b, strict=True))
    return both / max(either, 1)


def slow(image, text, zones, tau):
    """Eq. 9 in loops, with the released code's 1e-6."""
    n = len(image)

    def unit(v):
        return [x / math.sqrt(sum(y * y for y in v)) for x in v]

    image, text = [unit(v) for v in image], [unit(v) for v in text]
    s = [[sum(a * b for a, b in zip(image[i], text[j], strict=True)) / tau for j in range(n)] for i in range(n)]
    p = [[1.0 if i == j else jaccard(zones[i], zones[j]) for j in range(n)] for i in range(n)]
    total = 0.0
    for scores in (s, [[s[j][i] for j in range(n)] for i in range(n)]):
        for i in range(n):
            norm = math.log(sum(math.exp(x) for x in scores[i]))
            total -= sum(p[i][j] * (scores[i][j] - norm) for j in range(n)) / (sum(p[i]) + 1e-6) / n / 2
    return total


@pytest.fixture
def case():
    g = torch.Generator().manual_seed(1)
    return torch.randn(6, 4, generator=g).double(), torch.randn(6, 4, generator=g).double()


def test_soft_positives():
    found = soft_positives(ZONES)
    for i in range(6):
        for j in range(6):
            expected = 1 if i == j else jaccard(ZONES[i].tolist(), ZONES[j].tolist())
            assert float(found[i, j]) == pytest.approx(expected)
    assert float(found[0, 1]) == pytest.approx(1 / 3) and found[0, 2] == 1
    assert found[3, 4] == 0, "two sentences without a place have nothing in common"


def test_equals_the_loops(case):
    found = itcl(*case, ZONES, 0.07)
    assert float(found) == pytest.approx(slow(*(a.tolist() for a in case), ZONES.tolist(), 0.07), rel=1e-5)


def test_lengths_of_embeddings_do_not_count(case):
    image, text = case
    torch.testing.assert_close(itcl(image * 3, text / 2, ZONES), itcl(image, text, ZONES))


def test_sentences_of_the_same_places_are_drawn_together(case):
    """A step down the gradient brings image 0 nearer to sentence 2, whose zones are its own, than CLIP's does."""
    image, text = (x.clone().requires_grad_() for x in case)

    def after(zones):
        (step,) = torch.autograd.grad(itcl(image, text, zones, 0.5), image)
        moved = image[0] - step[0]
        return torch.nn.functional.cosine_similarity(moved, text[2], dim=0)

    assert after(ZONES) > after(torch.eye(6))
