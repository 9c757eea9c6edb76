"""A training once more, from its sidecar: the same configuration on the same data, and what came out compared.

Randomness of a training depends on the seed alone, so the same commit, versions, number of threads and kind of CPU give
the same bits. On another machine, and on a GPU, sums are rounded otherwise: there the validation metric has to agree.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser

from common.bundle import BUNDLES, bundle_folder
from common.datasets.fingerprint import fingerprint
from common.engines.checkpoint import CHECKPOINTS, FREE_KEYS, provenance, starting_weights
from common.errors import UserError
from common.files import write_text
from common.networks.checkpoints import read_weights
from common.runtime.model import device_of
from common.runtime.workflow import run_files

CONFIG = "reproduced.json"
# where the fingerprint of a sidecar's data comes from
_DATA = {"data": "train::dataset::data", "unlabelled": "train::trainer::unlabelled::data"}
# these do not change what is computed, but how much of it: a run that they stopped has fewer epochs
LIMITS = ("time_limit", "deadline")
_CLOCK = frozenset({"seconds", "images_per_second", "data_share"})  # of history.csv: never the same twice
_HARMLESS = frozenset({"$None", "$True", "$False"})
_WEIGHTS = (".pt", ".pth", ".safetensors", ".bin")  # names of files end so, and none of published weights
_START = "$_start()"  # of multi_gpu_train.json


@dataclass(frozen=True)
class Recorded:
    """What a training left.

    Attributes:
        sidecar: ``model.json``.
        weights: beside it; None if they are not there.
        history: rows of ``history.csv``; None if they are not there.
    """

    path: Path
    sidecar: dict[str, Any]
    weights: Path | None
    history: list[dict[str, str]] | None

    @property
    def config(self) -> dict[str, Any]:
        """The configuration without what may differ between two runs that are one."""
        return {k: v for k, v in self.sidecar["config"].items() if k not in FREE_KEYS and k != "_meta_"}

    @property
    def value(self) -> float:
        """The validation metric of the best epoch."""
        return float(self.sidecar["value"])


@dataclass(frozen=True)
class Difference:
    """Of two networks' weights: the largest, and where.

    Attributes:
        largest: 0.0 if no bit differs; infinity if they are not of one network.
        key: where it is; "" if nowhere.
        numbers: how many were compared.
        precision: in which; weights kept in half precision are compared in it.
    """

    largest: float
    key: str
    numbers: int
    precision: str


@dataclass(frozen=True)
class Comparison:
    """A run then and now.

    Attributes:
        weights: None where no weights were kept.
        rows: epochs that are the same in ``history.csv``, and how many there were then; None where it was not kept.
        first_other: epoch, column, value then and now of the first difference in it.
        exact: whether the same bits are to be expected.
        tolerance: of the metric, where they are not.
    """

    then: Recorded
    now: Recorded
    weights: Difference | None
    rows: tuple[int, int] | None
    first_other: tuple[str, str, str, str] | None
    exact: bool
    tolerance: float

    @property
    def identical(self) -> bool:
        """Nothing that was kept differs."""
        same = self.then.value == self.now.value and self.first_other is None
        return same and (self.weights is None or self.weights.largest == 0)

    @property
    def reproduced(self) -> bool:
        """Identical; or, where that is not to be expected, with a metric that agrees."""
        return self.identical or (not self.exact and abs(self.now.value - self.then.value) <= self.tolerance)


def recorded(run: Path) -> Recorded:
    """What a training left, by its folder or the path of ``model.json`` or ``model.pt``.

    Raises:
        UserError: there is no sidecar.
    """
    path = run / "model.json" if run.is_dir() else run.with_suffix(".json")
    try:
        sidecar = json.loads(path.read_text(encoding="utf-8"))
        _ = sidecar["config"]["network_def"], sidecar["data"]["sha256"], float(sidecar["value"]), sidecar["commit"]
        _ = sidecar["metric"], int(sidecar["epoch"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: is not the sidecar that a training writes; give its folder") from error
    weights, rows = path.with_suffix(".pt"), path.with_name("history.csv")
    history = sidecar.get("history")
    if history is None and rows.is_file():
        with rows.open(newline="", encoding="utf-8") as file:
            history = list(csv.DictReader(file))
    return Recorded(path, sidecar, weights if weights.is_file() else None, history)


def bundle_of(run: Recorded, bundle: str | None = None) -> Path:
    """The folder of the bundle that was trained.

    Args:
        run: what it left.
        bundle: name or folder; None takes the name that the sidecar has.

    Raises:
        UserError: there is no such bundle, or the sidecar does not say which.
    """
    name = bundle or run.sidecar["config"].get("_meta_", {}).get("name")
    if not name:
        raise UserError(f"{run.path}: does not say of which bundle it is; give --bundle NAME")
    return bundle_folder(bundle or BUNDLES / name)


def check_commit(run: Recorded) -> None:
    """Refuse another commit than the run's, with the command that gives it.

    Raises:
        UserError: the commits differ, or one of them had changes that no commit holds.
    """
    then, now = str(run.sidecar["commit"]), str(provenance()["commit"])
    if then == now and re.fullmatch("[0-9a-f]{40}", then):
        return
    commit = then.removesuffix("-dirty")
    if not re.fullmatch("[0-9a-f]{7,40}", commit):
        fault, fix = f"its commit is '{then}'", "no command gives its code"
    elif then != commit:
        fault, fix = f"was trained with changes that commit {commit[:12]} does not hold", "no command gives its code"
    elif now == f"{then}-dirty":
        fault, fix = "this checkout has changes that its commit does not hold", "git stash"
    else:
        fault = f"was trained with commit {commit[:12]}, this is {now[:12]}"
        fix = f"git worktree add ../chest-refseg-{commit[:7]} {commit}, and run this command there"
    raise UserError(f"{run.path}: {fault}; {fix} (--any-commit goes on with this code)")


def other_versions(run: Recorded) -> list[str]:
    """What differs between the run's packages and machine and those at hand, a line each."""
    now = provenance()
    then = {**run.sidecar, **run.sidecar.get("versions", {})}
    here = {**now, **now["versions"]}
    keys = [*now["versions"], "device", "cpu"]
    return [f"{k}: {then[k]} then, {here[k]} now" for k in keys if k in then and then[k] != here[k]]


def check_code(run: Recorded, bundle: Path) -> None:
    """Refuse a configuration that would run other code than the bundle's own configurations do.

    Expressions and ``_target_`` of a sidecar are executed, and a sidecar is a file that somebody gave.

    Raises:
        UserError: it names one that no configuration of the bundle has.
    """
    known = code_of_bundle(bundle) | _HARMLESS
    for name, text in code_of(run.config):
        if text not in known:
            raise UserError(
                f"{run.path}: config::{name} would run {text!r:.80}, which no configuration of {bundle.name} does; "
                f"read it, and if you trust it: --trust-config"
            )


def code_of_bundle(bundle: Path) -> set[str]:
    """All that the configurations of a bundle execute, look up or read from a file."""
    files = (bundle / "configs").glob("*.json")
    return {text for file in files for _, text in code_of(json.loads(file.read_text(encoding="utf-8")))}


def code_of(item: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """(id, text) of all that MONAI's parser executes, looks up or reads from a file."""
    if isinstance(item, Mapping):
        for key, value in item.items():
            below = f"{name}::{key}" if name else str(key)
            if re.split("::|#", str(key))[-1] == "_target_":  # also the id of one, as overlays have it
                yield below, str(value)
            else:
                yield from code_of(value, below)
    elif isinstance(item, Sequence) and not isinstance(item, str):
        for number, value in enumerate(item):
            yield from code_of(value, f"{name}::{number}")
    elif isinstance(item, str) and item.startswith(("$", "%")):
        yield name, item


def prepared(
    run: Recorded,
    bundle: Path,
    data: Path,
    output: Path,
    device: str | None = None,
    checkpoints: Mapping[str, Path] | None = None,
) -> dict[str, Any]:
    """The run's configuration with other places, and with another device if one is given.

    Args:
        run: what it left.
        bundle: its folder.
        data: the data set's folder.
        output: a folder that is not there, or empty.
        device: other than the run's.
        checkpoints: where the files lie now that encoders begin with, by :data:`common.engines.checkpoint.CHECKPOINTS`.

    Raises:
        UserError: the run was one of several processes; there is no such device; ``output`` is in use; a file that an
            encoder began with is not there.
    """
    config = run.config
    if _START in config.get("initialize", ()):
        raise UserError(f"{run.path}: was trained by several processes, which this command starts none of")
    if not data.is_dir():
        raise UserError(f"--data {data}: there is no such folder; give the data set's folder")
    output, folder = output.resolve(), str(output.resolve())
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise UserError(f"--output {output}: is there already; give another folder, or remove it")
    noted = run.sidecar.get("checkpoints")  # None: of an earlier version, or there was nothing to note
    for key in CHECKPOINTS:
        place = (checkpoints or {}).get(key)
        option = f"--{key.replace('_', '-')}"
        if place is not None:
            if config.get(key) is None:
                raise UserError(f"{option} {place}: the run began with none; leave it out")
            if not place.exists():
                raise UserError(f"{option} {place}: is not there; give the file or folder that the run began with")
            config[key] = str(place.resolve())
        elif (_is_path(config.get(key)) if noted is None else key in noted) and not Path(config[key]).exists():
            content = f" (SHA-256 {noted[key][:16]}...)" if noted else ""
            raise UserError(
                f"{run.path}: began with {config[key]}, which is not there; say where it is now{content}: {option} FILE"
            )
    if device is not None:
        config["device"] = f"$torch.device('{device_of(device)}')"
    if run.history and any(run.sidecar["config"].get(key) is not None for key in LIMITS):
        # stop where it was stopped; what is planned by the number of epochs, such as the learning rate, stays
        trainer = config["train"]["trainer"] | {"max_epochs": len(run.history)}
        config["train"] = config["train"] | {"trainer": trainer}
    return config | dict.fromkeys(LIMITS) | {
        "bundle_root": str(bundle), "dataset_dir": str(data.resolve()), "output_dir": folder, "run_dir": folder,
        "weights_dir": folder, "weights": str(output / "model.pt"), "resume": False,
    }  # fmt: skip


def _is_path(setting: Any) -> bool:
    """Whether a setting is a path beyond doubt; a relative folder may look like the name of published weights."""
    return isinstance(setting, str) and (Path(setting).is_absolute() or setting.endswith(_WEIGHTS))


def check_data(run: Recorded, config: Mapping[str, Any]) -> None:
    """Refuse other data than the run's.

    Raises:
        UserError: the fingerprints differ; whatever is wrong with the data.
    """
    parser = ConfigParser(dict(config))
    for key, item in _DATA.items():
        then = run.sidecar.get(key)
        if then is None:
            continue
        now = fingerprint(parser.get_parsed_content(item) or [])
        if now != then:
            raise UserError(
                f"{config['dataset_dir']}: is other data than the run's: {item} has {now['items']:,} items with "
                f"fingerprint {now['sha256'][:16]}..., then {then['items']:,} with {then['sha256'][:16]}...; give the "
                f"folder of the same data"
            )


def other_checkpoints(run: Recorded, config: Mapping[str, Any]) -> list[str]:
    """Files that encoders begin with whose content is another than the run's, or may be, a line each."""
    then, now = _checkpoints(run), starting_weights(config)
    lines = []
    for key in sorted(then | now):
        if key not in then:
            lines.append(
                f"{key}: the run began with {run.config.get(key)} and did not note what that held: whether "
                f"{config[key]} holds the same cannot be checked"
            )
        elif then[key] != now.get(key):
            lines.append(
                f"{key}: {config[key]} is another file than the run began with: {now.get(key, 'nothing')[:16]}..., "
                f"then {then[key][:16]}..."
            )
    return lines


def _checkpoints(run: Recorded) -> dict[str, str]:
    """SHA-256 of what encoders began with, as far as the run noted it."""
    return run.sidecar.get("checkpoints") or {}


def train_again(run: Recorded, bundle: Path, config: Mapping[str, Any]) -> Recorded:
    """Train with as many threads as the run had, into the configuration's ``output_dir``."""
    output = Path(config["output_dir"])
    file = output / CONFIG
    write_text(file, json.dumps(config, indent=4, ensure_ascii=False) + "\n")
    threads = torch.get_num_threads()
    torch.set_num_threads(int(run.sidecar.get("threads", threads)))
    try:
        run_files(bundle, [str(file)], "training")
    finally:
        torch.set_num_threads(threads)
    return recorded(output)


def compare(then: Recorded, now: Recorded, tolerance: float) -> Comparison:
    """Weights, metric and history of two runs."""
    rows, first = _rows(then.history, now.history or [])
    on_cpu = re.search(r", \d+ cores$", str(then.sidecar.get("device", ""))) is not None
    same = ("commit", "versions", "device", "threads", "cpu")
    clean = "-dirty" not in str(now.sidecar["commit"])
    exact = on_cpu and clean and all(then.sidecar.get(key) == now.sidecar.get(key) for key in same)
    exact = exact and _checkpoints(then) == _checkpoints(now)
    weights = None
    if then.weights is not None and now.weights is not None:
        weights = _difference(read_weights(then.weights), read_weights(now.weights))
    return Comparison(then, now, weights, rows, first, exact, tolerance)


def _difference(then: Mapping[str, torch.Tensor], now: Mapping[str, torch.Tensor]) -> Difference:
    other = sorted(then.keys() ^ now.keys()) or [key for key in then if then[key].shape != now[key].shape]
    numbers = sum(value.numel() for value in then.values())
    kinds = {str(value.dtype).removeprefix("torch.") for value in then.values() if value.is_floating_point()}
    precision = ", ".join(sorted(kinds))
    if other:
        return Difference(float("inf"), other[0], numbers, precision)
    largest, where = 0.0, ""
    for key, value in then.items():
        again = now[key].to(value.dtype)
        if not torch.equal(value, again):
            gap = float((value.double() - again.double()).abs().max())
            if not gap <= largest:
                largest, where = gap, key
    return Difference(largest, where, numbers, precision)


def _rows(
    then: Sequence[Mapping[str, str]] | None, now: Sequence[Mapping[str, str]]
) -> tuple[tuple[int, int] | None, tuple[str, str, str, str] | None]:
    """How many epochs are the same, of how many; and the first difference in a column that there was then."""
    if then is None:
        return None, None
    same, first = 0, None
    for number in range(max(len(then), len(now))):
        a, b = (dict(rows[number]) if number < len(rows) else {} for rows in (then, now))
        keys = [key for key in a or b if key not in _CLOCK and a.get(key) != b.get(key)]
        same += not keys
        if keys and first is None:
            epoch = str(a.get("epoch") or b.get("epoch"))
            first = (epoch, keys[0], a.get(keys[0]) or "nothing", b.get(keys[0]) or "nothing")
    return (same, len(then)), first
