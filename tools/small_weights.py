"""``python -m tools small-weights``: for maintainers: the weights of a bundle that are in git, from a training."""

from __future__ import annotations

import argparse
from pathlib import Path


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("weights", type=Path, help="model.pt in the folder of a training with the overlay demo")
    parser.add_argument("--bundle", required=True, help="a bundle's name or folder; it has an overlay small")
    parser.add_argument(
        "--trained-on", action="append", required=True, metavar="NAME",
        help="of the data: the beginning of a paragraph of docs/data_license.txt, such as QaTa-COV19-v2 (repeatable)",
    )  # fmt: skip
    parser.add_argument("--data", type=Path, help="a data set's folder: masks before and after are compared on it")
    parser.add_argument("--split", default="validation", help="of it: train, validation (default) or test")
    parser.add_argument("--limit", type=int, help="at most so many images of it")


def main(args: argparse.Namespace) -> None:
    """Write models/small.pt and small.json, and say what they are."""
    from common.bundle import bundle_folder
    from common.datasets import load_dataset
    from common.runtime.small import write_small

    items = [] if args.data is None else load_dataset("auto", args.data, args.split, limit=args.limit)
    made = write_small(bundle_folder(args.bundle), args.weights, args.trained_on, items)
    print(f"{made.path}: {made.path.stat().st_size:,} bytes, {made.parameters:,} parameters, float16")
    if (found := made.agreement) is None:
        print("masks were not compared: give --data")
        return
    share = 100 * found.other_pixels / found.pixels
    print(f"masks on {found.images} images: {found.other_pixels:,} of {found.pixels:,} pixels differ ({share:.4f} %)")
    for name, (before, after) in (("micro", found.dice), ("per image", found.dice_per_image)):
        print(f"Dice {name}: {before:.3f} %, in half precision {after:.3f} %")
