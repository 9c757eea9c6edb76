"""What a network costs: parameters, operations, time and memory for one image and one sentence.

The network is built from the bundle's configuration with random weights: none of this depends on them. Networks that
are compared are measured one after the other in one process, with the same threads and nothing else running.
"""

from __future__ import annotations

import os
import platform
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from common.bundle import configuration_files
from common.engines import amp_dtype
from common.networks.text import FrozenText
from common.runtime.speed import milliseconds
from common.transforms.tokenize import default_text


def cost(
    folder: Path, overlays: Sequence[str] = (), override: Mapping[str, Any] | None = None, repeats: int = 20
) -> dict[str, Any]:
    """Costs of a bundle's network in eval mode: one image of the configured size, the grammar's default sentence.

    Args:
        folder: of the bundle.
        overlays: its configurations on top of ``train.json``.
        override: ids of the configuration and their values, such as ``device``.
        repeats: how often it is timed, after a few that do not count.

    Returns:
        ``parameters``: ``all``; ``trained``, those that the configuration does not freeze; ``parts``, those of each
        child of the network. A parameter that several children share is counted with the first.
        ``flops``: see :func:`flops`.
        ``milliseconds``: median of a call, on a GPU in half precision if the configuration says ``amp``. What the
        network remembers of sentences is forgotten before each call: the sentence is encoded anew each time.
        ``image_size``: such as ``"112 x 112"``.
        ``device``, ``threads``: where it was timed.
        ``peak_bytes``: weights, input and results that are in memory at the same time at most, without what the
        kernels use inside; on a GPU as its allocator counts it, on a CPU see :func:`peak_bytes`.

    Raises:
        UserError: there is no such configuration, or what the configuration finds wrong.
    """
    parser = ConfigParser()
    parser.read_config(configuration_files(folder, ["train", *overlays]))
    parser.update({"bundle_root": str(folder), "load_pretrained": False, **(override or {})})
    device: torch.device = torch.device(parser.get_parsed_content("device"))
    network: nn.Module = parser.get_parsed_content("network").eval()
    height, width = (int(size) for size in parser.get_parsed_content("image_size"))
    half = bool(parser.get_parsed_content("amp")) and device.type == "cuda"
    ids = default_text(parser.get_parsed_content("grammar"), parser.get_parsed_content("text_checkpoint"))
    image = torch.rand(1, network.in_channels, height, width, generator=torch.Generator().manual_seed(0)).to(device)
    text = torch.tensor([ids], device=device)  # (1, L), padded as in use

    def call() -> None:
        with torch.no_grad(), torch.autocast(device.type, dtype=amp_dtype(device), enabled=half):
            forget(network)
            network(image, text=text)
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    return {
        "parameters": parameters(network),
        "flops": flops(call),
        "milliseconds": milliseconds({"network": call}, seconds=0, least=repeats)["network"],
        "image_size": f"{height} x {width}",
        "device": _name(device),
        "threads": torch.get_num_threads(),
        "peak_bytes": peak_bytes(call, network, [image, text]),
    }


def parameters(network: nn.Module) -> dict[str, Any]:
    """Numbers of parameters: ``all``, ``trained`` and, by child, ``parts`` (``own``: of the network itself)."""
    seen: set[int] = set()
    parts: dict[str, int] = {}
    children = list(network.named_children())
    for name, module in [*children, ("own", network)]:
        new = [p for p in module.parameters() if id(p) not in seen]
        seen |= {id(p) for p in new}
        if new or name != "own":
            parts[name] = sum(p.numel() for p in new)
    unique = list(network.parameters())
    return {
        "all": sum(p.numel() for p in unique),
        "trained": sum(p.numel() for p in unique if p.requires_grad),
        "parts": parts,
    }


def flops(call: Callable[[], object]) -> int:
    """Floating point operations of the convolutions and matrix products of a call, two for each multiply-add.

    Attention is computed by its formula meanwhile, for the counter knows none of the fused kernels of a CPU and not
    the fast path of ``nn.MultiheadAttention``. Norms, activations and interpolation are not counted, as usual.
    """
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            call()
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    return int(counter.get_total_flops())


def peak_bytes(call: Callable[[], object], network: nn.Module, inputs: Sequence[torch.Tensor]) -> int:
    """Bytes that are in memory at the same time at most during a call.

    On a GPU what its allocator had given out. Elsewhere weights, buffers, inputs and the results of all operations as
    long as they live: unlike the size of a process it does not depend on what ran before.
    """
    device = inputs[0].device
    if device.type == "cuda":
        forget(network)
        torch.cuda.reset_peak_memory_stats(device)
        call()
        return int(torch.cuda.max_memory_allocated(device))
    with _living([*network.parameters(), *network.buffers(), *inputs]) as living:
        call()
    return living.peak


class _Living(TorchDispatchMode):
    """Follows the bytes of the tensors that live."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known: dict[int, weakref.finalize[Any, Any]] = {}

    def add(self, tensor: torch.Tensor) -> None:
        """Count a tensor's memory, once, until it is given back."""
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._known:
            return
        size = storage.nbytes()
        self.now += size
        self.peak = max(self.peak, self.now)
        self._known[key] = weakref.finalize(storage, self._gone, key, size)
        self._known[key].atexit = False

    def _gone(self, key: int, size: int) -> None:
        del self._known[key]
        self.now -= size

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, torch.Tensor):
                self.add(leaf)
        return out

    def close(self) -> None:
        """Follow nothing any more."""
        for one in self._known.values():
            one.detach()


@contextmanager
def _living(tensors: Sequence[torch.Tensor]) -> Iterator[_Living]:
    """Follow ``tensors`` and all that are made in the block."""
    living = _Living()
    for tensor in tensors:
        living.add(tensor)
    try:
        with living:
            yield living
    finally:
        living.close()


def forget(network: nn.Module) -> None:
    """Make the network forget the sentences that it has encoded."""
    for module in network.modules():
        if isinstance(module, FrozenText):
            module.forget()


def _name(device: torch.device) -> str:
    """A GPU's name, or how many cores of what kind."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.machine()}, {os.cpu_count()} cores"
