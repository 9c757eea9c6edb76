"""``python -m tools export``: a bundle's network as TorchScript, ONNX and ``.pt2``, proved to compute the same."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from common.errors import UserError
from tools.settings import add_settings, settings


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("--bundle", required=True, help="a bundle's folder or name, such as bundles/mmi_unet")
    parser.add_argument("--overlay", action="append", default=[], help="a configuration on top, such as demo")
    parser.add_argument("--weights", help="trained weights (default: the bundle's models/model.pt)")
    add_settings(parser)
    parser.add_argument("--output", type=Path, help="folder (default: that of the weights, where --backend looks)")
    parser.add_argument("--formats", default="ts,onnx,pt2", help="of ts, onnx and pt2 (default: all)")
    parser.add_argument(
        "--prompts", choices=("encoder", "table"), default="encoder",
        help="the text encoder (default), or a table of all canonical captions, so that it never runs",
    )  # fmt: skip
    parser.add_argument(
        "--quantize", choices=("int8", "fp16"),
        help="also a smaller ONNX file, kept if Dice on held-out images falls by less than 0.5 points",
    )  # fmt: skip
    parser.add_argument("--data", type=Path, help="for --quantize: a data set's folder")
    parser.add_argument("--dataset", default="auto", help="auto, qata, mosmed, kvasir, clinicdb or csv")
    parser.add_argument("--calibration", type=int, default=64, help="images of its training split for int8 (64)")
    parser.add_argument("--held-out", type=int, default=100, help="images of its validation split (100)")


def main(args: argparse.Namespace) -> int:
    """Exit code: 1 if the quantised file was not kept."""
    from common.bundle import bundle_folder, configuration_files
    from common.runtime.export.export import export
    from common.runtime.export.formats import FORMATS
    from common.runtime.model import load

    formats = [name.strip() for name in args.formats.split(",") if name.strip()]
    for name in formats:
        if name not in FORMATS:
            raise UserError(f"--formats {name}: is unknown; write some of {','.join(FORMATS)}")
    if args.quantize and (args.data is None or "onnx" not in formats):
        raise UserError(f"--quantize {args.quantize}: needs the format onnx, and --data DIR of images with masks")
    override: dict[str, Any] = settings(
        args.set, configuration_files(bundle_folder(args.bundle), ["inference", *args.overlay])
    )
    if args.weights:
        override["weights"] = args.weights
    model = load(args.bundle, args.overlay, "cpu", **override)
    export(model, args.output, formats, args.prompts == "table", lambda line: print(line, flush=True))
    if not args.quantize:
        return 0
    from common.report.tables import markdown_table
    from common.runtime.export.reduce import MOST, reduce

    folder = args.output or model.weights.parent
    source = folder / f"{model.weights.stem}{'_table' if args.prompts == 'table' else ''}.onnx"
    found = reduce(
        model, source, args.quantize, args.data, args.dataset, args.calibration, args.held_out,
        lambda line: print(line, flush=True),
    )  # fmt: skip
    print(f"\n{found.images} held-out images, {model.device}:\n")
    print(markdown_table(found.rows, list(found.rows[0])))
    if found.path is None:
        print(f"not kept: Dice falls by {MOST} points or more; the files without --quantize stay")
        return 1
    print(f"{found.path}: kept, Dice falls by less than {MOST} points")
    return 0
