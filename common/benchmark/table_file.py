"""A table of one's own: a JSON file with its rows, for ``python -m tools benchmark FILE``.

::

    {
        "title": "Dropout in the decoder",
        "dataset": "qata",
        "evaluations": ["own", "mirrored"],
        "override": {"learning_rate": 3e-4},
        "rows": [
            {"name": "none", "bundle": "mmi_unet"},
            {"name": "0.2", "bundle": "mmi_unet", "override": {"network_def::dropout": 0.2}}
        ]
    }

The table's key, which names it everywhere, is the file's name without ``.json``.

Of the table: ``dataset`` and ``rows`` are needed; ``title``; ``reference`` (name of the row that the others are tested
against; default: the first); ``evaluations`` (default: all controls); ``override`` of all rows; ``curve``
(``"fraction"`` or ``"degrade"``).

Of a row: ``name`` and ``bundle`` are needed; ``overlays``, ``override``, ``fraction``, ``stage_one`` (override of
C2Seg's first stage), ``reference``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from common.benchmark.cells import CONDITIONS, CONTROLS, OWN
from common.benchmark.protocols import DATASETS, PROTOCOLS, SCALES, Row, Table, stage_one, tables
from common.bundle import bundle_folder, is_code
from common.errors import UserError
from common.runtime.workflow import merged_config

_TABLE = {
    "title": str, "dataset": str, "rows": list, "reference": str, "evaluations": list, "override": dict, "curve": str,
}  # fmt: skip
_ROW = {
    "name": str, "bundle": str, "overlays": list, "override": dict, "fraction": (int, float), "stage_one": dict,
    "reference": str,
}  # fmt: skip
_CURVES = ("fraction", "degrade")


def named_tables(names: Iterable[str]) -> list[Table]:
    """Tables by the names of protocols, their own keys, or the path of a file (``.json``), each once.

    Raises:
        UserError: a name is none of these; a file holds no table, or one that is called as another.
    """
    found: dict[str, Table] = {}
    for name in names:
        if not name.endswith(".json"):
            found |= {table.key: table for table in tables([name])}
            continue
        table = read_table(Path(name))
        if table.key in {one.key for one in tables(list(PROTOCOLS))} | set(PROTOCOLS):
            raise UserError(f"{name}: the project has a table called {table.key}; give the file another name")
        if found.get(table.key, table) != table:
            raise UserError(f"{name}: another file holds a table called {table.key}; give one of them another name")
        found[table.key] = table
    return list(found.values())


def read_table(path: Path) -> Table:
    """The table in a file.

    Raises:
        UserError: there is no such file; it is no such table; a row names a bundle, configuration or id that there is
            not, or an expression.
    """
    try:
        items = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as a table ({error}); see common/benchmark/table_file.py") from error
    where = str(path)
    _check(where, items, _TABLE, ("dataset", "rows"))
    if not re.fullmatch(r"[a-z0-9][a-z0-9_.-]*", path.stem):
        raise UserError(f"{where}: name the file with a-z, 0-9, '_', '-' and '.' alone: it is the table's key")
    if items["dataset"] not in DATASETS:
        raise UserError(f"{where}: dataset {items['dataset']!r} is unknown; use one of {', '.join(DATASETS)}")
    for name in items.get("evaluations", ()):
        if name not in CONDITIONS:
            raise UserError(f"{where}: evaluation {name!r} is unknown; use some of {', '.join(CONDITIONS)}")
    if items.get("curve", _CURVES[0]) not in _CURVES:
        raise UserError(f"{where}: curve {items['curve']!r} is unknown; use {' or '.join(_CURVES)}")
    if not items["rows"]:
        raise UserError(f"{where}: has no rows; give at least one")
    override = items.get("override", {})
    rows = tuple(_row(f"{where}, row {number}", row, override) for number, row in enumerate(items["rows"], start=1))
    names = [row.name for row in rows]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UserError(f"{where}: two rows are called {twice!r}; give each a name of its own")
    reference = items.get("reference", names[0])
    for name in (reference, *(row.reference for row in rows if row.reference)):
        if name not in names:
            raise UserError(f"{where}: reference {name!r} is no row; rows are {', '.join(names)}")
    evaluations = tuple(dict.fromkeys((OWN, *items.get("evaluations", CONTROLS))))
    title = items.get("title", path.stem)
    return Table(path.stem, title, items["dataset"], rows, reference, evaluations, curve=items.get("curve"))


def _row(where: str, items: Any, of_all: Mapping[str, Any]) -> Row:
    _check(where, items, _ROW, ("name", "bundle"))
    fraction = items.get("fraction", 1.0)
    if not 0 < fraction <= 1:
        raise UserError(f"{where}: fraction {fraction} is no part of the masks; give a number above 0, up to 1")
    overlays = tuple(map(str, items.get("overlays", ())))
    override, first = {**of_all, **items.get("override", {})}, items.get("stage_one")
    folder = bundle_folder(items["bundle"])
    # of the scale that most is run at first; another one may lack a file, and says so when a cell of it is run
    _check_ids(where, merged_config(folder, ["train", *overlays]), override)
    if first is not None:
        overlay = stage_one(SCALES["C"], first)["overlay"]
        _check_ids(f"{where}, stage_one", merged_config(folder, ["train", *overlays, overlay]), first)
    return Row(
        items["name"], items["bundle"], overlays, override, float(fraction), first, reference=items.get("reference")
    )


def _check(where: str, items: Any, known: Mapping[str, Any], needed: Iterable[str]) -> None:
    """Refuse what is no object, lacks a key, has an unknown one, or one of another type."""
    if not isinstance(items, dict):
        raise UserError(f"{where}: is no JSON object; write {{...}}")
    for key, value in items.items():
        if key not in known:
            raise UserError(f"{where}: has an unknown key {key!r}; known are {', '.join(known)}")
        if not isinstance(value, known[key]) or isinstance(value, bool):
            kinds = {str: "text", list: "list", dict: "object"}
            raise UserError(f"{where}: {key} is no {kinds.get(known[key], 'number')}")
    for key in needed:
        if key not in items:
            raise UserError(f"{where}: lacks {key!r}")


def _check_ids(where: str, config: Mapping[str, Any], override: Mapping[str, Any]) -> None:
    for name in unknown_ids(config, override):
        raise UserError(f"{where}: the configuration has no {name!r}; see the bundle's configs")
    for name, value in override.items():
        if is_code(value):
            raise UserError(f"{where}: {name}: a value that starts with $, % or @ is not taken; write the value itself")


def unknown_ids(config: Mapping[str, Any], ids: Iterable[str]) -> list[str]:
    """Those ids that a configuration neither has nor could take.

    What has a ``_target_`` can be given arguments that the configuration does not name; whether there are such is told
    when it is made.
    """
    return [name for name in ids if not _has(config, re.split("::|#", name))]


def _has(place: Any, parts: list[str]) -> bool:
    first, *rest = parts
    if isinstance(place, list):
        return first.isdecimal() and int(first) < len(place) and (not rest or _has(place[int(first)], rest))
    if not isinstance(place, Mapping):
        return False
    if first not in place:
        return "_target_" in place and not rest
    return not rest or _has(place[first], rest)
