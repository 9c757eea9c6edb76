"""One HTML page of overlays: a row an image, with its sentence, sides and verdict.

The page stands alone: no script, no font and no style from elsewhere, only the overlays beside it, by
relative paths; it opens from a disk (``file://``). Every word of a file name or a sentence is escaped.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from urllib.parse import quote

from common.files import write_text
from common.report.overlay import PREDICTION, TRUTH

# verdict -> its heading; the first are what a reader must see
VERDICTS = {"failed": "Failed", "review": "Review", "note": "Note", "ok": "Done"}

_STYLE = """
:root { color-scheme: light dark; --page: #f6f7f9; --card: #fff; --line: #dfe3e8; --text: #1b1f24;
  --soft: #5b6570; --failed: #b3261e; --review: #9a5b00; --note: #0b62a8; --ok: #1f7a4d; }
@media (prefers-color-scheme: dark) { :root { --page: #0f1114; --card: #181b20; --line: #2b3038;
  --text: #e8eaed; --soft: #9aa4b0; --failed: #ff8a80; --review: #ffc166; --note: #86bdf5; --ok: #7fd6a4; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 76rem; padding: 2rem 1.25rem 4rem; background: var(--page);
  color: var(--text); font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
h1 { margin: 0 0 .25rem; font-size: 1.5rem; line-height: 1.25; overflow-wrap: anywhere; }
p { margin: 0 0 1rem; color: var(--soft); max-width: 60rem; }
.key { display: inline-block; width: .9em; height: .9em; margin: 0 .15em -.1em 0; border: 3px solid;
  border-radius: 2px; }
fieldset { display: flex; flex-wrap: wrap; gap: .5rem; margin: 0 0 1rem; padding: 0; border: 0; }
legend { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
label { padding: .3rem .8rem; border: 1px solid var(--line); border-radius: 99px; background: var(--card);
  cursor: pointer; font-variant-numeric: tabular-nums; }
label b { font-weight: 650; }
label:has(:checked) { border-color: var(--text); box-shadow: inset 0 0 0 1px var(--text); }
label:has(:focus-visible) { outline: 3px solid var(--note); outline-offset: 2px; }
label input { position: absolute; opacity: 0; }
table { width: 100%; border-collapse: separate; border-spacing: 0; background: var(--card);
  border: 1px solid var(--line); border-radius: 12px; overflow: hidden; }
th { padding: .6rem .9rem; text-align: left; white-space: nowrap; font-size: .8rem;
  font-weight: 600; color: var(--soft); }
td { padding: .9rem; border-top: 1px solid var(--line); vertical-align: top; overflow-wrap: anywhere; }
td.picture { width: 15rem; }
td.sides { white-space: nowrap; }
img { display: block; width: 13.2rem; height: 13.2rem; object-fit: contain;
  border-radius: 6px; background: #111; }
.none { display: grid; place-items: center; width: 13.2rem; height: 4rem; border: 1px dashed var(--line);
  border-radius: 6px; color: var(--soft); font-size: .85rem; }
.file { margin-bottom: .35rem; color: var(--soft);
  font: 13px/1.45 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
.verdict { font-weight: 650; white-space: nowrap; }
tr.failed .verdict, b.failed { color: var(--failed); } tr.review .verdict, b.review { color: var(--review); }
tr.note .verdict, b.note { color: var(--note); } tr.ok .verdict, b.ok { color: var(--ok); }
tr.failed td:first-child { box-shadow: inset 4px 0 0 var(--failed); }
tr.review td:first-child { box-shadow: inset 4px 0 0 var(--review); }
.soft { color: var(--soft); }
@media (max-width: 44rem) { thead { display: none; } tr { display: block; border-top: 1px solid var(--line); }
  tr.failed { box-shadow: inset 4px 0 0 var(--failed); } tr.review { box-shadow: inset 4px 0 0 var(--review); }
  td { display: block; border: 0; padding: .35rem .9rem; } td.picture { width: auto; padding-top: .9rem; }
  img, .none { width: 100%; height: auto; min-height: 3rem; } }
@media print { fieldset { display: none; } tr { break-inside: avoid; } }
"""


def write_gallery(rows: Sequence[Mapping[str, object]], path: str | Path, title: str) -> Path:
    """Write the gallery page, atomically, the rows in the order given.

    Args:
        rows: one an image, with the keys ``file`` (as the user knows it), ``verdict`` (a key of
            :data:`VERDICTS`), and if they apply ``overlay`` (path of the picture; a relative one counts from
            the page's folder), ``sentence``, ``sides`` (those understood, as the patient's: "patient left"),
            ``reason`` (of a verdict other than "ok").
        path: of the page.
        title: of the page.

    Returns:
        The path of the page.

    Raises:
        ValueError: a verdict is unknown.
    """
    path = Path(path)
    counts = Counter(str(row["verdict"]) for row in rows)
    if unknown := set(counts) - set(VERDICTS):
        raise ValueError(f"unknown verdict {sorted(unknown)}; use {', '.join(VERDICTS)}")
    shown = [verdict for verdict in VERDICTS if counts[verdict]]
    hide = "".join(
        f"body:has(#only-{verdict}:checked) tbody tr:not(.{verdict}) {{ display: none; }}\n" for verdict in shown
    )
    chips = [f'<label><input type="radio" name="only" checked>All <b>{len(rows):,}</b></label>']
    chips += [
        f'<label><input type="radio" name="only" id="only-{verdict}">{VERDICTS[verdict]} '
        f'<b class="{verdict}">{counts[verdict]:,}</b></label>'
        for verdict in shown
    ]
    body = "\n".join(_row(row, path.parent) for row in rows)
    page = f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{_text(title)}</title>
<style>{_STYLE}{hide}</style>
</head>
<body>
<h1>{_text(title)}</h1>
<p><span class="key" style="border-color: rgb{PREDICTION}"></span> prediction
<span class="key" style="border-color: rgb{TRUTH}"></span> ground truth, if known.
R marks the patient's right, and is missing where nobody knows it. Each side in the table says whose it is.
Research use only, not a medical device.</p>
<fieldset><legend>Show</legend>
{"".join(chips)}
</fieldset>
<table>
<thead><tr><th>Overlay</th><th>File and sentence</th><th>Sides understood</th><th>Verdict</th></tr></thead>
<tbody>
{body}
</tbody>
</table>
</body>
</html>
"""
    write_text(path, page)
    return path


def _text(value: object) -> str:
    """A value as HTML text; bytes of a file name that are no UTF-8 become "?"."""
    return escape(str(value).encode("utf-8", "replace").decode("utf-8"))


def _row(row: Mapping[str, object], folder: Path) -> str:
    """One line of the table."""
    picture = '<div class="none">no overlay</div>'
    if row.get("overlay"):
        where = Path(os.path.relpath(folder / str(row["overlay"]), folder))
        link = escape(quote(os.fsencode(where.as_posix())))
        words = f"Overlay of {_text(row['file'])}"
        picture = f'<a href="{link}"><img src="{link}" loading="lazy" decoding="async" alt="{words}"></a>'
    sentence = _text(row["sentence"]) if row.get("sentence") else '<span class="soft">no sentence</span>'
    sides = "<br>".join(_text(side) for side in row.get("sides") or ()) or '<span class="soft">none</span>'
    reason = f"<br>{_text(row['reason'])}" if row.get("reason") else ""
    verdict = str(row["verdict"])
    return (
        f'<tr class="{verdict}"><td class="picture">{picture}</td>'
        f'<td><div class="file">{_text(row["file"])}</div>{sentence}</td>'
        f'<td class="sides">{sides}</td>'
        f'<td><span class="verdict">{VERDICTS[verdict]}</span>{reason}</td></tr>'
    )
