"""``python -m tools package``: a bundle as one archive that runs in an empty environment."""

from __future__ import annotations

import argparse
from pathlib import Path

from .settings import add_settings


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("--bundle", required=True, help="folder or name of a trained bundle")
    parser.add_argument("--output", type=Path, help="the archive (NAME-VERSION.zip)")
    parser.add_argument("--overlay", nargs="+", default=[], help="configurations to merge in, such as paper")
    parser.add_argument("--weights", help="other weights than models/model.pt")
    parser.add_argument("--wheelhouse", action="store_true", help="add the wheels of all packages (pip fetches them)")
    parser.add_argument(
        "--torch", default="", metavar="VERSION",
        help="build in the wheelhouse: 2.13.0 the index's own (for Linux CUDA's), 2.13.0+cpu (the one installed here)",
    )  # fmt: skip
    add_settings(parser)


def main(args: argparse.Namespace) -> None:
    """Write it and say what is in it."""
    from common.bundle import bundle_folder, configuration_files
    from common.runtime.model import Processing
    from common.serving.package import package
    from tools.settings import settings

    folder = bundle_folder(args.bundle)
    override = settings(args.set, configuration_files(folder, ["inference", "train", *args.overlay]))
    if args.weights:
        override["weights"] = args.weights
    metadata = Processing(folder, args.overlay, **override).metadata
    archive = args.output or Path(f"{metadata['name']}-{metadata['version']}.zip")
    packed = package(folder, archive, args.overlay, override, args.wheelhouse, args.torch)
    size = packed.archive.stat().st_size / 2**20
    wheels = f"all wheels (torch {packed.packages['torch']})" if args.wheelhouse else "this package's wheel"
    print(f"{packed.archive}: {size:.0f} MiB; {packed.bundle}, {wheels}, a lock of {len(packed.packages)} packages")
