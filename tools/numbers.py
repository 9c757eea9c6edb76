"""``python -m tools numbers``: put the scores of evaluations into a document, between its markers."""

from __future__ import annotations

import argparse
from pathlib import Path

from common.errors import UserError


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("--file", required=True, type=Path, help="README.md or a model card")
    parser.add_argument("--key", required=True, help="of the markers <!-- numbers:KEY --> ... <!-- /numbers -->")
    parser.add_argument(
        "--row", action="append", required=True, metavar="NAME=DIR[,DIR]",
        help="a row's name and the folders that tools evaluate wrote, one a seed",
    )  # fmt: skip


def main(args: argparse.Namespace) -> None:
    """Make the table and write it into the document."""
    from common.report.numbers import numbers
    from common.report.tables import fill_markers

    rows = {}
    for text in args.row:
        name, equals, folders = text.partition("=")
        if not (name and equals and folders):
            raise UserError(f"--row {text}: write NAME=DIR or NAME=DIR,DIR")
        rows[name] = [Path(folder) for folder in folders.split(",")]
    changed = fill_markers(args.file, args.key, numbers(rows))
    print(f"{args.file}: {'filled' if changed else 'unchanged'}")
