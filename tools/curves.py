"""``python -m tools curves``: draw columns of the histories of training runs, such as loss terms, as one SVG."""

from __future__ import annotations

import argparse
from pathlib import Path

from common.errors import UserError


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument(
        "--run", action="append", required=True, metavar="NAME=DIR",
        help="a run's name in the legend and its --output_dir, where history.csv lies",
    )  # fmt: skip
    parser.add_argument(
        "--columns", nargs="+", default=["loss", "val_dice"], metavar="COLUMN", help="of history.csv, a plot each"
    )
    parser.add_argument("--output", required=True, type=Path, help="the SVG file")


def main(args: argparse.Namespace) -> None:
    """Draw and write."""
    from common.files import write_text
    from common.report.curves import curves, read_history

    runs = {}
    for text in args.run:
        name, equals, folder = text.partition("=")
        if not (name and equals and folder):
            raise UserError(f"--run {text}: write NAME=DIR")
        runs[name] = read_history(Path(folder))
    write_text(args.output, curves(runs, args.columns))
    print(args.output)
