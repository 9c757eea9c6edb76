"""``python -m tools sync-bundles``: write what all bundles share into each of them."""

from __future__ import annotations

import argparse


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("--check", action="store_true", help="only say what differs; exit code 1 if anything does")


def main(args: argparse.Namespace) -> int:
    """Say what differed; write, unless --check."""
    from common.bundle import BUNDLES
    from common.runtime.template import TEMPLATE, differences, sync

    found = 0
    for metadata in sorted(BUNDLES.glob("*/configs/metadata.json")):
        bundle = metadata.parent.parent
        if bundle.name == TEMPLATE:
            continue
        lines = differences(bundle) if args.check else sync(bundle)
        found += len(lines)
        for line in lines:
            print(f"{bundle.name}/{line}")
    print(f"{found} differences {'found' if args.check else 'removed'}")
    return 1 if args.check and found else 0
