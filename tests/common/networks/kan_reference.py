"""KAN layer in NumPy, one index at a time, bases by the recursion of Cox and de Boor. Imports nothing of ``common``."""

import math

import numpy as np

KNOTS = [-1 + 0.4 * (number - 3) for number in range(12)]  # grid of five on [-1, 1], three more at each side


def cox_de_boor(x: float, number: int, order: int) -> float:
    """B_{number, order}(x) as the recursion has it."""
    t = KNOTS
    if order == 0:
        return float(t[number] <= x < t[number + 1])
    rising = (x - t[number]) / (t[number + order] - t[number])
    falling = (t[number + order + 1] - x) / (t[number + order + 1] - t[number + 1])
    return rising * cox_de_boor(x, number, order - 1) + falling * cox_de_boor(x, number + 1, order - 1)


def kan(x: np.ndarray, p: dict[str, np.ndarray]) -> np.ndarray:
    """x (R, in), p with ``base`` and ``scale`` (out, in) and ``spline`` (out, 8, in): (R, out)."""
    y = np.zeros((len(x), len(p["base"])))
    for r in range(len(x)):
        for i in range(x.shape[1]):
            bases = [cox_de_boor(x[r, i], g, 3) for g in range(8)]
            silu = x[r, i] / (1 + math.exp(-x[r, i]))
            for o in range(len(y[0])):
                y[r, o] += p["base"][o, i] * silu
                for g in range(8):
                    y[r, o] += p["scale"][o, i] * p["spline"][o, g, i] * bases[g]
    return y
