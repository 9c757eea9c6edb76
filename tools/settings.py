"""``--set ID=VALUE``: other values of a bundle's configuration, for the commands that load one."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from common.bundle import is_code
from common.errors import UserError


def add_settings(parser: argparse.ArgumentParser) -> None:
    """The option, ``args.set``."""
    parser.add_argument(
        "--set", action="append", default=[], metavar="ID=VALUE",
        help="another value of the configuration, such as text_checkpoint=encoders/cxr-bert (repeatable)",
    )  # fmt: skip


def settings(pairs: Iterable[str], files: Sequence[str | Path]) -> dict[str, Any]:
    """The values by their ids, as ``bundle run`` and :func:`common.load` take them.

    Args:
        pairs: ``ID=VALUE`` each; the value is JSON, or else text. It is data: expressions, macros and references are
            refused, and so is an id whose first part no file has.
        files: of the configuration.

    Raises:
        UserError: one of them cannot be used.
    """
    known = {_first(key) for file in files for key in json.loads(Path(file).read_text(encoding="utf-8"))}
    found: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        key = key.strip()
        if not equals or not key:
            raise UserError(f"--set {pair}: is no ID=VALUE; write it like text_checkpoint=encoders/cxr-bert")
        if _first(key) not in known:
            raise UserError(f"--set {pair}: the configuration has no '{_first(key)}'; see the bundle's configs")
        try:
            value = json.loads(text)
        except ValueError:
            value = text
        if is_code(value):
            raise UserError(f"--set {pair}: a value that starts with $, % or @ is not taken; write the value itself")
        found[key] = value
    return found


def _first(key: str) -> str:
    return re.split("::|#", key)[0]
