"""The benchmark as files: ``RESULTS.md``, ``results.csv``, ``results.html``, and the tables in documents."""

from __future__ import annotations

import base64
import html
import io
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from common.benchmark import plots
from common.benchmark.cells import OWN
from common.benchmark.protocols import MAIN, Scale
from common.benchmark.report import (
    Block,
    absent,
    anchors,
    block_of_controls,
    block_of_costs,
    block_of_degradations,
    block_of_degraded_tests,
    block_of_provenance,
    block_of_scores,
    block_of_subsets,
    block_of_tests,
)  # fmt: skip
from common.benchmark.results import Filled, Line, flat
from common.bundle import bundle_folder
from common.files import write_text
from common.report.grid import Row, grid
from common.report.tables import csv_table, fill_markers

_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:76rem;padding:0 1rem;color:#222;background:#fff}
table{border-collapse:collapse;margin:.6rem 0;font-size:13px}td,th{border:1px solid #ccc;padding:.25rem .5rem;
text-align:left;vertical-align:top}td.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
th{background:#f2f2f2;cursor:pointer;position:sticky;top:0}.scroll{overflow-x:auto}
td:first-child{min-width:9rem}h2{margin-top:2.4rem}svg{max-width:100%;height:auto}img{max-width:100%}ul{font-size:13px;color:#444}
"""
# a click on a heading sorts by that column
_SCRIPT = """
document.addEventListener('click',e=>{const h=e.target.closest('th');if(!h)return;const t=h.closest('table');
const i=h.cellIndex,b=t.tBodies[0],d=h.dataset.up=h.dataset.up==='1'?'0':'1';const v=r=>r.cells[i].textContent;
[...b.rows].sort((x,y)=>{const p=parseFloat(v(x)),q=parseFloat(v(y));
const c=isNaN(p)||isNaN(q)?v(x).localeCompare(v(y)):p-q;return d==='1'?c:-c}).forEach(r=>b.append(r))})
"""


def blocks(
    filled: Sequence[Filled],
    scale: Scale,
    subsets: Mapping[str, Mapping[str, Mapping[str, Mapping[str, Any] | None]]],
    costs: Mapping[str, Mapping[str, Any]],
) -> list[tuple[Block, list[str]]]:
    """All blocks of the report, each with its plots as SVG."""
    found: list[tuple[Block, list[str]]] = []
    for one in filled:
        drawn = [plots.bars(one)] if one.scored else []
        if one.table.curve and (line := plots.curve(one)):
            drawn.append(line)
        if one.table.key.startswith(MAIN) and (line := plots.reliability(one.scored)):
            drawn.append(line)
        found.append((block_of_scores(one), drawn))
        parts = subsets.get(one.table.key, {})
        more = (
            block_of_tests(one), block_of_controls(one), block_of_degradations(one), block_of_degraded_tests(one),
            block_of_subsets(one, parts),
        )  # fmt: skip
        found += [(block, []) for block in more if block]
    costs_block = block_of_costs(costs)
    if costs_block:
        found.append((costs_block, []))
    found.append((block_of_provenance(filled, scale), []))
    return found


def write_results(
    output: Path,
    filled: Sequence[Filled],
    scale: Scale,
    subsets: Mapping[str, Mapping[str, Mapping[str, Mapping[str, Any] | None]]],
    costs: Mapping[str, Mapping[str, Any]],
    cases: Mapping[str, np.ndarray],
) -> list[Path]:
    """Write ``RESULTS.md``, ``results.csv`` and ``results.html``; returns their paths.

    Args:
        output: the benchmark's folder.
        filled: of :func:`common.benchmark.results.fill`.
        scale: they were run at.
        subsets: table -> line -> part of the images -> summary.
        costs: network -> :func:`common.benchmark.cost.cost`.
        cases: title -> picture (H, W, 3) uint8, for the page.
    """
    made = blocks(filled, scale, subsets, costs)
    head = [
        f"Scale {scale.name}: {scale.words}.",
        "Made by `python -m tools benchmark` and by nothing else. Two definitions of Dice: *micro*, of the pixels of "
        "all images together, and *per image*, the mean over images; papers compare one with the other. The papers' "
        "own numbers stand beside ours with the definition that they show; only those of scale `paper` are of the same "
        "data, networks and lengths.",
        *anchors(),
        *absent(filled),
    ]
    markdown = ["# Results\n", "\n".join(f"- {line}" for line in head) + "\n"]
    markdown += [block.markdown() for block, _ in made]
    rows = flat(filled)
    columns = list(dict.fromkeys(key for row in rows for key in row))
    paths = [output / "RESULTS.md", output / "results.csv", output / "results.html"]
    write_text(paths[0], "\n".join(markdown))
    write_text(paths[1], csv_table(rows, columns))
    write_text(paths[2], _page(head, made, cases))
    return paths


def _page(head: Sequence[str], made: Sequence[tuple[Block, list[str]]], cases: Mapping[str, np.ndarray]) -> str:
    parts = [
        "<!doctype html><html lang='en'><meta charset='utf-8'><meta name='viewport' content='width=device-width'>",
        f"<title>Results</title><style>{_STYLE}</style><h1>Results</h1>",
        "<p><b>Research use only; not a medical device.</b></p>",
        _list(head),
    ]
    for block, drawn in made:
        parts.append(f"<h{block.level}>{html.escape(block.title)}</h{block.level}>{_table(block)}{_list(block.notes)}")
        parts += drawn
    for title, picture in cases.items():
        data = io.BytesIO()
        Image.fromarray(picture).save(data, format="JPEG", quality=85)
        source = base64.b64encode(data.getvalue()).decode()
        parts.append(f"<h2>{html.escape(title)}</h2><img alt='{html.escape(title, quote=True)}' ")
        parts.append(f"src='data:image/jpeg;base64,{source}'>")
    return "".join([*parts, f"<script>{_SCRIPT}</script></html>\n"])


def _list(lines: Sequence[str]) -> str:
    return "<ul>" + "".join(f"<li>{_marked(line)}</li>" for line in lines) + "</ul>" if lines else ""


def _marked(line: str) -> str:
    """A line of Markdown: its code and emphasis as HTML, the rest as text."""
    text = re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(line))
    return re.sub(r"\*([^*]+)\*", r"<em>\1</em>", text)


def _table(block: Block) -> str:
    if not block.rows:
        return ""
    head = "".join(f"<th>{html.escape(column)}</th>" for column in block.columns)
    body = []
    for row in block.rows:
        cells = []
        for column in block.columns:
            value = row.get(column, "")
            text = f"{value:.2f}" if isinstance(value, float) else str("" if value is None else value)
            number = text[:1].isdigit() or text[:2].lstrip("-−").isdigit()
            cells.append(f"<td{' class=n' if number else ''}>{html.escape(text)}</td>")
        body.append(f"<tr>{''.join(cells)}</tr>")
    return f"<div class=scroll><table><thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table></div>"


def fill_documents(
    root: Path, filled: Sequence[Filled], scale: Scale, results: Path, said: Callable[[str], None] = print
) -> None:
    """Put tables between the markers of README and model cards, and ``RESULTS.md`` beside README.

    README has ``main-qata`` and ``main-qata-controls``; a model card has the ablation that is called as its bundle.
    Rows that were not run say so; a table with fewer numbers than the document has leaves it as it is.

    Args:
        root: of the repository.
        filled: of :func:`common.benchmark.results.fill`.
        scale: they were run at.
        results: the ``RESULTS.md`` of :func:`write_results`.
        said: called with a line for the user.
    """
    write_text(root / "RESULTS.md", results.read_text(encoding="utf-8"))
    said(f"{root / 'RESULTS.md'}: written")
    for one in filled:
        key = one.table.key
        file = bundle_folder(key) / "docs" / "README.md" if (root / "bundles" / key).is_dir() else root / "README.md"
        marks = {f"numbers:{key}": [block_of_scores(one), block_of_provenance([one], scale)]}
        controls = block_of_controls(one)
        if controls:
            marks[f"numbers:{key}-controls"] = [controls]
        tests = block_of_tests(one)
        if tests:
            marks[f"numbers:{key}"].insert(1, tests)
        text = file.read_text(encoding="utf-8")
        for mark, parts in marks.items():
            if f"<!-- {mark} -->" not in text:
                continue
            made = "\n".join(part.markdown(heading=number > 0) for number, part in enumerate(parts))
            there = text.partition(f"<!-- {mark} -->")[2].partition("<!-- /numbers -->")[0]
            if _numbered(made) < max(1, _numbered(there)):
                said(f"{file}: {mark} left as it is: it has more numbers than there are for {key} here")
                continue
            changed = fill_markers(file, mark.removeprefix("numbers:"), made)
            said(f"{file}: {mark} {'filled' if changed else 'unchanged'}")


def _numbered(table: str) -> int:
    """Rows of the first table of a document's part that have a number in their third column."""
    lines = table.strip().partition("\n\n")[0].splitlines()
    return sum(bool(re.match(r"\|[^|]*\|[^|]*\| *\d", line)) for line in lines)


def picture_of_cases(line: Line, data: Path, count: int = 3) -> dict[str, np.ndarray]:
    """The images on which a line's first seed is best and worst, with what was found, missed and marked too much.

    Args:
        line: with scores of its own sentences.
        data: the data set's folder.
        count: of each.
    """
    from common.datasets import load_dataset
    from common.metrics.overlap import counts, dice
    from common.runtime.compare import Run, compare, pick

    run = next(run for run in line.runs if run.scores(OWN))
    rows = sorted((row for row in line.rows()[0] if row["dice"] is not None), key=lambda row: row["dice"])
    items = load_dataset(run.cell.dataset, data, run.cell.score["split"])
    found = {}
    for word, some in (("best", rows[: -count - 1 : -1]), ("worst", rows[:count])):
        chosen = pick(items, [Path(str(row["image"])).name for row in some])
        name = f"{line.row.name}, seed {run.cell.seed}"
        weights = str(run.folder / "train" / "model.pt")
        one = Run(name, bundle_folder(run.cell.bundle), run.cell.of_network, weights)
        override = {key: value for key, value in run.cell.override.items() if key.split("::")[0] == "network_def"}
        drawn = []
        for case in compare([one], chosen, override={name: override}):
            score = f"Dice {100 * dice(*counts(case.masks[0], case.truth)):.1f} %"
            caption = (Path(case.item["image"]).name, case.item["text_prompt"])
            drawn.append(Row(case.file_picture, case.truth, case.masks, [score], caption=caption, marker=case.marker))
        notes = ["Dice of each image in its own grid. Research use only, not a medical device."]
        found[f"{word.capitalize()} cases of {name}"] = grid(f"{word} by Dice per image", [name], drawn, notes)
    return found
