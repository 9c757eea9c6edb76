"""From the folder of a benchmark to its files: what is read, measured and drawn for them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from common.benchmark.cost import cost
from common.benchmark.page import fill_documents, picture_of_cases, write_results
from common.benchmark.protocols import DATASETS, MAIN, PROTOCOLS, Scale, Table, tables
from common.benchmark.results import Filled, Line, fill
from common.benchmark.statistics import stratified
from common.benchmark.subsets import split_rows
from common.benchmark.work import read_json
from common.bundle import BUNDLES, bundle_folder
from common.datasets import load_dataset
from common.files import write_text


def write(
    output: Path,
    wanted: Sequence[Table],
    scale: Scale,
    seeds: Sequence[int],
    data: Mapping[str, Path],
    *,
    costs: bool,
    documents: bool,
    said: Callable[[str], None] = print,
) -> list[Path]:
    """Read all cells and write the results.

    Args:
        output: the benchmark's folder.
        wanted: tables.
        scale: they were run at.
        seeds: of the trainings.
        data: a data set's name -> its folder; parts of the images and pictures need it.
        costs: measure parameters, operations, time and memory, all networks one after the other; else what an earlier
            call measured is shown.
        documents: put tables into README and model cards. ``RESULTS.md`` then also has every other
            table of which all rows are there.
        said: called with a line for the user.

    Returns:
        The paths of ``RESULTS.md``, ``results.csv`` and ``results.html``.
    """
    filled = fill(output, wanted, scale, seeds, data)
    if documents:
        asked = {table.key for table in wanted}
        others = [table for table in tables(list(PROTOCOLS)) if table.key not in asked]
        # a few rows alone, of trainings that another table asked for, are no table
        filled += [one for one in fill(output, others, scale, seeds, data) if len(one.scored) == len(one.lines)]
    main = [one for one in filled if one.table.key.startswith(MAIN) and one.scored]
    subsets: dict[str, Any] = {}
    cases: dict[str, Any] = {}
    for one in main:
        if one.table.dataset in data:
            root = data[one.table.dataset]
            subsets[one.table.key] = _subsets(one, root, scale)
            best = max(one.scored, key=lambda line: line.summary()["dice"]["per_image"]["value"])
            cases |= picture_of_cases(best, root)
    lines = {_network(one, line): line for one in main for line in one.scored}
    if costs:
        measured = {}
        for name, line in lines.items():
            said(f"measuring {name}")
            cell = line.runs[0].cell
            network = {key: value for key, value in cell.override.items() if key.split("::")[0] == "network_def"}
            measured[name] = cost(bundle_folder(cell.bundle), cell.of_network, network)
        if measured:  # a command without a table of methods leaves what an earlier one measured
            write_text(output / "costs.json", json.dumps(measured, indent=4) + "\n")
    else:
        measured = {name: found for name, found in read_json(output / "costs.json").items() if name in lines}
    paths = write_results(output, filled, scale, subsets, measured, cases)
    if documents:
        fill_documents(BUNDLES.parent, filled, scale, paths[0], said)
    return paths


def _subsets(one: Filled, root: Path, scale: Scale) -> dict[str, Any]:
    """Each line's scores on parts of the images; these tables learn from whole training parts and published splits."""
    score = one.scored[0].runs[0].cell.score
    items = load_dataset(one.table.dataset, root, score["split"], limit=score.get("limit"))
    seen = load_dataset(one.table.dataset, root, "train", limit=scale.override.get("train_limit"))
    return {
        line.row.name: stratified(split_rows([row for rows in line.rows() for row in rows], items, seen))
        for line in one.scored
    }


def _network(one: Filled, line: Line) -> str:
    """What a network is called among costs: those for polyps are others than those for the chest."""
    polyps = f", {DATASETS[one.table.dataset]}" if one.table.dataset in ("kvasir", "clinicdb") else ""
    return line.row.name + polyps
