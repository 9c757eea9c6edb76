"""CARAFE and CausalCLIPSeg's equations in NumPy, one index at a time. They import nothing of ``common``."""

import math

import numpy as np

from tests.common.networks import loops
from tests.common.networks.loops import below


def reassembled(x, kernels, factor, k):
    """Wang et al., eq. 2: x (C, h, w), kernels (k·k, σ·h, σ·w), one output pixel after the other."""
    channels, height, width = x.shape
    y = np.zeros((channels, factor * height, factor * width))
    for c, row, col in np.ndindex(y.shape):
        i, j = row // factor, col // factor
        for n in range(-(k // 2), k // 2 + 1):
            for m in range(-(k // 2), k // 2 + 1):
                if 0 <= i + n < height and 0 <= j + m < width:
                    weight = kernels[(n + k // 2) * k + m + k // 2, row, col]
                    y[c, row, col] += weight * x[c, i + n, j + m]
    return y


def carafe(x, p, factor=2, k=3):
    """The whole operator on one sample."""
    code = loops.conv(x, p["compress.weight"], p["compress.bias"])
    code = loops.conv(code, p["encode.weight"], p["encode.bias"], padding=1)
    kernels = np.zeros((k * k, factor * x.shape[1], factor * x.shape[2]))
    for n, row, col in np.ndindex(kernels.shape):
        channel = n * factor**2 + (row % factor) * factor + col % factor
        kernels[n, row, col] = code[channel, row // factor, col // factor]
    for row, col in np.ndindex(kernels.shape[1:]):
        e = np.exp(kernels[:, row, col] - kernels[:, row, col].max())
        kernels[:, row, col] = e / e.sum()
    return loops.conv(reassembled(x, kernels, factor, k), p["out.weight"], p["out.bias"])


def correlate(maps, kernel, bias):
    """Eq. 1 of one sample: maps (C, H, W), kernel (C, K, K)."""
    (channels, height, width), k = maps.shape, kernel.shape[-1]
    y = np.full((height, width), float(bias))
    for r, c in np.ndindex(y.shape):
        for i, a, b in np.ndindex(channels, k, k):
            row, col = r + a - k // 2, c + b - k // 2
            if 0 <= row < height and 0 <= col < width:
                y[r, c] += kernel[i, a, b] * maps[i, row, col]
    return y


def batch_norm(x, p, statistics=None):
    """In eval mode, x (C, h, w); ``statistics`` of another norm, if not its own."""
    statistics = p if statistics is None else statistics
    y = np.zeros_like(x)
    for c, r, s in np.ndindex(x.shape):
        mean, variance = statistics["running_mean"][c], statistics["running_var"][c]
        y[c, r, s] = (x[c, r, s] - mean) / math.sqrt(variance + 1e-5) * p["weight"][c] + p["bias"][c]
    return y


def conv_norm_relu(x, p):
    size = p["0.weight"].shape[-1]
    return np.maximum(batch_norm(loops.conv(x, p["0.weight"], padding=size // 2), below(p, "1")), 0)


def coord_conv(x, p):
    """Two more channels: −1 to 1 from the left to the right, and from the top to the bottom."""
    channels, height, width = x.shape
    wider = np.zeros((channels + 2, height, width))
    wider[:channels] = x
    for r, s in np.ndindex(height, width):
        wider[channels, r, s] = -1 + 2 * s / (width - 1)
        wider[channels + 1, r, s] = -1 + 2 * r / (height - 1)
    return conv_norm_relu(wider, p)


def masker(x, p):
    x = coord_conv(x, below(p, "layers.0.conv"))
    x = conv_norm_relu(x, below(p, "layers.1"))
    x = coord_conv(x, below(p, "layers.2.conv"))
    x = batch_norm(loops.conv(x, p["layers.3.weight"], p["layers.3.bias"], padding=1), below(p, "layers.4"))
    return 1 / (1 + np.exp(-x))


def neck(maps, p):
    """F^c, F^s and the three M of one sample; maps (C, 2h, 2w), (C', h, w), (C, h/2, w/2)."""
    channels, height, width = maps[0].shape
    third = np.zeros((channels, height // 2, width // 2))
    for c, r, s in np.ndindex(third.shape):
        third[c, r, s] = sum(maps[0][c, 2 * r + a, 2 * s + b] for a in (0, 1) for b in (0, 1)) / 4
    fourth = conv_norm_relu(conv_norm_relu(maps[1], below(p, "middle.0")), below(p, "middle.1"))
    scales = [third, fourth, carafe(maps[2], below(p, "carafe"))]
    masks = [masker(v, below(p, f"maskers.{i}")) for i, v in enumerate(scales)]
    streams = []
    for confounding in (False, True):
        joined = np.zeros((3 * channels, height // 2, width // 2))
        for i, c, r, s in np.ndindex(3, *third.shape):
            mask = masks[i][c, r, s]
            joined[i * channels + c, r, s] = (1 - mask if confounding else mask) * scales[i][c, r, s]
        fused = loops.conv(joined, p["fusion.conv.weight"])
        statistics = below(p, "fusion.confounding_norm") if confounding else None
        streams.append(np.maximum(batch_norm(fused, below(p, "fusion.norm"), statistics), 0))
    return *streams, masks


def bilinear(x, scale):
    """Upsampling by whole numbers, pixels' centres in place, edges repeated."""
    channels, height, width = x.shape
    y = np.zeros((channels, scale * height, scale * width))
    for c, r, s in np.ndindex(y.shape):
        row, col = max((r + 0.5) / scale - 0.5, 0), max((s + 0.5) / scale - 0.5, 0)
        i, j = int(row), int(col)
        below_i, right_j = min(i + 1, height - 1), min(j + 1, width - 1)
        u, v = row - i, col - j
        top = (1 - v) * x[c, i, j] + v * x[c, i, right_j]
        bottom = (1 - v) * x[c, below_i, j] + v * x[c, below_i, right_j]
        y[c, r, s] = (1 - u) * top + u * bottom
    return y


def decoder(x, sentence, p, scale, k=3):
    """S (H, W) of F (C, h, w) and τ (T,)."""
    x = conv_norm_relu(bilinear(x, scale // 4), below(p, "up.1"))
    x = conv_norm_relu(bilinear(x, 4), below(p, "up.3"))
    x = loops.conv(x, p["up.4.weight"], p["up.4.bias"])
    made = loops.linear(sentence[None], p["text.weight"], p["text.bias"])[0]
    kernel = np.zeros((len(x), k, k))
    for i, a, b in np.ndindex(kernel.shape):
        kernel[i, a, b] = made[i * k * k + a * k + b]
    return correlate(x, kernel, made[-1])


def cross_entropy(logits, target):
    """Binary, the mean over all pixels."""
    total = 0.0
    for place in np.ndindex(logits.shape):
        q = 1 / (1 + math.exp(-logits[place]))
        total -= target[place] * math.log(q) + (1 - target[place]) * math.log(1 - q)
    return total / logits.size
