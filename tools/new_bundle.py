"""``python -m tools new-bundle NAME``: begin a new method."""

from __future__ import annotations

import argparse


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("name", help="of the method, such as my_method")


def main(args: argparse.Namespace) -> None:
    """Make the bundle and say what to change."""
    from common.runtime.template import ALLOWED, new_bundle

    bundle = new_bundle(args.name)
    print(f"{bundle}: a copy of the template that trains as it is")
    print(f"change in configs/train.json and configs/inference.json what is yours: {', '.join(ALLOWED)}")
    print("write your network (common/networks), its model card (docs/README.md) and metadata.json;")
    print("see docs/adding-a-method.md; the base tests run over it by themselves")
