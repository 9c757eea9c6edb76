"""``python -m tools bench-kan``: time and memory of the KAN layer, against the usual formulation and a linear layer."""

from __future__ import annotations

import argparse
import functools
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

# C2Seg's stages at 224 x 224: grid side and channels
STAGES = ((112, 16), (56, 32), (28, 128), (14, 160), (7, 256))


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("--batch", type=int, default=32, help="images (32, the paper's)")
    parser.add_argument("--repeats", type=int, default=3, help="of each measurement; the median is shown (3)")
    parser.add_argument("--device", help="such as cpu or cuda (default: a GPU if there is one)")


def main(args: argparse.Namespace) -> None:
    """Print a table: one row for each stage and layer, then how many times less and faster ours is."""
    import torch

    from common.networks.blocks.kan import KANLinear
    from common.report.tables import markdown_table
    from common.runtime.model import device_of

    device = device_of(args.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    kinds: dict[str, Callable[[int, int], Any]] = {
        "KANLinear": KANLinear,
        "Cox-de Boor": recursive,
        "linear": torch.nn.Linear,
    }
    apart = measure if device.type == "cuda" else measure_apart
    print(f"{device}, {torch.get_num_threads()} threads, batch {args.batch}, forward and backward, float32\n")
    rows, totals = [], dict.fromkeys(kinds, 0.0)
    for side, channels in STAGES:
        for out in (channels, 2 * channels):
            found = {}
            for name, make in kinds.items():
                shape = args.batch * side * side, channels
                found[name] = apart(functools.partial(make, channels, out), *shape, device, args.repeats)
                totals[name] += float(found[name]["ms"])
            for name, figures in found.items():
                times = {
                    f"{key}, times ours": f"{float(value) / float(found['KANLinear'][key]):.2f}"
                    if value and float(found["KANLinear"][key]) else ""
                    for key, value in figures.items()
                }  # fmt: skip
                rows.append({"stage": f"{side}²", "in → out": f"{channels} → {out}", "layer": name, **figures, **times})
    print(markdown_table(rows, list(rows[0])))
    ours = totals["KANLinear"]
    print("All together: " + ", ".join(f"{name} {ms:.0f} ms ({ms / ours:.2f})" for name, ms in totals.items()))


def recursive(in_channels: int, out_channels: int) -> Any:
    """The formulation of efficient-kan and U-KAN: bases by the recursion, every step kept by autograd."""
    import torch
    from torch.nn import functional as F

    class Recursive(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            knots = torch.arange(-3, 9) * 0.4 - 1
            self.register_buffer("knots", knots.expand(in_channels, -1).contiguous())
            self.base = torch.nn.Parameter(torch.randn(out_channels, in_channels) * in_channels**-0.5)
            self.spline = torch.nn.Parameter(torch.randn(out_channels, in_channels, 8) * 0.1)
            self.scale = torch.nn.Parameter(torch.randn(out_channels, in_channels))

        def forward(self, x: Any) -> Any:
            t, column = self.knots, x[..., None]
            bases = ((column >= t[:, :-1]) & (column < t[:, 1:])).to(x.dtype)
            for k in range(1, 4):
                rising = (column - t[:, : -k - 1]) / (t[:, k:-1] - t[:, : -k - 1]) * bases[..., :-1]
                bases = rising + (t[:, k + 1 :] - column) / (t[:, k + 1 :] - t[:, 1:-k]) * bases[..., 1:]
            weight = self.spline * self.scale[..., None]
            return F.linear(F.silu(x), self.base) + F.linear(bases.flatten(-2), weight.flatten(1))

    return Recursive()


def measure(make: Callable[[], Any], rows: int, channels: int, device: Any, repeats: int) -> dict[str, str]:
    """Milliseconds (of CPU time without a GPU), peak of the memory taken, bytes kept for the backward pass."""
    import torch

    torch.manual_seed(0)
    layer = make().to(device)
    layer(torch.randn(64, channels, device=device)).sum().backward()  # libraries load at the first call
    x = torch.randn(rows, channels, device=device, requires_grad=True)
    own = {parameter.untyped_storage().data_ptr() for parameter in (*layer.parameters(), *layer.buffers())}
    kept: dict[int, int] = {}

    def keep(tensor: Any) -> Any:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    # other programs of a busy machine do not count in a process's own time
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    seconds = []
    before, peak = _in_use(device), None
    for number in range(repeats + 1):
        layer.zero_grad(set_to_none=True)
        x.grad = None
        start = clock()
        layer(x).sum().backward()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        if number == 0:  # also the one that an allocator has nothing left over from
            peak = _peak(device, before)
        else:
            seconds.append(clock() - start)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        layer(x)
    return {
        "ms": f"{1e3 * statistics.median(seconds):.1f}",
        "peak MB": "" if peak is None else f"{peak / 1e6:.0f}",
        "kept, bytes a number": f"{sum(kept.values()) / x.numel():.1f}",
    }


def measure_apart(*arguments: Any) -> dict[str, str]:
    """As :func:`measure`, in a process of its own: memory that others have freed would hide what is taken."""
    import multiprocessing

    if not _CLEAR.exists():
        return measure(*arguments)
    ours, theirs = multiprocessing.get_context("fork").Pipe()
    process = multiprocessing.get_context("fork").Process(target=lambda: theirs.send(measure(*arguments)))
    process.start()
    theirs.close()
    found = ours.recv()
    process.join()
    return found


_CLEAR = Path("/proc/self/clear_refs")  # Linux keeps the peak of a process, and forgets it when asked


def _in_use(device: Any) -> int:
    """Bytes in use; from here on the peak is counted."""
    import torch

    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.memory_allocated(device)
    if not _CLEAR.exists():
        return 0
    _CLEAR.write_text("5")
    return _status("VmRSS")


def _peak(device: Any, before: int) -> int | None:
    """The most bytes in use since, beyond those of before; None where the system does not tell."""
    import torch

    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) - before
    return _status("VmHWM") - before if _CLEAR.exists() else None


def _status(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(f"{key}:")).split()[1])
