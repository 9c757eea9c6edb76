"""``python -m tools measure-prior DIR``: how well the position words alone, without image and network, segment."""

from __future__ import annotations

import argparse
from pathlib import Path

from common.errors import UserError


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("root", help="folder of the data set")
    parser.add_argument("--dataset", default="auto", help="auto, qata, mosmed, kvasir, clinicdb or csv (default: auto)")
    parser.add_argument("--split", default="validation", help="train, validation or test (default: validation)")
    parser.add_argument("--kind", help="of image: radiograph, axial_ct or polyp (default: the data set's)")
    parser.add_argument("--limit", type=int, help="this many rows, drawn with seed 0 (default: all)")
    parser.add_argument("--fit-limit", type=int, default=1500, help="training rows for the threshold (default: 1500)")
    parser.add_argument("--laterality", choices=("image", "patient"), help="of a table's sentences that do not say it")
    parser.add_argument("--output", type=Path, help="folder for scores.csv and summary.json (default: print only)")


def main(args: argparse.Namespace) -> None:
    """Choose the threshold on training rows, print the scores of the split."""
    from common.datasets import load_dataset
    from common.metrics import format_table, summarise, write_scores
    from common.prompts.zones import table
    from common.runtime.text_prior import fit_threshold, score_prior

    def items(split: str, limit: int | None) -> list[dict[str, str]]:
        return load_dataset(args.dataset, args.root, split, limit=limit, laterality=args.laterality)

    training, scored = items("train", args.fit_limit), items(args.split, args.limit)
    kind = args.kind or scored[0]["kind"]
    if table(kind).grammar != table(scored[0]["kind"]).grammar:
        raise UserError(f"--kind {kind}: the data set has images of kind {scored[0]['kind']}, whose zones are others")
    threshold = fit_threshold(training, kind)
    rows = score_prior(scored, kind, threshold)
    summary = {"split": args.split, "kind": kind, "threshold": threshold, "fitted_on": len(training), **summarise(rows)}
    print(f"prior of the position words above {threshold:.2f} (best micro Dice on {len(training)} training rows)")
    print(format_table(summary))
    if args.output:
        for path in write_scores(rows, summary, args.output):
            print(path)
