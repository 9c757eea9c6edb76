"""One cell, run in a process of its own: training, evaluations, and files that say what was done and with what.

A cell's folder holds ``cell.json`` (what is asked for), ``environment.json`` (commit, versions, machine of the
training; an evaluation has its own), ``cell.log`` (all that was printed), ``stage_one/`` and ``train/`` (what training
writes: ``history.csv``, ``last.pt``, ``model.pt`` with its sidecar), ``scores/<evaluation>/``, and ``status.json``,
written last of all. What is there whole is not done again, so that a cell that was ended at any moment is continued.
"""

from __future__ import annotations

import fcntl
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from common.benchmark.cells import CONDITIONS, Cell, from_json
from common.bundle import bundle_folder
from common.datasets.fingerprint import fingerprint
from common.datasets.load import list_dataset, load_training
from common.engines.checkpoint import LATER_KEYS, provenance, what_counts
from common.errors import UserError, user_error
from common.files import sha256_of, write_text
from common.report.curves import read_history
from common.runtime.evaluate import evaluate
from common.runtime.workflow import merged_config, run_bundle

TRAINED = "trained.json"
SCORE = "score.json"  # beside the numbers of an evaluation: what it is of


@contextmanager
def claimed(folder: Path) -> Iterator[bool]:
    """Whether this process alone works in ``folder`` while the block runs; a process that ends gives it back."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
            return
        yield True


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object, empty where there is no such file."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise UserError(f"{path}: is no JSON ({error}); remove the file, and what it tells of is done again") from error


def finished(folder: Path, cell: Cell) -> bool:
    """Whether a cell is trained and all its evaluations are there."""
    return (folder / "train" / TRAINED).is_file() and not missing(folder, cell)


def standing(folder: Path, cell: Cell, data: Mapping[str, Path], retry: bool) -> str:
    """How a cell stands before a command: done, failed (and not to be tried again), no data, or left to do."""
    if finished(folder, cell):
        return "done"
    if not retry and read_json(folder / "status.json").get("state") == "failed":
        return "failed"
    return "left" if cell.dataset in data else "no data"


def asked(folder: Path, cell: Cell) -> Cell:
    """The cell with the evaluations, too, that earlier commands asked of its folder: they may be running still."""
    path = folder / "cell.json"
    if not path.is_file():
        return cell
    before = from_json(path.read_text(encoding="utf-8")).evaluations
    return replace(cell, evaluations=tuple(dict.fromkeys(cell.evaluations + before)))


def describe(folder: Path, cell: Cell, data: Mapping[str, Path]) -> str:
    """How a cell stands, for a user: as :func:`standing`, and what there is of one that is left to do."""
    cell = asked(folder, cell)
    state = standing(folder, cell, data, retry=False)
    if state != "left":
        return state
    if (folder / "train" / TRAINED).is_file():
        return f"trained, to be scored: {', '.join(missing(folder, cell))}"
    begun = any((folder / stage / "last.pt").is_file() for stage in ("stage_one", "train"))
    return "begun" if begun else "to do"


def missing(folder: Path, cell: Cell) -> list[str]:
    """Names of the evaluations that are still to do: not there, of other rows, or of other weights."""
    wanted = _scored(folder, cell)
    places = {name: folder / "scores" / name for name in cell.evaluations}
    return [
        name for name, place in places.items()
        if wanted is None or not (place / "summary.json").is_file() or read_json(place / SCORE) != wanted
    ]  # fmt: skip


def _scored(folder: Path, cell: Cell) -> dict[str, Any] | None:
    """What an evaluation is of: the rows, and the weights by their sidecar; None before there are weights.

    The sidecar is another one whenever weights are saved. It is kept with the scores where weights are too large to be.
    """
    sidecar = folder / "train" / "model.json"
    return {"score": dict(cell.score), "sidecar": sha256_of(sidecar)} if sidecar.is_file() else None


def check_data(output: Path, data: Mapping[str, Path]) -> None:
    """Note in ``output/data.json`` which data its cells are of, at the first command; refuse others later.

    A cell's name does not say whose images it was trained on, so that others would be scored, or taken for, the old.

    Args:
        output: the benchmark's folder.
        data: a data set's name -> its folder.

    Raises:
        UserError: a data set is another than that which an earlier command had.
    """
    path = output / "data.json"
    before = read_json(path)
    known = dict(before)
    for name, root in data.items():
        try:
            listing = list_dataset(name, root)
        except UserError:  # a table that leaves its laterality to the rows of a benchmark
            listing = list_dataset(name, root, laterality="image")
        now = fingerprint(
            [
                {"image": pair.image, "label": pair.mask, "text_prompt": f"{pair.split}\0{pair.text}"}
                for pair in listing.pairs
            ]
        )
        then = known.setdefault(name, now)
        if then != now:
            raise UserError(
                f"{root}: is other data than the trainings in {output} are of ({_versus(now, then)}); give another "
                "--output"
            )
    if known != before:
        write_text(path, json.dumps(known, indent=4) + "\n")


class Unfinished(Exception):
    """The time is up; the next run of the cell goes on."""


def run_cell(folder: Path, data: Path, deadline: float | None = None) -> None:
    """Do what ``folder/cell.json`` asks for and is not there yet; ``status.json`` says how it ended.

    Args:
        folder: of the cell.
        data: the data set's folder.
        deadline: seconds since 1970 at which training stops, to be gone on with another time; no evaluation is begun
            after it.

    Raises:
        UserError: whatever a run finds wrong; it stands in ``status.json`` too.
    """
    cell = from_json((folder / "cell.json").read_text(encoding="utf-8"))
    began = time.time()
    made_here = json.dumps(environment(), indent=4) + "\n"
    if not (folder / "train" / TRAINED).is_file():
        write_text(folder / "environment.json", made_here)
    try:
        _check_trained(folder / "train", cell, data)
        train_cell(folder, cell, data, deadline)
        problems = []
        for name in missing(folder, cell):
            if deadline is not None and time.time() > deadline:
                raise Unfinished
            try:
                _evaluate(folder, cell, data, name, made_here)
            except UserError as error:  # the other evaluations are none the worse
                problems.append(f"{name}: {error}")
        if problems:
            raise UserError("; ".join(problems))
    except Unfinished:
        _status(folder, "unfinished", began)
        return
    except KeyboardInterrupt:  # of the user, or of a budget that is spent: it is gone on with
        _status(folder, "unfinished", began)
        raise
    except Exception as error:
        line = str(user_error(error) or f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")
        _status(folder, "failed", began, error=line)
        raise
    _status(folder, "done", began)


def _check_trained(run: Path, cell: Cell, data: Path) -> None:
    """Refuse to score, or to go on with, a training of other data.

    Raises:
        UserError: ``run/model.json`` is of other rows than the cell's are.
    """
    sidecar = read_json(run / "model.json")
    if not sidecar:
        return
    now, then = fingerprint(training_rows(cell, data, sidecar["config"])), sidecar["data"]
    if now != then:
        raise UserError(f"{run}: was trained on other data than {data} ({_versus(now, then)}); give another --output")


def _versus(now: Mapping[str, Any], then: Mapping[str, Any]) -> str:
    words = (f"{one['items']:,} images with fingerprint {one['sha256'][:16]}..." for one in (now, then))
    return ", then ".join(words)


def _evaluate(folder: Path, cell: Cell, data: Path, name: str, environment: str) -> None:
    """One evaluation of a cell's weights."""
    where = folder / "scores" / name
    # a network trained without pictures is scored without them, too
    conditions = CONDITIONS[name]
    blank = conditions.blank_image or bool(cell.override.get("blank_image"))
    (where / SCORE).unlink(missing_ok=True)  # until it is there again, the evaluation is not whole
    evaluate(
        bundle_folder(cell.bundle), cell.overlays, data, where, weights=folder / "train" / "model.pt",
        conditions=replace(conditions, blank_image=blank),
        override={**cell.override, "dataset": cell.dataset, **cell.score},
    )  # fmt: skip
    write_text(where / "environment.json", environment)
    write_text(where / SCORE, json.dumps(_scored(folder, cell)))


def _status(folder: Path, state: str, began: float, **more: Any) -> None:
    seconds = round(time.time() - began, 1)
    write_text(folder / "status.json", json.dumps({"state": state, "seconds": seconds, **more}, indent=4) + "\n")


def training(cell: Cell) -> tuple[list[str], dict[str, Any]]:
    """Configurations and settings of a cell's (second) training, without folders."""
    return ["train", *cell.overlays], {**cell.override, "seed": cell.seed, "num_workers": 0}


def train_cell(folder: Path, cell: Cell, data: Path, deadline: float | None = None) -> None:
    """Train, or go on with a training; nothing if it is done.

    Raises:
        Unfinished: the deadline came first.
    """
    if (folder / "train" / TRAINED).is_file():
        return
    configs, settings = training(cell)
    if cell.stage_one is not None:
        first = folder / "stage_one"
        own = {"seed": cell.seed, "num_workers": 0, **cell.stage_one["override"]}
        _train(first, cell, [*configs, cell.stage_one["overlay"]], data, own, deadline)
        settings["image_checkpoint"] = str(first / "model.pt")
    _train(folder / "train", cell, configs, data, settings, deadline)


def _train(
    output: Path, cell: Cell, configs: Sequence[str], data: Path, settings: Mapping[str, Any], deadline: float | None
) -> None:
    if (output / TRAINED).is_file():
        return
    where = {
        "dataset_dir": str(data), "output_dir": str(output), "resume": (output / "last.pt").is_file(),
        # not those of the bundle, where a configuration without an overlay of its own puts them
        "weights": str(output / "model.pt"),
    }  # fmt: skip
    flow = run_bundle(bundle_folder(cell.bundle), configs, "training", **settings, **where, deadline=deadline)
    if not over(output, flow.parser.get_parsed_content("max_epochs")):
        raise Unfinished
    if not (output / "model.pt").is_file():
        raise UserError(f"{output}: no epoch had a score that is a number; see history.csv")
    _trained(output, configs, {key: value for key, value in settings.items() if key != "image_checkpoint"})


def _trained(output: Path, configs: Sequence[str], settings: Mapping[str, Any], **more: Any) -> None:
    """Write that a training is done, and what it was."""
    epochs = read_history(output)
    facts = {
        "configs": list(configs), "settings": dict(settings), "epochs": len(epochs), "steps": int(epochs[-1]["steps"]),
        "seconds": round(sum(float(row["seconds"]) for row in epochs), 1), **more,
    }  # fmt: skip
    write_text(output / TRAINED, json.dumps(facts, indent=4) + "\n")


def training_rows(cell: Cell, data: Path, config: Mapping[str, Any]) -> list[dict[str, str]]:
    """The rows that a cell's training with this configuration learns from."""
    return load_training(
        cell.dataset, data, train_split=config["train_split"], fraction=config["fraction"], seed=config["data_seed"],
        limit=config["train_limit"], draw=config["draw"], splits=config.get("splits", LATER_KEYS["splits"]),
        laterality=config.get("laterality"),
    )  # fmt: skip


def over(output: Path, max_epochs: int) -> bool:
    """Whether a training has come to its end: all epochs, or an early stop."""
    import torch

    if not (output / "last.pt").is_file():
        return False
    run = torch.load(output / "last.pt", map_location="cpu", weights_only=True)["_run"]
    return run["stopped"] or run["epoch"] >= max_epochs


def adopt(folder: Path, run: Path, data: Path) -> None:
    """Take a training that was run by hand as that of a cell, if it is the very training that the cell asks for.

    Args:
        folder: of the cell, with ``cell.json``.
        run: the training's ``output_dir``; it stays where it is, and the cell's ``train`` becomes a link to it.
        data: the data set's folder.

    Raises:
        UserError: it has another configuration or other data, is not finished, or the cell has a training.
    """
    cell = from_json((folder / "cell.json").read_text(encoding="utf-8"))
    if cell.stage_one is not None:
        raise UserError(f"{run}: {cell.name} has two stages; such a run is not taken over")
    if (folder / "train").exists():
        raise UserError(f"{folder / 'train'}: the cell has a training already")
    sidecar = read_json(run / "model.json")
    if not {"config", "data"} <= sidecar.keys() or not (run / "history.csv").is_file():
        raise UserError(f"{run}: has no model.json and history.csv of a training; give its --output_dir")
    configs, settings = training(cell)
    wanted = what_counts(_said(merged_config(bundle_folder(cell.bundle), configs, settings)))
    made = what_counts(_said(sidecar["config"]))
    # "training" is a copy of "run", which the sidecar has written out
    keys = (wanted.keys() | made.keys()) - {"training"}
    other = sorted(key for key in keys if wanted.get(key) != made.get(key))
    if other:
        raise UserError(f"{run}: is another training than {cell.name} ({', '.join(other)} differ)")
    _check_trained(run, cell, data)
    if not over(run, sidecar["config"]["max_epochs"]):
        raise UserError(f"{run}: is not finished; go on with it (--resume true)")
    _trained(run, configs, settings, adopted=True)
    (folder / "train").symlink_to(run.resolve(), target_is_directory=True)


def _said(item: Any) -> Any:
    """A configuration with the words true and True as what they mean: a command line gives them as words."""
    if isinstance(item, Mapping):
        return {key: _said(value) for key, value in item.items()}
    if isinstance(item, list):
        return [_said(value) for value in item]
    return True if item in ("true", "True") and isinstance(item, str) else item


def environment() -> dict[str, Any]:
    """Commit, device, threads and the version of every installed package; no name of a machine or person."""
    packages = {d.metadata["Name"]: d.version for d in distributions() if d.metadata["Name"]}
    return provenance() | {"packages": dict(sorted(packages.items(), key=lambda item: item[0].lower()))}
