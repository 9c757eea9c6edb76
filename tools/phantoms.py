"""``python -m tools phantoms DIR``: write phantom chest radiographs."""

from __future__ import annotations

import argparse


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("output", help="folder to write into")
    parser.add_argument("--count", type=int, default=600, help="images of the data set (default: 600)")
    parser.add_argument("--size", type=int, default=128, help="height and width in pixels (default: 128)")
    parser.add_argument("--seed", type=int, default=0, help="another seed, other phantoms (default: 0)")
    parser.add_argument("--inbox", type=int, default=12, help="images, DICOM and PNG, to segment (default: 12)")


def main(args: argparse.Namespace) -> int:
    """Write them and say where."""
    from common.datasets import phantoms

    table = phantoms.write(args.output, count=args.count, size=args.size, seed=args.seed, inbox=args.inbox)
    print(f"{args.count} phantoms of {args.size} x {args.size} pixels: {table}")
    if args.inbox:
        print(f"{args.inbox} images to segment, with sentences: {table.parent / 'inbox' / 'prompts.csv'}")
    return 0
