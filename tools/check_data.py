"""``python -m tools check-data DIR``: what a data set holds and what is wrong with it."""

from __future__ import annotations

import argparse
import sys


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("root", help="folder of the data set, or of a CSV with image, mask and text")
    parser.add_argument("--dataset", default="auto", help="auto, qata, mosmed, kvasir, clinicdb or csv (default: auto)")
    parser.add_argument("--split", action="append", help="train, validation or test; may be repeated (default: all)")
    parser.add_argument("--laterality", choices=("image", "patient"), help="of a CSV without that column")
    parser.add_argument("--kind", help="of image: radiograph, axial_ct or polyp (default: the data set's own)")
    parser.add_argument("--notes", type=int, default=20, help="lines of notes to print, -1 for all (default: 20)")


def main(args: argparse.Namespace) -> int:
    """Print summary, faults and notes; 1 if there are faults."""
    from common.datasets.check import check, summary
    from common.datasets.listing import SPLITS
    from common.errors import UserError

    wanted = tuple(args.split or SPLITS)
    for split in wanted:
        if split not in SPLITS:
            raise UserError(f"--split: {split!r} is unknown; use train, validation or test")

    def progress(done: int, total: int) -> None:
        if sys.stderr.isatty() and (done % 50 == 0 or done == total):
            print(f"\r{done}/{total}", end="\n" if done == total else "", file=sys.stderr, flush=True)

    report = check(
        args.dataset, args.root, splits=wanted, laterality=args.laterality, kind=args.kind, progress=progress
    )
    print(summary(report))
    for line in report.faults:
        print(f"fault: {line}")
    shown = report.notes if args.notes < 0 else report.notes[: args.notes]
    for line in shown:
        print(f"note: {line}")
    if len(shown) < len(report.notes):
        print(f"{len(report.notes) - len(shown)} more notes: --notes -1 shows all")
    return 0 if report.usable else 1
