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

Of a row: ``name`` (at most 60 characters) and ``bundle`` (a name, or a folder) are needed; ``overlays``, ``override``,
``fraction`` (one of :data:`common.datasets.splits.FRACTIONS`), ``reference``, and ``stage_one``: override of C2Seg's
first stage, which has what its row says of images and sentences (:data:`common.benchmark.protocols.OF_DATA`) by itself.

No override takes what the benchmark sets itself (seed, folders, which rows are scored and how: :data:`_SET`), nor
expressions. Rows of one table have the same ``splits`` and ``data_seed``, which decide on the rows that are scored.
"""

from __future__ import annotations

import difflib
import inspect
import json
import pydoc
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from monai.bundle import ConfigComponent

from common.benchmark.cells import CONDITIONS, CONTROLS, DEGRADED, OWN
from common.benchmark.protocols import DATASETS, MAIN, PROTOCOLS, SCALES, Row, Table, stage_one, tables
from common.bundle import BUNDLES, bundle_folder, is_code
from common.datasets.splits import FRACTIONS
from common.errors import UserError
from common.runtime.reproduce import code_of, code_of_bundle
from common.runtime.workflow import merged_config

_TABLE = {
    "title": str, "dataset": str, "rows": list, "reference": str, "evaluations": list, "override": dict, "curve": str,
}  # fmt: skip
_ROW = {
    "name": str, "bundle": str, "overlays": list, "override": dict, "fraction": (int, float), "stage_one": dict,
    "reference": str,
}  # fmt: skip
_CURVES = ("fraction", "degrade")
_LONGEST = 60  # characters of a row's name

_OURS, _ALIKE = "the benchmark sets it: leave it out", "all rows are scored alike: leave it out"
_SET = {  # what no override takes -> what to do
    "fraction": "give the row's key fraction",
    "seed": "give --seeds",
    "dataset": "give the table's key dataset",
    **dict.fromkeys(("dataset_dir", "data_root"), "give --data"),
    "train_split": "all rows learn from the training part: leave it out",
    **dict.fromkeys(("split", "limit"), "--scale says which rows are scored"),
    **dict.fromkeys(("control", "degrade"), "name it in the table's evaluations"),
    **dict.fromkeys(("output_dir", "run_dir", "weights_dir", "weights", "bundle_root"), _OURS),
    **dict.fromkeys(("resume", "num_workers", "deadline", "time_limit"), _OURS),
    **dict.fromkeys(("imports", "initialize", "run", "training", "finalize"), _OURS),
    **dict.fromkeys(("datalist", "kind", "scored_grid", "threshold"), _ALIKE),
    "train::trainer::max_epochs": "give max_epochs",
}
# settings of an evaluation, or what is another thing there; a first stage is not scored
_SET_BY_ROW = {"validate": _ALIKE}
_SET_BY_STAGES = dict.fromkeys(("image_checkpoint", "load_pretrained"), "the row begins with its stage_one's weights")
_SHARED = {"splits": "published", "data_seed": 0}  # of all rows, as they decide on what is scored -> usual value
_OTHER_CONFIGS = ("train", "evaluate", "inference", "multi_gpu_train")


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
        UserError: there is no such file; it is no such table; a row names a bundle, configuration, id or argument that
            there is not, or overrides what is not its own; rows that cannot be compared.
    """
    try:
        items = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as a table ({error}); see common/benchmark/table_file.py") from error
    where = str(path)
    _check(where, items, _TABLE, ("dataset", "rows"))
    if not re.fullmatch(r"[a-z0-9][a-z0-9_.-]*", path.stem):
        raise UserError(f"{where}: name the file with a-z, 0-9, '_', '-' and '.' alone: it is the table's key")
    if path.stem.startswith(MAIN):
        raise UserError(f"{where}: {MAIN}... is a name of the project's own tables; give the file another name")
    if items["dataset"] not in DATASETS:
        raise UserError(f"{where}: dataset {items['dataset']!r} is unknown; use one of {', '.join(DATASETS)}")
    for name in _texts(where, items, "evaluations"):
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
    _check_rows(where, rows)
    reference = items.get("reference", names[0])
    for name in (reference, *(row.reference for row in rows if row.reference)):
        if name not in names:
            raise UserError(f"{where}: reference {name!r} is no row; rows are {', '.join(names)}")
    evaluations = tuple(dict.fromkeys((OWN, *items.get("evaluations", CONTROLS))))
    curve = items.get("curve")
    if curve == "degrade" and not set(evaluations) & set(DEGRADED):
        raise UserError(f"{where}: curve 'degrade' has no points; give evaluations some of {', '.join(DEGRADED)}")
    if curve == "fraction" and len({row.fraction for row in rows}) == 1:
        raise UserError(f"{where}: curve 'fraction' has one point, as all rows have one fraction; leave curve out")
    return Table(path.stem, items.get("title", path.stem), items["dataset"], rows, reference, evaluations, curve=curve)


def _row(where: str, items: Any, of_all: Mapping[str, Any]) -> Row:
    _check(where, items, _ROW, ("name", "bundle"))
    name, fraction, first = items["name"], items.get("fraction", 1.0), items.get("stage_one")
    if not name or name != name.strip() or not name.isprintable() or len(name) > _LONGEST:
        raise UserError(
            f"{where}: name {name[:_LONGEST]!r} is empty, longer than {_LONGEST} characters, of several lines, or has "
            "blanks around it; give a short one"
        )
    if fraction not in FRACTIONS:
        known = ", ".join(f"{one:g}" for one in FRACTIONS)
        raise UserError(f"{where}: fraction {fraction} is none of the label fractions; use one of {known}")
    try:
        folder = bundle_folder(items["bundle"])
    except UserError as error:
        raise UserError(f"{where}: bundle {error}") from error
    # a bundle of the project by its name, however it is given; another one by its path, from wherever cells are run
    bundle = folder.name if folder.parent == BUNDLES else str(folder)
    overlays = tuple(_texts(where, items, "overlays"))
    _check_overlays(where, folder, overlays)
    override = {_id(key): value for key, value in of_all.items()}
    override |= {_id(key): value for key, value in items.get("override", {}).items()}
    # of the scale that most is run at first; another one may lack a file, and says so when a cell of it is run
    configs = ["train", *overlays]
    _check_override(
        where, folder, configs, override, _SET | _SET_BY_ROW | (_SET_BY_STAGES if first is not None else {})
    )
    if first is not None:
        overlay = stage_one(SCALES["C"], first)["overlay"]
        if not (folder / "configs" / f"{overlay}.json").is_file():
            raise UserError(f"{where}: stage_one: {folder.name} has no first stage ({overlay}.json); leave it out")
        first = {_id(key): value for key, value in first.items()}
        alone = _SET | {"fraction": "the first stage learns from all images: leave it out"}
        _check_override(f"{where}, stage_one", folder, [*configs, overlay], first, alone)
        splits = override.get("splits", _SHARED["splits"])
        if first.get("splits", splits) != splits:  # it would learn from images that are scored
            raise UserError(f"{where}, stage_one: has other splits than the row, whose it gets by itself; leave it out")
    return Row(name, bundle, overlays, override, float(fraction), first, reference=items.get("reference"))


def _check_rows(where: str, rows: Sequence[Row]) -> None:
    """Refuse rows that are one training, and rows that would be scored on other images than each other."""
    for one, two in combinations(rows, 2):
        if all(
            getattr(one, key) == getattr(two, key)
            for key in ("bundle", "overlays", "override", "fraction", "stage_one")
        ):
            raise UserError(f"{where}: rows {one.name!r} and {two.name!r} are the very same training; leave one out")
        for key, usual in _SHARED.items():
            if one.override.get(key, usual) != two.override.get(key, usual):
                raise UserError(
                    f"{where}: rows {one.name!r} and {two.name!r} differ in {key}, and so in the rows that are scored; "
                    "give it in the table's override, for all rows"
                )


def _check_overlays(where: str, folder: Path, overlays: Sequence[str]) -> None:
    """Refuse what is no configuration of a bundle that goes on top of ``train.json``."""
    names = sorted(path.stem for path in (folder / "configs").glob("*.json"))
    first = stage_one(SCALES["C"], {})["overlay"]
    known = [name for name in names if name not in (*_OTHER_CONFIGS, first) and not name.startswith("metadata")]
    for name in overlays:
        if name == first and name in names:
            raise UserError(
                f"{where}: overlay {name!r} is of a first stage; give the row's key stage_one, such as {{}}"
            )
        if name not in known:
            raise UserError(
                f"{where}: overlay {name!r} is none of training that {folder.name} has; use some of {', '.join(known)}"
            )
        if overlays.count(name) > 1:
            raise UserError(f"{where}: overlay {name!r} is given twice; give it once")


def _texts(where: str, items: Mapping[str, Any], key: str) -> list[str]:
    """A list of texts, empty where there is none."""
    found = items.get(key, [])
    for number, item in enumerate(found, start=1):
        if not isinstance(item, str):
            raise UserError(f"{where}: {key}: item {number} is no text; write a list of names")
    return found


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


def _id(name: str) -> str:
    """An id with ``::`` between its parts; MONAI reads ``#`` as well."""
    return name.replace("#", "::")


def _check_override(
    where: str, folder: Path, configs: Sequence[str], override: Mapping[str, Any], taken: Mapping[str, str]
) -> None:
    """Refuse ids that a bundle does not have, that the benchmark sets (``taken``), and values that would run code."""
    config = merged_config(folder, configs)
    for name in override:
        parts = name.split("::")
        if not all(parts):
            raise UserError(f"{where}: id {name!r} has an empty part; write a::b")
        for above in ("::".join(parts[: number + 1]) for number in range(len(parts))):
            if above in taken:
                raise UserError(f"{where}: {name!r} cannot be overridden; {taken[above]}")
            if above != name and above in override:
                raise UserError(f"{where}: {name!r} lies in {above!r}, which is overridden too; give one of the two")
    for name in unknown_ids(config, override):
        raise UserError(f"{where}: the configuration has no {name!r}; see the bundle's configs")
    # what hands one of these on cannot be replaced: no value of a table can refer to it again
    held = (taken.keys() | _SHARED.keys()) - {*_SET_BY_ROW, "load_pretrained"}
    for name, value in override.items():
        if lost := sorted(held & _referred(config, name)):
            raise UserError(
                f"{where}: {name!r} cannot be overridden, as {lost[0]} is handed on there; override what is beside it"
            )
        if is_code(value):
            raise UserError(f"{where}: {name}: a value that starts with $, % or @ is not taken; write the value itself")
    known = code_of_bundle(folder)
    for name, text in code_of(override):
        if text not in known:
            raise UserError(
                f"{where}: {name} {text!r:.80} is in no configuration of {folder.name}; use one that is in its configs"
            )
    changed = merged_config(folder, configs, override)
    for name, value in override.items():
        *above, last = name.split("::")
        place = _at(changed, above)
        if isinstance(place, Mapping) and "_target_" in place:
            _check_arguments(f"{where}: {name}", place["_target_"], place if last == "_target_" else [last])
        for component in _components(value):
            _check_arguments(f"{where}: {name}", component["_target_"], component)


def _at(place: Any, parts: Sequence[str]) -> Any:
    """What a configuration has at an id's parts; None where it has nothing."""
    for part in parts:
        if isinstance(place, list):
            place = dict(enumerate(place)).get(int(part)) if part.isdecimal() else None
        else:
            place = place.get(part) if isinstance(place, Mapping) else None
    return place


def _referred(config: Mapping[str, Any], name: str) -> set[str]:
    """The settings that an id hands on, and would no more if it were overridden."""
    parts = name.split("::")
    # with a switch goes all that it switches off
    found = _references(_at(config, parts[:-1] if parts[-1] == "_disabled_" else parts))
    if len(parts) > 1:
        return set(found)
    # a setting itself may be reckoned from others, such as a learning rate for each data set
    return set() if isinstance(config[name], str) else set(found) - {"dataset", "dataset_dir"}


def _references(item: Any) -> Iterator[str]:
    if isinstance(item, str):
        yield from re.findall(r"@(\w+)", item)
    elif isinstance(item, Mapping | list):
        for value in item.values() if isinstance(item, Mapping) else item:
            yield from _references(value)


def _components(item: Any) -> Iterator[Mapping[str, Any]]:
    """All in a value that has a ``_target_``."""
    if isinstance(item, Mapping):
        if "_target_" in item:
            yield item
        item = list(item.values())
    if isinstance(item, list):
        for value in item:
            yield from _components(value)


def _check_arguments(where: str, target: Any, names: Collection[str]) -> None:
    """Refuse arguments that a ``_target_`` does not take; one by MONAI's short name, or with ``**``, is left alone."""
    try:
        parameters = inspect.signature(pydoc.locate(str(target)) if "." in str(target) else None).parameters.values()
    except (pydoc.ErrorDuringImport, TypeError, ValueError):
        return
    if any(one.kind is one.VAR_KEYWORD for one in parameters):
        return
    known = {one.name for one in parameters if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)}
    for name in names:
        if name not in known | ConfigComponent.non_arg_keys:
            near = difflib.get_close_matches(name, sorted(known))
            fix = f"perhaps {' or '.join(near)}" if near else "see its arguments"
            raise UserError(f"{where}: {target} takes no {name!r}; {fix}")


def unknown_ids(config: Mapping[str, Any], ids: Iterable[str]) -> list[str]:
    """Those ids that a configuration neither has nor could take.

    What has a ``_target_`` can be given arguments that the configuration does not name.
    """
    return [name for name in ids if not _has(config, re.split("::|#", name))]


def _has(config: Mapping[str, Any], parts: Sequence[str]) -> bool:
    *above, last = parts
    place = _at(config, above)
    if isinstance(place, list):
        return last.isdecimal() and int(last) < len(place)
    return isinstance(place, Mapping) and (last in place or "_target_" in place)
