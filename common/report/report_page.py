"""The report of a folder: one page to sort, filter and leaf through up to 100,000 rows, reviews first.

``report.html`` opens from a disk (``file://``) and needs nothing from elsewhere. Beside it, in ``report/``, lie small
pictures, loaded when they are scrolled to; the columns that the page shows and searches, in parts of 5,000 rows, all
loaded at once; and whole rows in parts of 200, loaded when somebody opens a row. Parts are scripts, since a browser
loads no JSON from a disk. Rows reach the page as text nodes, never as HTML.

50,000 rows (10.8 MB of columns) are there 0.8 to 1.2 s after the page is asked for, with the pictures in sight 0.1 s
later, in headless Chromium on a machine of two busy cores; ``python -m tools bench-report`` measures it.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from common.files import replacing, write_text
from common.report.overlay import PREDICTION
from common.report.report_assets import SCRIPT, STYLE

PARTS = "report"
# what the page shows of each row and searches in, besides the file's name
_SHOWN = (
    "source", "status", "verdict", "reason", "warnings", "overlay", "prompt", "prompt_laterality", "prompt_used",
    "understood", "understood_laterality", "sides_named", "mask_sides", "mask_zones", "share", "area_mm2",
)  # fmt: skip
_NUMBERS = ("share", "area_mm2")
_ROWS, _DETAILS = 5000, 200
_THUMBNAIL = 256  # px, longest side


def thumbnail_path(folder: Path, overlay: str) -> Path:
    """Where the small picture of an overlay lies: by a hash, so that no name is too long or unfit.

    Args:
        folder: that of the report.
        overlay: path of the overlay, relative to it.
    """
    name = hashlib.sha1(os.fsencode(overlay)).hexdigest()[:20]
    return folder / PARTS / "thumbnails" / name[:2] / f"{name[2:]}.jpg"


def write_thumbnail(folder: Path, overlay: str, picture: np.ndarray | None = None) -> None:
    """Write the small picture of an overlay; with the overlay at hand the worker that drew it can do so.

    Args:
        folder: that of the report.
        overlay: path of the overlay, relative to it.
        picture: the overlay, (H, W, 3) uint8; None reads the file.
    """
    if picture is not None:
        small = Image.fromarray(picture)
    else:
        small = Image.open(folder / overlay)
        small.draft("RGB", (_THUMBNAIL, _THUMBNAIL))
    small = small.convert("RGB")
    small.thumbnail((_THUMBNAIL, _THUMBNAIL), Image.Resampling.BILINEAR, reducing_gap=2.0)
    with replacing(thumbnail_path(folder, overlay)) as part:
        small.save(part, format="JPEG", quality=75)


def write_report(rows: Iterable[Mapping[str, Any]], folder: Path, title: str, summary: Sequence[str] = ()) -> Path:
    """Write the page and what it loads; memory does not grow with the rows.

    The page is replaced last, and only then are parts of an earlier one removed, so that a kill leaves a page that
    works. Small pictures that are there and no older than their overlay are kept.

    Args:
        rows: with ``source``, ``verdict`` ("review", "note", "ok", ...), and if they apply ``status`` (shown instead
            of the verdict unless it is "done"), ``reason`` and ``warnings`` (several joined by " | "), ``overlay``
            (path relative to ``folder``), and the other columns of the results; all are shown when a row is opened,
            unknown ones too.
        folder: gets ``report.html`` and ``report/``.
        title: of the page.
        summary: lines below the title.

    Returns:
        The path of the page.

    Raises:
        UserError: the folder cannot be written to.
    """
    parts = folder / PARTS
    index: list[str] = []
    details: list[str] = []
    source = iter(rows)
    while some := list(islice(source, _ROWS)):
        shown = [_shown(row, folder) for row in some]
        columns = {name: _column([row[name] for row in shown]) for name in shown[0]}
        index.append(_part(parts, f"rows-{len(index):04}", f"addRows({_json(columns)});\n"))
        for start in range(0, len(some), _DETAILS):
            whole = [_whole(row) for row in some[start : start + _DETAILS]]
            text = f"addDetails({len(details)}, {_json(whole)});\n"
            details.append(_part(parts, f"details-{len(details):05}", text))
    page = folder / "report.html"
    write_text(page, _page(title, summary, index, details))
    kept = {Path(name).name for name in (*index, *details)}
    for path in parts.glob("*.js"):
        if path.name not in kept:
            path.unlink(missing_ok=True)
    return page


def _shown(row: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The columns that the page shows, and the name of the small picture."""
    facts = {name: row.get(name, "") for name in _SHOWN}
    for name in _NUMBERS:
        facts[name] = _number(facts[name])
    facts["thumbnail"] = ""
    if overlay := str(facts["overlay"] or ""):
        small = thumbnail_path(folder, overlay)
        try:
            made = (folder / overlay).stat().st_mtime_ns
            if not small.exists() or small.stat().st_mtime_ns < made:
                write_thumbnail(folder, overlay)
            facts["thumbnail"] = small.relative_to(folder / PARTS / "thumbnails").as_posix()
        except (OSError, ValueError, SyntaxError):
            # an overlay that is gone or damaged: the row is shown without a picture
            facts["thumbnail"] = ""
    return {name: value if isinstance(value, (int, float)) else str(value) for name, value in facts.items()}


def _number(value: Any) -> float | str:
    """A number that JSON can hold, or ""; tables read back from CSV have text."""
    try:
        found = float(value)
    except (TypeError, ValueError):
        return ""
    return found if np.isfinite(found) else ""


def _whole(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        str(key): value if isinstance(value, (int, str)) else str(value) for key, value in row.items() if value != ""
    }


def _column(values: list[Any]) -> Any:
    """A column, each different value once where that is shorter."""
    different = {value: place for place, value in enumerate(dict.fromkeys(values))}
    if len(different) > len(values) // 2:
        return values
    return {"of": list(different), "at": [different[value] for value in values]}


def _json(value: Any) -> str:
    # ASCII only: U+2028 ends a line in old scripts, and a file name's bytes that are no UTF-8 are lone surrogates
    return json.dumps(value, ensure_ascii=True, separators=(",", ":"))


def _part(parts: Path, name: str, text: str) -> str:
    """Write one part, named by its content; its address from the page."""
    path = parts / f"{name}-{hashlib.sha1(text.encode()).hexdigest()[:12]}.js"
    if not path.exists():
        write_text(path, text)
    return f"{PARTS}/{path.name}"


def _page(title: str, summary: Sequence[str], index: list[str], details: list[str]) -> str:
    known = {"size": _DETAILS, "details": details, "thumbnails": f"{PARTS}/thumbnails/"}
    scripts = "\n".join(f'<script src="{name}"></script>' for name in index)
    lines = "\n".join(f"<p>{_text(line)}</p>" for line in summary)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{_text(title)}</title>
<style>{STYLE}</style>
</head>
<body>
<h1>{_text(title)}</h1>
{lines}
<p><span class="key" style="border-color: rgb{PREDICTION}"></span> prediction.
R in a picture marks the patient's right, and is missing where nobody knows it. Each side says whose it is.
Research use only, not a medical device.</p>
<noscript><p>This page needs JavaScript to show its rows; the same rows are in results.csv.</p></noscript>
<div class="bar" role="search">
<div class="line"><fieldset id="only"><legend>Show</legend></fieldset></div>
<div class="line">
<label for="words" class="hidden">Search</label>
<input type="search" id="words" placeholder="Search names, sentences, reasons ( / )"
autocomplete="off" spellcheck="false">
<label>Sort <select id="sort"><option value="">reviews first</option><option value="source">by name</option>
<option value="share">by share marked</option><option value="area_mm2">by area</option></select></label>
<button type="button" id="down" aria-pressed="false">Reverse</button>
<label>Rows <select id="size"><option>25</option><option selected>50</option><option>100</option>
<option>200</option></select></label>
</div>
<nav class="line" aria-label="Pages">
<button type="button" id="first" aria-label="First page">&laquo;</button>
<button type="button" id="before" aria-label="Page before" aria-keyshortcuts="ArrowLeft">&lsaquo; Back</button>
<button type="button" id="next" aria-label="Next page" aria-keyshortcuts="ArrowRight">Next &rsaquo;</button>
<button type="button" id="last" aria-label="Last page">&raquo;</button>
<span id="place" role="status"></span><span class="soft keys">keys: &larr; &rarr; and /</span>
</nav>
</div>
<main><ol id="rows" aria-label="Images"></ol></main>
<script>{SCRIPT}
const PARTS = {_json(known)};</script>
{scripts}
<script>start();</script>
</body>
</html>
"""


def _text(value: object) -> str:
    """A value as HTML text; bytes of a file name that are no UTF-8 become "?"."""
    return escape(str(value).encode("utf-8", "replace").decode("utf-8"))
