"""``python -m tools measure-verdict DIR``: how often the safety verdict is right, at true masks and sentences."""

from __future__ import annotations

import argparse


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("root", help="folder of the data set")
    parser.add_argument("--dataset", default="auto", help="auto, qata, mosmed, kvasir, clinicdb or csv (default: auto)")
    parser.add_argument("--split", default="validation", help="train, validation or test (default: validation)")
    parser.add_argument("--kind", default="radiograph", help="of image: radiograph, axial_ct or polyp")
    parser.add_argument("--limit", type=int, help="this many rows, drawn with seed 0 (default: all)")
    parser.add_argument("--fit", action="store_true", help="print the numbers of mirror.py and upright.py instead")


def main(args: argparse.Namespace) -> None:
    """Print the figures, or the fitted numbers."""
    from common.batch.measure_verdict import fit, lines, measure
    from common.datasets import load_dataset
    from common.prompts.zones import table

    grammar = table(args.kind).grammar
    items = load_dataset(args.dataset, args.root, args.split, limit=args.limit)
    if args.fit:
        weights, template = fit(items)
        print("WEIGHTS =", weights.tolist())
        print("TEMPLATE =", template.tolist())
        return
    print("\n".join(lines(measure(items, args.kind, grammar))))
