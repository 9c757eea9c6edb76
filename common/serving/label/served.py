"""The copy of a bundle that MONAI Label's ``monaibundle`` app finds: ``<app>/model/<name>``.

Its configurations are the bundle's own with the overlays merged in. Added are the steps of :mod:`.steps`; ``models`` is
a link to the folder of the weights, so that what is learnt from corrections is the bundle's from then on.
"""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.bundle import bundle_folder, weights
from common.errors import UserError
from common.files import write_text
from common.runtime.model import Processing
from common.runtime.workflow import merged_config
from common.serving.label.requests import CHOOSE, LATERALITY, SENTENCE, THRESHOLD

_STEPS = "common.serving.label.steps."
_METADATA = "$@bundle_root + '/configs/metadata.json'"
FACTS = "label_server.json"  # in configs: what the processes for training need to know, too
_POST = ("Activationsd", "Invertd", "AsDiscreted", "SqueezeDimd", "CastToTyped", "SaveImaged")


@dataclass(frozen=True)
class Served:
    """A bundle as it is served.

    Attributes:
        name: the model's name in MONAI Label.
        folder: of the copy.
        modalities: DICOM's, that it is for.
        fields: what a client may set, and its default or choices.
    """

    name: str
    folder: Path
    modalities: tuple[str, ...]
    fields: dict[str, Any]


def serve(bundle: str, app: Path, overlays: Sequence[str] = (), override: Mapping[str, Any] | None = None) -> Served:
    """Write the copy of a bundle.

    Args:
        bundle: its folder or name.
        app: the app's folder.
        overlays: configurations on top of its own, such as ``demo``.
        override: ids of the configurations and their values; each goes to the files that have its first part.

    Raises:
        UserError: there is no such bundle or configuration, or it has no weights.
    """
    source, override = bundle_folder(bundle), dict(override or {})
    own = Processing(source, overlays, **override)
    model = Path(weights(own.weights)).resolve()
    if model.name != "model.pt":
        raise UserError(f"{model}: MONAI Label looks for a file model.pt; put it into a folder of its own by that name")
    name = own.metadata["name"]
    folder = app / "model" / name
    if folder.exists():
        raise UserError(f"--bundles {bundle}: a bundle named {name} is served already; name each once")
    configs = folder / "configs"
    configs.mkdir(parents=True)
    (folder / "models").symlink_to(model.parent, target_is_directory=True)
    # the copy is made anew at each start; what was trained stays on record
    runs = (app.parent / "runs" / name).resolve()
    runs.mkdir(parents=True, exist_ok=True)
    (folder / "runs").symlink_to(runs, target_is_directory=True)
    write_json(configs / "metadata.json", own.metadata)
    for file in ("multi_gpu_train.json", "logging.conf"):
        shutil.copyfile(source / "configs" / file, configs / file)
    write_json(configs / "inference.json", served_inference(merged_config(source, ["inference", *overlays], override)))
    training = merged_config(source, ["train", *overlays], override)
    write_json(configs / "train.json", served_training(training, own.kind))
    threshold = float(own.parser.get_parsed_content("threshold"))
    fields = fields_of(own.takes_text, own.grammar, threshold)
    write_json(configs / FACTS, {"fields": fields})
    modalities = tuple(value.strip() for value in own.metadata["modality"].split(",") if value.strip())
    return Served(name, folder, modalities, fields)


def fields_of(takes_text: bool, grammar: str, threshold: float) -> dict[str, Any]:
    """What ``/info`` shows of a model that a client may set.

    Args:
        takes_text: whether a sentence makes a difference.
        grammar: of the sentences; positions of polyps are the picture's.
        threshold: at which a probability becomes lesion.
    """
    whose = ["patient", "image"] if grammar == "chest" else ["image"]
    prompt = {SENTENCE: "", LATERALITY: [CHOOSE, *whose]} if takes_text else {}
    return prompt | {THRESHOLD: threshold}


def served_inference(config: Mapping[str, Any]) -> dict[str, Any]:
    """An ``inference.json`` that checks a request first and answers in words.

    Raises:
        UserError: its post-processing is another than that of this collection's bundles.
    """
    config = copy.deepcopy(dict(config))
    steps = config["deterministic_transforms"]
    # MONAI Label's loader wants all of its keys
    steps[_index(steps, "LoadImaged")]["keys"] = ["image"]
    steps.insert(_index(steps, "ToDisplayd") + 1, {"_target_": _STEPS + "KeepPictured", "keys": "image"})
    check = {"_target_": _STEPS + "CheckRequestd", "keys": "image", "grammar": "@grammar", "metadata": _METADATA}
    steps.insert(0, check)
    post = config["postprocessing"]["transforms"]
    if tuple(step["_target_"].split(".")[-1] for step in post) != _POST:
        raise UserError(f"postprocessing: is not {', '.join(_POST)}, which is what can be served; see bundles/unet")
    answered = {
        "_target_": _STEPS + "Answerd", "keys": "pred", "transform": "@preprocessing", "orig_keys": "image",
        "threshold": "@threshold", "grammar": "@grammar", "metadata": _METADATA,
    }  # fmt: skip
    config["postprocessing"]["transforms"] = [post[0], answered]
    return config


def served_training(config: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """A ``train.json`` that learns from submitted labels.

    The data lists, the number of epochs and the device are MONAI Label's. The weights are scored before they are
    trained, and replaced by better ones only.

    Args:
        config: the bundle's own, overlays merged in.
        kind: of its images, a key of :data:`common.prompts.zones.TABLES`.
    """
    config = copy.deepcopy(dict(config))
    steps = config["deterministic_transforms"]
    steps.insert(0, {"_target_": _STEPS + "SourceImaged", "keys": "image"})
    sentence = {"_target_": _STEPS + "SentenceOfLabeld", "keys": "label", "grammar": "@grammar", "kind": kind}
    steps.insert(_index(steps, "PreparePromptd"), sentence)
    config["imports"] += [
        "$from common.serving.label.training import check_labels as _check_labels",
        "$from common.serving.label.training import new_folder as _new_folder",
    ]
    config |= {
        "run_dir": "$_new_folder(@bundle_root)",
        "output_dir": "@run_dir",
        "weights": "$@bundle_root + '/models/model.pt'",
        "load_pretrained": False,
        # an epoch is all labels, once
        "epoch_length": None,
        # MONAI Label gives the device as text
        "amp": "$str(@device).startswith('cuda')",
        "initialize": ["$_check_labels(@train::dataset::data, @validate::dataset::data)", *config["initialize"]],
    }
    train, validate = config["train"], config["validate"]
    for engine in (train["trainer"], validate["evaluator"]):
        engine["amp_kwargs"] = {"dtype": "$_amp_dtype(torch.device(@device))"}
    if "unlabelled" in train["trainer"]:
        train["trainer"]["unlabelled"] = None
    # no run is continued, so that nothing refers to a handler by its number: MONAI Label puts its loader first
    handlers = [step for step in train["handlers"] if not step["_target_"].endswith("LastCheckpoint")]
    first = {
        "_target_": "common.engines.ScoreFirst", "evaluator": "@validate::evaluator",
        "best": "@validate::best_checkpoint",
    }  # fmt: skip
    train["handlers"] = [*handlers, first]
    return config


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a configuration."""
    write_text(path, json.dumps(content, indent=4) + "\n")


def _index(steps: Sequence[Mapping[str, Any]], name: str) -> int:
    return next(place for place, step in enumerate(steps) if step["_target_"].split(".")[-1] == name)
