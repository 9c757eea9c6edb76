"""CaCL against loops over single pairs; over two processes against one."""

import math

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing

from common.losses.cacl import CaCL, gathered, soft_labels

B, D, TAU, RHO = 6, 5, 0.07, 0.8


def pairs(dtype=torch.float64) -> torch.Tensor:
    """(B, 2, D); pairs 0, 2 and 5 have one sentence."""
    generator = torch.Generator().manual_seed(0)
    made = torch.randn(B, 2, D, generator=generator, dtype=torch.float64)
    made[2, 1] = made[5, 1] = made[0, 1]
    return made.to(dtype)


def normalised(row):
    length = math.sqrt(sum(x * x for x in row))
    return [x / length for x in row]


def reference(pred: np.ndarray, tau: float, rho: float):
    """Loss, Ŷ, Y, and both softmaxes of s/τ, by single indices."""
    n = len(pred)
    v, l = [normalised(row) for row in pred[:, 0]], [normalised(row) for row in pred[:, 1]]  # noqa: E741
    soft = np.zeros((n, n))
    for i in range(n):
        m = [sum(a * b for a, b in zip(l[i], l[j], strict=True)) for j in range(n)]
        mean = sum(m) / n
        weights = [math.exp(max(x - mean, 0) / tau) for x in m]
        for j in range(n):
            soft[i, j] = weights[j] / sum(weights)
    y = np.array([[rho * soft[i, j] + (1 - rho) * (i == j) for j in range(n)] for i in range(n)])
    s = [[sum(a * b for a, b in zip(v[i], l[j], strict=True)) for j in range(n)] for i in range(n)]
    to_text, to_image = np.zeros((n, n)), np.zeros((n, n))
    for i in range(n):
        for j in range(n):
            to_text[i, j] = math.exp(s[i][j] / tau) / sum(math.exp(s[i][k] / tau) for k in range(n))
            to_image[i, j] = math.exp(s[i][j] / tau) / sum(math.exp(s[k][j] / tau) for k in range(n))
    loss = 0.0
    for i in range(n):
        for j in range(n):
            loss -= (y[i, j] * math.log(to_text[i, j]) + y[j, i] * math.log(to_image[i, j])) / n
    return loss, soft, y, to_text, to_image


@pytest.mark.parametrize("rho", [0.0, 0.8, 1.0])
@pytest.mark.parametrize("tau", [0.05, 0.3])
def test_loss_equals_loops(tau, rho):
    loss = CaCL(tau, rho)
    expected, *_ = reference(pairs().numpy(), tau, rho)
    assert loss({"pred": pairs()}).item() == pytest.approx(expected, abs=1e-12)
    assert loss({"pred": pairs(torch.float32)}).item() == pytest.approx(expected, rel=1e-5)
    assert (loss.terms["to_text"] + loss.terms["to_image"]).item() == pytest.approx(expected, rel=1e-5)


def test_soft_labels_equal_loops():
    sentences = torch.nn.functional.normalize(pairs()[:, 1], dim=1)
    soft, unrelated = soft_labels(sentences, TAU)
    _, expected, *_ = reference(pairs().numpy(), TAU, RHO)
    np.testing.assert_allclose(soft, expected, atol=1e-12)
    np.testing.assert_allclose(soft.sum(dim=1), 1)
    likeness = (sentences @ sentences.T).numpy()
    clipped = likeness <= likeness.mean(axis=1, keepdims=True)
    assert unrelated.item() == pytest.approx((expected * clipped).sum(axis=1).mean(), abs=1e-12)


@pytest.mark.parametrize("rho", [0.0, 0.8])
def test_terms_are_the_two_directions_and_what_eq_1_puts_on_unrelated_sentences(rho):
    loss = CaCL(TAU, rho)
    loss({"pred": pairs()})
    _, _, y, to_text, to_image = reference(pairs().numpy(), TAU, rho)
    assert loss.terms.keys() == {"to_text", "to_image", "unrelated"}
    assert loss.terms["to_text"].item() == pytest.approx(-(y * np.log(to_text)).sum() / B, abs=1e-12)
    assert loss.terms["to_image"].item() == pytest.approx(-(y.T * np.log(to_image)).sum() / B, abs=1e-12)
    _, unrelated = soft_labels(torch.nn.functional.normalize(pairs()[:, 1], dim=1), TAU)
    assert 0 < loss.terms["unrelated"].item() == pytest.approx(unrelated.item(), rel=1e-9)


def test_the_papers_temperature_and_softness():
    assert CaCL()({"pred": pairs()}).item() == CaCL(0.07, 0.8)({"pred": pairs()}).item()


def test_what_lies_on_unrelated_sentences_in_the_papers_batch():
    """20 pictures of one sentence in 256, 1 − μ = .1: clipping leaves 74 % of their labels with the others."""
    cosine = (0.9 * 256 - 20) / 236  # to the others, so that the mean of a row is .9
    sentences = torch.tensor([[1.0, 0.0]] * 20 + [[cosine, math.sqrt(1 - cosine**2)]] * 236, dtype=torch.float64)
    soft, unrelated = soft_labels(sentences, 0.07)
    mass = 236 / (236 + 20 * math.exp(0.1 / 0.07))
    assert mass == pytest.approx(0.74, abs=0.005)
    assert soft[0, 20:].sum().item() == pytest.approx(mass, abs=1e-9)
    above = 1 - (236 + 20 * cosine) / 256
    others = 20 / (20 + 236 * math.exp(above / 0.07))
    assert unrelated.item() == pytest.approx((20 * mass + 236 * others) / 256, abs=1e-9)


def test_gradient_is_that_of_the_corrected_eq_3():
    """By s: with D = B and sentences that are the axes, s is v itself; taken before the normalisation of v."""
    _, _, y, to_text, to_image = reference(pairs().numpy(), TAU, RHO)
    expected = (to_text - y + to_image - y.T) / (B * TAU)
    v, l = torch.nn.functional.normalize(pairs(), dim=2).unbind(dim=1)  # noqa: E741
    s = (v @ l.T).requires_grad_()
    y = torch.tensor(y)
    # eq. 2 of s, and the loss itself, whose gradient by v is that by s times l
    loss = -(y * (s / TAU).log_softmax(1) + y.T * (s / TAU).log_softmax(0)).sum() / B
    np.testing.assert_allclose(torch.autograd.grad(loss, s)[0], expected, atol=1e-12)
    pred = torch.stack((v, l), dim=1).requires_grad_()
    (found,) = torch.autograd.grad(CaCL(TAU, RHO)({"pred": pred}), pred)
    by_v = torch.tensor(expected) @ l
    by_v -= v * (v * by_v).sum(dim=1, keepdim=True)  # what normalising lets through where the length is 1
    np.testing.assert_allclose(found[:, 0], by_v, atol=1e-12)


def test_the_sentences_get_no_gradient_from_the_labels():
    pred = pairs().requires_grad_()
    CaCL(TAU, 1.0)({"pred": pred}).backward()
    fixed = soft_labels(torch.nn.functional.normalize(pairs()[:, 1], dim=1), TAU)[0]
    other = pairs().requires_grad_()
    v, l = torch.nn.functional.normalize(other, dim=2).unbind(dim=1)  # noqa: E741
    s = v @ l.T / TAU
    (-(fixed * s.log_softmax(1) + fixed.T * s.log_softmax(0)).sum() / B).backward()
    torch.testing.assert_close(pred.grad, other.grad)


def test_half_precision_is_widened():
    exact = CaCL()({"pred": pairs(torch.float32)})
    with torch.autocast("cpu", torch.bfloat16):
        found = CaCL()({"pred": pairs(torch.float32)})
        half = CaCL()({"pred": pairs(torch.bfloat16)})
    assert found.dtype == half.dtype == torch.float32
    assert found == exact


def small() -> torch.nn.Module:
    torch.manual_seed(1)
    return torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, D)).double()


def step(network: torch.nn.Module, inputs: torch.Tensor, sentences: torch.Tensor) -> float:
    """Gradients into the network; the loss."""
    loss = CaCL(TAU, RHO)({"pred": torch.stack((network(inputs), sentences), dim=1)})
    loss.backward()
    return loss.item()


def inputs() -> torch.Tensor:
    return torch.randn(B, 4, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


def process(rank: int, store: str, out: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    try:
        network = torch.nn.parallel.DistributedDataParallel(small())
        own = slice(rank * B // 2, (rank + 1) * B // 2)
        assert gathered(inputs()[own]).shape == (B, 4)
        loss = step(network, inputs()[own], pairs()[own, 1])
        torch.save((loss, [p.grad for p in network.module.parameters()]), f"{out}.{rank}")
    finally:
        dist.destroy_process_group()


def test_two_processes_give_the_loss_and_gradient_of_one(tmp_path):
    # begun anew, not forked: this process has threads of earlier tests, and what they hold stays locked in a fork
    torch.multiprocessing.spawn(process, (str(tmp_path / "store"), str(tmp_path / "out")), nprocs=2)
    network = small()
    expected = step(network, inputs(), pairs()[:, 1])
    for rank in range(2):
        loss, gradients = torch.load(tmp_path / f"out.{rank}")
        assert loss == pytest.approx(expected, abs=1e-12)
        for ours, theirs in zip(gradients, network.parameters(), strict=True):
            torch.testing.assert_close(ours, theirs.grad, atol=1e-12, rtol=1e-10)
