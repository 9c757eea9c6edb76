import math

import numpy as np
import pytest
import torch

from common.losses.contrastive import masked_mean, same_sentence, symmetric_infonce


def slow(image, text, positives, tau):
    n = len(image)
    s = [[sum(a * b for a, b in zip(image[i], text[j], strict=True))
          / math.sqrt(sum(a * a for a in image[i]) * sum(b * b for b in text[j])) / tau
          for j in range(n)] for i in range(n)]  # fmt: skip
    total = 0.0
    for i in range(n):
        for direction in ("image to text", "text to image"):
            line = [s[i][j] if direction == "image to text" else s[j][i] for j in range(n)]
            norm = math.log(sum(math.exp(value) for value in line))
            mine = [j for j in range(n) if positives[i][j]]
            total -= sum(line[j] - norm for j in mine) / len(mine) / n / 2
    return total


@pytest.fixture
def case():
    g = torch.Generator().manual_seed(1)
    return torch.randn(5, 4, generator=g).double(), torch.randn(5, 4, generator=g).double()


@pytest.mark.parametrize("ids", [[[2, 5], [2, 6], [2, 5], [2, 7], [2, 5]], [[i] for i in range(5)]])
def test_equals_the_loops(case, ids):
    same = same_sentence(torch.tensor(ids))
    assert same.tolist() == [[a == b for b in ids] for a in ids]
    found = symmetric_infonce(*case, same, 0.07)
    assert float(found) == pytest.approx(slow(*(a.numpy() for a in case), same.tolist(), 0.07), rel=1e-10)


def test_plain_is_cross_entropy(case):
    image, text = (torch.nn.functional.normalize(a, dim=1) for a in case)
    scores, target = image @ text.T / 0.5, torch.arange(5)
    expected = torch.nn.functional.cross_entropy(scores, target) + torch.nn.functional.cross_entropy(scores.T, target)
    torch.testing.assert_close(symmetric_infonce(*case, torch.eye(5) > 0, 0.5), expected / 2)


def test_same_sentences_are_not_pushed_apart():
    """Two images of one sentence, perfectly aligned: nothing is left to gain, where the plain loss sees a fault."""
    vectors = torch.tensor([[1.0, 0], [1, 0], [0, 1]], requires_grad=True)
    same = same_sentence(torch.tensor([[2, 4], [2, 4], [2, 5]]))
    assert float(symmetric_infonce(vectors, vectors, same)) == pytest.approx(2 / 3 * math.log(2), abs=1e-4)
    (gradient,) = torch.autograd.grad(symmetric_infonce(vectors, vectors, same), vectors)
    assert gradient.abs().max() < 1e-4


def test_half_precision_is_computed_in_single(case):
    image, text = (a.float() for a in case)
    with torch.autocast("cpu", torch.bfloat16):
        found = symmetric_infonce(image, text, torch.eye(5) > 0)
    assert torch.equal(found, symmetric_infonce(image, text, torch.eye(5) > 0)) and found.dtype == torch.float32


def test_masked_mean():
    x, mask = np.random.default_rng(0).normal(size=(2, 3, 4)), np.array([[1, 1, 0], [0, 0, 1]], bool)
    found = masked_mean(torch.from_numpy(x), torch.from_numpy(mask))
    for b in range(2):
        np.testing.assert_allclose(found[b], sum(x[b, j] for j in range(3) if mask[b, j]) / mask[b].sum())
