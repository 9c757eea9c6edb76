"""Slow references in NumPy, one index at a time. They import nothing of ``common``."""

import math

import numpy as np


def linear(x, weight, bias):
    """x (N, I), weight (O, I): y[n, o] = Σ_i x[n, i] w[o, i] + b[o]."""
    y = np.zeros((x.shape[0], weight.shape[0]))
    for n in range(x.shape[0]):
        for o in range(weight.shape[0]):
            y[n, o] = bias[o] + sum(x[n, i] * weight[o, i] for i in range(x.shape[1]))
    return y


def layer_norm(x, weight, bias, eps=1e-5):
    y = np.zeros_like(x)
    for n in range(x.shape[0]):
        mean = sum(x[n]) / x.shape[1]
        variance = sum((a - mean) ** 2 for a in x[n]) / x.shape[1]
        for c in range(x.shape[1]):
            y[n, c] = (x[n, c] - mean) / math.sqrt(variance + eps) * weight[c] + bias[c]
    return y


def attention(target, source, p, heads, mask=None):
    """One sample: target (N, C), source (M, C), mask (M,) True = seen. Output (N, C), weights (heads, N, M)."""
    q, k, v = (linear(a, p[f"{n}.weight"], p[f"{n}.bias"])
               for n, a in (("query", target), ("key", source), ("value", source)))  # fmt: skip
    n_target, n_source, d = len(target), len(source), target.shape[1] // heads
    weights, joined = np.zeros((heads, n_target, n_source)), np.zeros(target.shape)
    for h in range(heads):
        for n in range(n_target):
            score = [sum(q[n, h * d + c] * k[m, h * d + c] for c in range(d)) / math.sqrt(d) for m in range(n_source)]
            e = [math.exp(s) if mask is None or mask[m] else 0.0 for m, s in enumerate(score)]
            for m in range(n_source):
                weights[h, n, m] = e[m] / sum(e)
                for c in range(d):
                    joined[n, h * d + c] += weights[h, n, m] * v[m, h * d + c]
    return linear(joined, p["out.weight"], p["out.bias"]), weights


def conv(x, weight, bias=None, stride=1, padding=0):
    """x (I, H, W), weight (O, I, k, k)."""
    _, height, width = x.shape
    k = weight.shape[2]
    rows, cols = (height + 2 * padding - k) // stride + 1, (width + 2 * padding - k) // stride + 1
    y = np.zeros((weight.shape[0], rows, cols))
    for o, r, c in np.ndindex(y.shape):
        y[o, r, c] = 0 if bias is None else bias[o]
        for i, a, b in np.ndindex(weight.shape[1:]):
            row, col = r * stride + a - padding, c * stride + b - padding
            if 0 <= row < height and 0 <= col < width:
                y[o, r, c] += x[i, row, col] * weight[o, i, a, b]
    return y


def batch_norm(x, p, eps=1e-5):
    """Of an evaluation, by the running statistics: x (C, H, W)."""
    y = np.zeros_like(x)
    for k, r, c in np.ndindex(x.shape):
        spread = math.sqrt(p["running_var"][k] + eps)
        y[k, r, c] = (x[k, r, c] - p["running_mean"][k]) / spread * p["weight"][k] + p["bias"][k]
    return y


def max_pool(x):
    """The largest of each 2 × 2: x (C, H, W)."""
    y = np.zeros((x.shape[0], x.shape[1] // 2, x.shape[2] // 2))
    for k, r, c in np.ndindex(y.shape):
        y[k, r, c] = max(x[k, 2 * r + a, 2 * c + b] for a in range(2) for b in range(2))
    return y


def conv_up(x, weight, shape):
    """Transposed 2×2 convolution of stride 2 into a grid of ``shape``: x (I, h, w), weight (I, O, 2, 2)."""
    y = np.zeros((weight.shape[1], *shape))
    for i, r, c in np.ndindex(x.shape):
        for o, a, b in np.ndindex(weight.shape[1:]):
            y[o, 2 * r + a, 2 * c + b] += x[i, r, c] * weight[i, o, a, b]
    return y


def below(p, name):
    """The parameters under ``name.``, without it."""
    return {key[len(name) + 1 :]: value for key, value in p.items() if key.startswith(name + ".")}


def interactor(x, other, p, heads, mask=None, other_mask=None):
    """Self-attention, cross-attention, feed-forward; each added and then normalised."""

    def norm(i, a):
        return layer_norm(a, p[f"norms.{i}.weight"], p[f"norms.{i}.bias"])

    x = norm(0, x + attention(x, x, below(p, "self_attention"), heads, mask)[0])
    update, weights = attention(x, other, below(p, "cross_attention"), heads, other_mask)
    x = norm(1, x + update)
    hidden = linear(x, p["feedforward.0.weight"], p["feedforward.0.bias"])
    hidden = np.where(hidden > 0, hidden, 0)
    return norm(2, x + linear(hidden, p["feedforward.3.weight"], p["feedforward.3.bias"])), weights


def bridger(x, words, mask, p, heads):
    """One sample: map x (C, h, w), words (L, D), mask (L,).

    Returns out_v, out_t, and (heads, L, h//2, w//2) how cells look at words, and how words look at cells.
    """
    grid = conv(x, p["image_in.weight"], stride=2)
    cells = [(r, c) for r in range(grid.shape[1]) for c in range(grid.shape[2])]
    v = np.array([grid[:, r, c] for r, c in cells])
    v = layer_norm(v, p["image_norm.weight"], p["image_norm.bias"])
    t = linear(words, p["text_in.weight"], p["text_in.bias"])
    t = layer_norm(t, p["text_norm.weight"], p["text_norm.bias"])
    v_new, weights = interactor(v, t, below(p, "image_interactor"), heads, other_mask=mask)
    t_new, back = interactor(t, v, below(p, "text_interactor"), heads, mask=mask)
    for number, (r, c) in enumerate(cells):
        grid[:, r, c] = v_new[number]
    out_v = x + conv_up(grid, p["image_out.weight"], x.shape[1:])
    out_t = words + linear(t_new, p["text_out.weight"], p["text_out.bias"])
    of_cells, of_words = (np.zeros((heads, len(words), *grid.shape[1:])) for _ in range(2))
    for number, (r, c) in enumerate(cells):
        for h, n in np.ndindex(heads, len(words)):
            of_cells[h, n, r, c] = weights[h, number, n]
            of_words[h, n, r, c] = back[h, n, number]
    return out_v, out_t, of_cells, of_words


def subpixel_head(x, p, scale):
    """Conv 3×3, pixel shuffle, zeros before the first rows and columns, mean of scale × scale, 1×1 conv."""
    y = conv(x, p["up.conv_block.weight"], p["up.conv_block.bias"], padding=1)
    channels, (height, width) = y.shape[0] // scale**2, y.shape[1:]
    fine = np.zeros((channels, height * scale, width * scale))
    for c, r, s in np.ndindex(fine.shape):
        fine[c, r, s] = y[c * scale**2 + (r % scale) * scale + s % scale, r // scale, s // scale]
    mean = np.zeros_like(fine)
    for c, r, s in np.ndindex(fine.shape):
        for a in range(scale):
            for b in range(scale):
                if r - a >= 0 and s - b >= 0:
                    mean[c, r, s] += fine[c, r - a, s - b] / scale**2
    return conv(mean, p["out.weight"], p["out.bias"])
