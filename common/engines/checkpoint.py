"""Checkpoints that survive a kill at any moment.

MONAI's and Ignite's savers remove the old file before the new one is written; here :mod:`common.files` moves the new
one over it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import platform
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events

from common._version import __version__
from common.errors import UserError
from common.files import replacing, sha256_of, write_text

# Keys of a configuration that do not change what is computed: two runs may differ in them and still be one.
FREE_KEYS = frozenset(
    {
        "resume",
        "bundle_root",
        "dataset_dir",
        "output_dir",
        "run_dir",
        "weights",
        "weights_dir",
        "save_execute_config",  # dated
        "time_limit",
        "deadline",
    }
)
CHECKPOINTS = ("image_checkpoint", "text_checkpoint")  # settings that name what encoders begin with
# Settings that configurations got later -> the value that computes what was computed before there was such a setting.
# With that value they do not count, so that runs from before are continued, and compared with runs of today.
LATER_KEYS = {"splits": "published"}


def plain(module: torch.nn.Module) -> torch.nn.Module:
    """The network inside ``DistributedDataParallel`` or ``torch.compile``."""
    while isinstance(module, torch.nn.parallel.DistributedDataParallel) or hasattr(module, "_orig_mod"):
        module = module.module if isinstance(module, torch.nn.parallel.DistributedDataParallel) else module._orig_mod
    return module


def what_counts(config: Mapping[str, Any]) -> dict[str, str]:
    """The part of a configuration that changes what is computed, each top-level key as canonical JSON.

    A setting of :data:`LATER_KEYS` with its old value is left out, and so is what hands it on (``"splits": "@splits"``
    of a component, ``splits=@splits`` as a further argument in an expression).
    """
    for key, value in LATER_KEYS.items():
        if config.get(key, value) == value:
            config = _without({name: item for name, item in config.items() if name != key}, key)
    return {
        key: json.dumps(value, sort_keys=True, default=str)
        for key, value in sorted(config.items())
        if key not in FREE_KEYS and not key.startswith("_")
    }


def _without(item: Any, key: str) -> Any:
    """A configuration in which nothing is handed the setting ``key``."""
    if isinstance(item, Mapping):
        return {name: _without(value, key) for name, value in item.items() if (name, value) != (key, f"@{key}")}
    if isinstance(item, list):
        return [_without(value, key) for value in item]
    return item.replace(f", {key}=@{key}", "") if isinstance(item, str) else item


def provenance() -> dict[str, Any]:
    """Commit, versions and machine that a run was made with.

    On a CPU the same commit, versions, ``threads`` and ``cpu`` (its vector instructions) give the same bits.
    """
    here = Path(__file__).resolve().parent
    try:
        commit = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            cwd=here, capture_output=True, text=True, check=True, timeout=20,
        ).stdout.strip()  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        commit = "unknown: not a git checkout"
    import ignite
    import monai
    import numpy

    versions = {
        "chest-refseg": __version__, "python": platform.python_version(), "torch": torch.__version__,
        "monai": monai.__version__, "ignite": ignite.__version__, "numpy": numpy.__version__,
    }  # fmt: skip
    cpu = f"{platform.machine()}, {os.cpu_count()} cores"
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else cpu
    return {
        "commit": commit, "versions": versions, "device": device, "cores": os.cpu_count(),
        "threads": torch.get_num_threads(), "cpu": torch.backends.cpu.get_cpu_capability(),
    }  # fmt: skip


def starting_weights(config: Mapping[str, Any]) -> dict[str, str]:
    """SHA-256 of the files that a training's encoders begin with, by the setting that names them.

    Of a folder: that of a list of its files, ``<sha256>  <name>`` a line, by name. What is no file here is a name of
    published weights, and says which by itself.
    """
    found = {}
    for key in CHECKPOINTS:
        path = Path(str(config.get(key) or ""))
        if config.get(key) and path.is_file():
            found[key] = sha256_of(path)
        elif config.get(key) and path.is_dir():
            files = sorted(file for file in path.iterdir() if file.is_file())
            lines = "".join(f"{sha256_of(file)}  {file.name}\n" for file in files)
            found[key] = hashlib.sha256(lines.encode()).hexdigest()
    return found


def _save(content: Any, path: Path) -> None:
    """``torch.save``; to an open file, since the archive would hold the name of a path."""
    with replacing(path) as part, part.open("wb") as file:
        torch.save(content, file)


class BestCheckpoint:
    """Save the network's weights when a metric of the evaluator is better than ever before.

    A ``model.pt`` of an earlier run becomes ``previous_model.pt``. Beside ``model.pt`` stands ``model.json``: the
    merged configuration, seed, commit, versions, a fingerprint of the training data, SHA-256 of the files that encoders
    begin with (``checkpoints``; read once, when this is made: the network has just been made from them), and the
    metric's value.

    Args:
        network: what is trained; saved without wrappers, as a flat state dict.
        path: the file, usually ``models/model.pt`` of the bundle.
        metric: the name in ``engine.state.metrics``; greater is better.
        sidecar: what ``model.json`` holds beside the metric. What the evaluator names in ``sources`` (further data
            that a trainer learns from) is added by itself.
    """

    def __init__(
        self,
        network: torch.nn.Module,
        path: str | Path,
        metric: str,
        sidecar: Mapping[str, Any] | None = None,
    ) -> None:
        self.network, self.path, self.metric = network, Path(path), metric
        self.sidecar = dict(sidecar or {})
        self.best: float | None = None
        self.epoch = 0  # of the best that this run saved
        self.only_compare = False
        # None: of a run that was begun before they were noted, and goes on
        self.checkpoints: dict[str, str] | None = starting_weights(self.sidecar.get("config", {}))

    def attach(self, engine: Engine) -> None:
        """Attach to the evaluator, after its metrics."""
        engine.add_event_handler(Events.EPOCH_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Compare and, if better, save.

        Raises:
            UserError: a value to compare with is no number.
        """
        value = float(engine.state.metrics[self.metric])
        if self.only_compare and not math.isfinite(value):
            raise UserError(
                f"{self.metric}: the present weights score {value}, with which no others can be compared; see whether "
                "they are whole and the validation labels hold lesions"
            )
        if not math.isfinite(value) or (self.best is not None and value <= self.best):
            return
        if self.only_compare:
            self.best = value
            return
        first = self.epoch == 0
        self.best, self.epoch = value, engine.state.epoch
        if engine.state.rank == 0:
            if first and self.path.exists():
                # of another run: kept, in case that one was better; copied, so that the file is never missing
                for path in (self.path, self.path.with_suffix(".json")):
                    if path.exists():
                        with replacing(path.with_stem("previous_" + path.stem)) as part:
                            shutil.copyfile(path, part)
            state = plain(self.network).state_dict()
            _save(state, self.path)
            found = {"metric": self.metric, "value": value, "epoch": self.epoch}
            found |= provenance() | self.sidecar | getattr(engine, "sources", {})
            if self.checkpoints:
                found["checkpoints"] = self.checkpoints
            text = json.dumps(found, indent=4, default=str)
            write_text(self.path.with_suffix(".json"), text)

    def state_dict(self) -> dict[str, Any]:
        """The best value so far and its epoch."""
        return {"best": self.best, "epoch": self.epoch}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over the threshold of an interrupted run."""
        self.best, self.epoch = state["best"], state["epoch"]


class ScoreFirst:
    """Score the network before it is trained further, so that only better weights take the place of its own.

    Attach it to the trainer after whatever loads the weights. A teacher begins as the network that was loaded.

    Args:
        evaluator: of the validation.
        best: attached to it; nothing is saved by this validation.
    """

    def __init__(self, evaluator: Engine, best: BestCheckpoint) -> None:
        self.evaluator, self.best = evaluator, best

    def attach(self, engine: Engine) -> None:
        """Attach to the trainer."""
        engine.add_event_handler(Events.STARTED, self)

    def __call__(self, engine: Engine) -> None:
        """Validate once.

        Raises:
            UserError: the score is no number.
        """
        if start := getattr(engine, "start_teacher", None):
            start()
        self.best.only_compare = True
        try:
            self.evaluator.run(1)
        finally:
            self.best.only_compare = False


class LastCheckpoint:
    """Write everything that training needs to go on at the end of every epoch, and continue from it.

    Attach it last: what other handlers do at the end of an epoch is then part of what is saved.

    Args:
        path: the file, ``<output_dir>/last.pt``.
        state: what is saved by name: anything with ``state_dict`` and ``load_state_dict`` (network, optimizer,
            scheduler, loss with a schedule, early stop, best checkpoint, history). The trainer's ``GradScaler``, and
            what a trainer names in ``kept`` (the teacher), are added by themselves.
        config: the merged configuration; a checkpoint of another one is refused, and so is one of a run whose
            encoders began with files of other content.
        data: fingerprints of the data; a checkpoint of other data is refused. What a trainer names in ``sources`` is
            added by itself.
        resume: continue from ``path`` if it is there; if False, a file that is there is an error.
    """

    def __init__(
        self,
        path: str | Path,
        state: Mapping[str, Any],
        config: Mapping[str, Any],
        data: Mapping[str, Any] | None = None,
        resume: bool = False,
    ) -> None:
        self.path, self.resume = Path(path), resume
        self.state = {name: item for name, item in state.items() if hasattr(item, "state_dict")}
        self.config, self.data = what_counts(config), dict(data or {})
        self.named = {key: config.get(key) for key in CHECKPOINTS}
        if self.path.exists() and not resume:
            raise UserError(
                f"{self.path}: a run was begun in this folder; continue it with --resume true, "
                f"or give another --output_dir, or remove the file"
            )
        self.best = next((item for item in self.state.values() if isinstance(item, BestCheckpoint)), None)
        self.checkpoints = self.best.checkpoints if self.best is not None else starting_weights(config)

    def attach(self, engine: Engine) -> None:
        """Attach to the trainer, after all other handlers."""
        engine.add_event_handler(Events.STARTED, self.restore)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.save)

    def _items(self, engine: Engine) -> dict[str, Any]:
        named = self.state | getattr(engine, "kept", {})
        items = {n: plain(i) if isinstance(i, torch.nn.Module) else i for n, i in named.items()}
        if engine.scaler is not None:
            items["scaler"] = engine.scaler
        return items

    def _config(self, engine: Engine) -> dict[str, str]:
        return self.config | what_counts({"data": self.data | getattr(engine, "sources", {})})

    def save(self, engine: Engine) -> None:
        """Write the file (rank 0)."""
        if engine.state.rank:
            return
        content = {name: item.state_dict() for name, item in self._items(engine).items()}
        content["_run"] = {
            "epoch": engine.state.epoch,
            "iteration": engine.state.iteration,
            "stopped": bool(engine.should_terminate),
            "config": self._config(engine),
            "checkpoints": self.checkpoints,
        }
        _save(content, self.path)

    def restore(self, engine: Engine) -> None:
        """Continue from the file, if asked to and it is there."""
        if not self.resume:
            return
        log = logging.getLogger("resume")
        if not self.path.exists():
            log.info("%s is not there yet: training starts from the beginning", self.path)
            return
        try:
            content = torch.load(self.path, map_location=engine.state.device, weights_only=True)
        except Exception as error:
            raise UserError(f"{self.path}: cannot be read ({type(error).__name__}); remove it to start anew") from error
        run = content["_run"]
        before, now = run["config"], self._config(engine)
        other = sorted(k for k in before.keys() | now.keys() if before.get(k) != now.get(k))
        if other:
            raise UserError(
                f"{self.path}: was written with another configuration ({', '.join(other)} differ); "
                f"resume with the same one, or give another --output_dir"
            )
        self._begin_as(run.get("checkpoints"))  # not kept by earlier versions
        for name, item in self._items(engine).items():
            item.load_state_dict(content[name])
        engine.state.epoch, engine.state.iteration = run["epoch"], run["iteration"]
        log.info("continuing after epoch %d from %s", run["epoch"], self.path)
        if run["stopped"]:
            log.info("this run had stopped early: nothing is left to do")
            engine.terminate()

    def _begin_as(self, then: dict[str, str] | None) -> None:
        """Take over what the run began with; refuse it if the files are others by now."""
        now = self.checkpoints or {}
        if then is not None and then != now:
            other = "; ".join(
                f"{key} {self.named[key]} has SHA-256 {now.get(key, 'of no file')[:16]}, "
                f"then {then.get(key, 'of no file')[:16]}"
                for key in CHECKPOINTS if then.get(key) != now.get(key)
            )  # fmt: skip
            raise UserError(
                f"{self.path}: the run began with other files ({other}); put them back, or give another --output_dir"
            )
        self.checkpoints = then
        if self.best is not None:
            self.best.checkpoints = then
