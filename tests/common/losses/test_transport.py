"""Optimal transport against Sinkhorn's scaling vectors, one index at a time, in float64."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import linprog

from common.losses.transport import cosine_cost, sinkhorn, transport_loss

G = torch.Generator()


def slow_cost(image, text):
    m = np.zeros((len(image), len(text)))
    for i in range(len(image)):
        for j in range(len(text)):
            dot = sum(a * b for a, b in zip(image[i], text[j], strict=True))
            m[i, j] = 1 - dot / math.sqrt(sum(a * a for a in image[i]) * sum(b * b for b in text[j]))
    return m


def slow_plan(m, mu, nu, epsilon, iterations):
    """T = diag(r) K diag(c), K = exp(−M/ε); r = μ/(Kc), c = ν/(Kᵀr)."""
    rows, columns = m.shape
    k = np.array([[math.exp(-m[i, j] / epsilon) for j in range(columns)] for i in range(rows)])
    r, c = np.ones(rows), np.array([1.0 if nu[j] else 0.0 for j in range(columns)])
    for _ in range(iterations):
        for i in range(rows):
            r[i] = mu[i] / sum(k[i, j] * c[j] for j in range(columns))
        for j in range(columns):
            c[j] = nu[j] / sum(k[i, j] * r[i] for i in range(rows)) if nu[j] else 0.0
    return np.array([[r[i] * k[i, j] * c[j] for j in range(columns)] for i in range(rows)])


def tokens(batch=3, n=9, words=5, width=6, seed=0, dtype=torch.float64):
    g = torch.Generator().manual_seed(seed)
    image, text = torch.randn(batch, n, width, generator=g), torch.randn(batch, words, width, generator=g)
    return image.to(dtype), text.to(dtype)


MASK = torch.tensor([[True] * 5, [True, True, False, True, False], [False, True, False, False, False]])


def sums(mask, n, dtype=torch.float64):
    rows = torch.full((len(mask), n), 1 / n, dtype=dtype)
    return rows, mask.to(dtype) / mask.sum(1, keepdim=True)


def test_cost_equals_eq_1():
    image, text = tokens()
    found = cosine_cost(image, text)
    for b in range(3):
        np.testing.assert_allclose(found[b], slow_cost(image[b].numpy(), text[b].numpy()), atol=1e-12)


@pytest.mark.parametrize("iterations", [1, 7, 100])
def test_plan_equals_the_scaling_vectors(iterations):
    image, text = tokens()
    cost, (rows, columns) = cosine_cost(image, text), sums(MASK, 9)
    found = sinkhorn(cost, rows, columns, 0.03, iterations, tolerance=0)
    for b in range(3):
        expected = slow_plan(cost[b].numpy(), rows[b].numpy(), columns[b].numpy(), 0.03, iterations)
        np.testing.assert_allclose(found[b], expected, atol=1e-9)


def test_a_small_epsilon_comes_near_the_exact_transport():
    """Against the linear programme itself."""
    image, text = tokens(1, 6, 4)
    cost, (rows, columns) = cosine_cost(image, text), sums(MASK[:1, :4], 6)
    plan = sinkhorn(cost, rows, columns, 0.002, 50_000, 1e-9)
    equal = np.zeros((10, 24))
    for i, j in np.ndindex(6, 4):
        equal[i, 4 * i + j] = equal[6 + j, 4 * i + j] = 1
    exact = linprog(cost[0].numpy().ravel(), A_eq=equal, b_eq=np.concatenate([rows[0], columns[0]])).fun
    assert float((plan * cost).sum()) == pytest.approx(exact, abs=0.004)
    assert float((plan * cost).sum()) >= exact - 1e-9


def test_both_directions_are_one_plan_once_converged():
    image, text = tokens()
    cost, (rows, columns) = cosine_cost(image, text)[:1], sums(MASK[:1], 9)
    there = sinkhorn(cost, rows, columns, 0.03, 20_000, 0)
    back = sinkhorn(cost.transpose(1, 2), columns, rows, 0.03, 20_000, 0)
    assert (there - back.transpose(1, 2)).abs().max() < 1e-6


def test_it_stops_sample_by_sample():
    """A sample's plan does not depend on its company, and its rows' sums are within the tolerance."""
    image, text = tokens()
    text[1] = image[1, :5] * 3  # hard: each word is one of the cells
    cost, (rows, columns) = cosine_cost(image, text), sums(MASK, 9)
    together = sinkhorn(cost, rows, columns)
    for b in range(3):
        alone = sinkhorn(cost[b : b + 1], rows[b : b + 1], columns[b : b + 1])
        torch.testing.assert_close(alone[0], together[b], atol=1e-12, rtol=0)
    assert (together.sum(2) / rows - 1).abs().max() < 1e-2
    torch.testing.assert_close(together.sum(1), columns, atol=1e-12, rtol=0)
    exact = sinkhorn(cost, rows, columns, tolerance=1e-12, max_iterations=20_000)
    assert (together - exact).abs().max() > 1e-6, "it stopped before"


def test_single_precision_holds_the_whole_range():
    """Distances of up to 2 at ε 0.03: exp(−67) is 1e-29."""
    image, text = tokens(dtype=torch.float32)
    image[0, 0], text[0, 0] = 1.0, -1.0
    cost, (rows, columns) = cosine_cost(image, text), sums(MASK, 9)
    single = sinkhorn(cost.float(), rows.float(), columns.float())
    torch.testing.assert_close(single, sinkhorn(cost.double(), rows, columns).float(), atol=1e-4, rtol=1e-3)


def test_loss_equals_the_loops_and_ignores_padding():
    image, text = tokens()
    found = transport_loss(image, text, MASK, tolerance=0, max_iterations=200)
    expected = []
    for b in range(3):
        words = text[b][MASK[b]].numpy()
        m = slow_cost(image[b].numpy(), words)
        t = slow_plan(m, np.full(9, 1 / 9), np.full(len(words), 1 / len(words)), 0.03, 200)
        expected.append((t * m).sum())
    assert float(found) == pytest.approx(np.mean(expected), abs=1e-9)
    text[~MASK] = 1e3
    assert float(transport_loss(image, text, MASK, tolerance=0, max_iterations=200)) == pytest.approx(float(found))


def test_gradient_is_that_of_a_constant_plan():
    """Finite differences of Σ T⊙M with T held."""
    image, text = tokens(1, 5, 5)
    mask = MASK[:1]
    image.requires_grad_()
    transport_loss(image, text, mask).backward()
    plan = sinkhorn(cosine_cost(image.detach(), text), *sums(mask, 5))[0].numpy()
    for i, c in ((0, 0), (3, 5), (4, 2)):
        values = []
        for step in (1e-5, -1e-5):
            moved = image.detach()[0].numpy().copy()
            moved[i, c] += step
            values.append((plan * slow_cost(moved, text[0].numpy())).sum())
        assert float(image.grad[0, i, c]) == pytest.approx((values[0] - values[1]) / 2e-5, rel=1e-5, abs=1e-9)


@pytest.mark.parametrize("case", ["one word", "identical tokens", "opposite tokens", "one cell"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_finite_where_it_is_degenerate(case, dtype):
    image, text = tokens(2, 1 if case == "one cell" else 9, dtype=dtype)
    mask = MASK[:2] & (torch.arange(5) == 1) if case == "one word" else MASK[:2]
    if case.endswith("tokens"):
        image[:], text[:] = 1.0, 1.0 if case == "identical tokens" else -1.0
    image.requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        loss = transport_loss(image, text, mask)
    loss.backward()
    assert loss.dtype == torch.float32 and torch.isfinite(loss) and torch.isfinite(image.grad).all()
    if case.endswith("tokens"):
        assert float(loss) == pytest.approx(0 if case == "identical tokens" else 2, abs=1e-5)
