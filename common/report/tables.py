"""Tables as Markdown and CSV, and the numbers in README and model cards, which a command fills in.

A number that was measured never stands in a document by hand, but between two markers::

    <!-- numbers:unet -->
    ...
    <!-- /numbers -->
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from common.errors import UserError
from common.files import write_text


def markdown_table(rows: Iterable[Mapping[str, object]], columns: Sequence[str]) -> str:
    """The columns of the rows as a Markdown table; numbers stand at the right, what is missing is empty."""
    cells = [["" if row.get(c) is None else _cell(row[c]) for c in columns] for row in rows]
    right = [any(line[i] for line in cells) and all(_number(line[i]) for line in cells) for i in range(len(columns))]
    lines = [[_cell(c) for c in columns], ["---:" if r else "---" for r in right], *cells]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def csv_table(rows: Iterable[Mapping[str, object]], columns: Sequence[str]) -> str:
    """The columns of the rows as CSV with a header; other keys are left out, what is missing is empty."""
    text = io.StringIO(newline="")
    table = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    return text.getvalue()


def fill_markers(file: str | Path, key: str, text: str) -> bool:
    """Put ``text`` between the markers of ``key`` in a document, atomically.

    Returns:
        Whether the document changed.

    Raises:
        UserError: the document is missing, has no such markers or has them twice; the text holds a marker.
    """
    file = Path(file)
    if not file.is_file():
        raise UserError(f"{file}: no such document; its numbers cannot be filled in")
    if "<!-- numbers:" in text or "<!-- /numbers -->" in text:
        raise UserError(f"{file}: the text for numbers:{key} holds a marker itself; leave it out")
    old = file.read_text(encoding="utf-8")
    begin = f"<!-- numbers:{key} -->"
    # the body stops at the next marker of any kind: an unclosed one does not swallow what follows it
    found = re.findall(re.escape(begin) + r"((?:(?!<!-- /?numbers).)*)<!-- /numbers -->", old, re.DOTALL)
    if len(found) != 1 or old.count(begin) != 1:
        raise UserError(
            f"{file}: {old.count(begin)} markers {begin!r}, {len(found)} of them closed by "
            "'<!-- /numbers -->'; write exactly one pair"
        )
    new = old.replace(f"{begin}{found[0]}<!-- /numbers -->", f"{begin}\n{text.strip()}\n<!-- /numbers -->")
    if new == old:
        return False
    write_text(file, new)
    return True


def _cell(value: object) -> str:
    """A value in one Markdown cell: one line, with bars escaped; floats with two decimals."""
    text = f"{value:.2f}" if isinstance(value, float) else str(value)
    return " ".join(text.split()).replace("|", "\\|")


def _number(cell: str) -> bool:
    """Whether a cell is empty or starts as a number does ("90.59", "+1.2", "85.2 [84, 86]")."""
    return not cell or re.match(r"[-+−]?\d", cell) is not None
