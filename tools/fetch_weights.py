"""``python -m tools fetch-weights``: put weights that are not in git into the bundles, from a folder and checked."""

from __future__ import annotations

import argparse
from pathlib import Path

from common.errors import UserError


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "--from", dest="folder", type=Path, metavar="DIR",
        help="folder with the weights, as BUNDLE/models/model.pt or by any name, whole or in parts of `split -b`",
    )  # fmt: skip
    what.add_argument("--list", action="store_true", help="show what each bundle wants, and whether it is there")
    what.add_argument(
        "--write", action="store_true", help="for maintainers: list the weights that are in the bundle now"
    )
    parser.add_argument(
        "--bundle", action="append", default=[], metavar="NAME", help="a bundle's name or folder (default: all)"
    )
    parser.add_argument(
        "--replace", action="store_true", help="replace other weights; they are kept as previous_model.pt"
    )


def main(args: argparse.Namespace) -> int:
    """Place, show or list the files, a line each; exit code 1 if one could not be placed. ``--list`` judges nothing."""
    from common.bundle import BUNDLES, bundle_folder
    from common.runtime.large_files import LIST, Source, fetch, read_list, write_list

    if args.write and not args.bundle:
        raise UserError("--write: name the bundle whose weights shall be listed: --bundle NAME")
    folders = [bundle_folder(name) for name in args.bundle] or sorted(path.parent for path in BUNDLES.glob(f"*/{LIST}"))
    if args.write:
        for folder in folders:
            for entry in write_list(folder):
                print(f"{entry.name}: {entry.size:,} bytes, SHA-256 {entry.sha256}")
        return 0
    source = None if args.list else Source(args.folder)
    good = True
    for folder in folders:
        entries = read_list(folder)
        if not entries:
            print(f"{folder.name}: lists no weights; train it, or see its card")
        if source is None:
            for entry in entries:
                size = "" if entry.size is None else f"{entry.size:,} bytes, "
                print(f"{entry.name}: {entry.state()}, {size}SHA-256 {entry.sha256}")
            continue
        for outcome in fetch(entries, source, args.replace):
            good &= outcome.good
            print(outcome.line, flush=True)
    return 0 if good else 1
