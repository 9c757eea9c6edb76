"""The log of a run: one JSON object a line, without names and sentences."""

from __future__ import annotations

import contextlib
import json
import logging
import time
from collections.abc import Iterator
from pathlib import Path

from common.errors import UserError


class _Lines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(record.created)),
            "level": record.levelname.lower(), "event": record.getMessage(),
        }  # fmt: skip
        return json.dumps(line | getattr(record, "facts", {}))


@contextlib.contextmanager
def write_log(path: Path | None) -> Iterator[None]:
    """Append what the logger ``segment`` is told to a file, while the block runs; None writes none.

    Raises:
        UserError: the file cannot be written.
    """
    log = logging.getLogger("segment")
    if path is None:
        yield
        return
    try:
        handler = logging.FileHandler(path, encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror}); name another file as --log") from error
    handler.setFormatter(_Lines())
    level = log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(level)
        handler.close()
