"""``python -m tools bench-backends``: latency and throughput of a bundle's network, each way it can be computed."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tools.settings import add_settings, settings


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("--bundle", required=True, help="a bundle's folder or name")
    parser.add_argument("--overlay", action="append", default=[], help="a configuration on top, such as demo")
    parser.add_argument("--weights", help="trained weights (default: the bundle's models/model.pt)")
    add_settings(parser)
    parser.add_argument("--exported", type=Path, help="folder of the exported files (default: that of the weights)")
    parser.add_argument("--batch", type=int, action="append", help="images at a time (default: 1 and 16)")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each network at each size (5)")
    parser.add_argument("--device", help="such as cpu or cuda (default: a GPU if there is one)")
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out; it needs a C++ compiler")


def main(args: argparse.Namespace) -> None:
    """Print milliseconds and images a second, and how many times faster than PyTorch as it is."""
    import torch

    from common.bundle import bundle_folder, configuration_files
    from common.report.tables import markdown_table
    from common.runtime.model import load

    override = settings(args.set, configuration_files(bundle_folder(args.bundle), ["inference", *args.overlay]))
    if args.weights:
        override["weights"] = args.weights
    model = load(args.bundle, args.overlay, args.device, **override)
    networks = _networks(model, args)
    print(f"{model.metadata['name']}, {model.device}, {torch.get_num_threads()} threads; medians")
    for batch in args.batch or [1, 16]:
        rows = _times(model, networks, batch, args.seconds)
        print(f"\nbatch {batch}\n\n{markdown_table(rows, list(rows[0]))}", end="", flush=True)


def _networks(model: Any, args: argparse.Namespace) -> dict[str, Callable[..., Any]]:
    """By name, PyTorch as it is first; files that are not there are left out."""
    import torch

    from common.runtime.backends import open_exported

    found: dict[str, Callable[..., Any]] = {"PyTorch": _forgetting(model.network)}
    if model.takes_text:
        found["PyTorch, sentence known"] = model.network
    if not args.no_compile:
        found["PyTorch, compiled"] = torch.compile(model.network)
    folder = args.exported or model.weights.parent
    stem = model.weights.stem
    for ending in (".ts", ".onnx", "_int8.onnx", "_fp16.onnx", "_table.onnx", "_table_int8.onnx"):
        path = folder / f"{stem}{ending}"
        if path.is_file():
            found[path.name] = open_exported(path, model.device)
        else:
            print(f"{path}: is not there and left out; tools export writes it")
    return found


def _forgetting(network: Any) -> Callable[..., Any]:
    """The network with sentences that it has not met before: it remembers their states otherwise."""
    from common.networks.text import FrozenText

    frozen = [module for module in network.modules() if isinstance(module, FrozenText)]

    def call(*inputs: Any) -> Any:
        for module in frozen:
            module.forget()
        return network(*inputs)

    return call


def _times(model: Any, networks: dict[str, Callable[..., Any]], batch: int, seconds: float) -> list[dict[str, Any]]:
    import torch

    from common.networks.base import TextNetwork
    from common.prompts.captions import canonical_captions
    from common.runtime.export.facts import tokenizer_of
    from common.runtime.speed import milliseconds

    channels = model.metadata["network_data_format"]["inputs"]["image"]["num_channels"]
    size = model.parser.get_parsed_content("image_size")
    inputs = [torch.randn(batch, channels, *size, device=model.device)]
    if isinstance(model.network, TextNetwork):
        tokenizer, captions = tokenizer_of(model), canonical_captions(model.grammar)
        rows = [tokenizer.encode(captions[37 * place % len(captions)]) for place in range(batch)]
        inputs.append(torch.stack([torch.from_numpy(row) for row in rows]).to(model.device))

    def timed(network: Callable[..., Any]) -> Callable[[], Any]:
        def call() -> None:
            network(*inputs)
            if model.device.type == "cuda":
                torch.cuda.synchronize(model.device)

        return call

    with torch.no_grad():
        taken = milliseconds({name: timed(network) for name, network in networks.items()}, seconds)
    first = taken["PyTorch"]
    return [
        {"network": name, "ms": f"{ms:.1f}", "images a second": f"{1e3 * batch / ms:.1f}", "times": f"{first / ms:.2f}"}
        for name, ms in taken.items()
    ]
