"""What an exported file says of itself: all that a program needs that has the file and nothing else."""

from __future__ import annotations

import copy
import platform
from importlib.metadata import version
from typing import Any

from monai.bundle import ConfigParser
from monai.transforms import AsDiscreted

from common import __version__
from common.bundle import configuration_files
from common.files import sha256_of
from common.networks.base import TextNetwork
from common.prompts.tokenizer import Tokenizer
from common.runtime.model import Model
from common.transforms import TokenizePromptd

# ids of this machine, not of the model: in the file they are as the bundle's configuration has them
_LOCAL = ("bundle_root", "weights", "device", "dataset_dir", "output_dir", "run_dir", "num_workers")


def facts_of(model: Model) -> dict[str, Any]:
    """Inputs, outputs, transforms, sentence, versions and origin of a bundle's network, fit for JSON.

    ``inputs`` and ``outputs`` are tensors of the graph. ``image`` says what the picture must be, ``before`` and
    ``after`` are the steps of the configuration (MONAI's transforms and their arguments). In ``sentence``,
    ``laterality`` is always ``"image"``: the network knows the left of the picture, which is the patient's right.
    """
    network, config = model.network, inference_of(model)
    size = [int(n) for n in model.parser.get_parsed_content("image_size")]
    steps = [*config["deterministic_transforms"], *config["final_transforms"]]
    channels = model.metadata["network_data_format"]["inputs"]["image"]["num_channels"]
    facts: dict[str, Any] = {
        "bundle": {
            key: model.metadata[key]
            for key in ("name", "version", "task", "description", "modality", "body_part", "intended_use", "copyright")
        },
        "inputs": {"image": {"shape": ["batch", channels, *size], "dtype": "float32"}},
        "outputs": {
            "pred": {
                "shape": ["batch", 1, *size],
                "dtype": "float32",
                "meaning": "logits; the sigmoid is a probability",
            }
        },
        "image": {
            "orientation": "as displayed: rows from top to bottom, columns from left to right, the patient's right at "
            "the left; black is 0",
            "values": model.metadata["image_classes"],
            "size": size,
        },
        "before": [_step(step, model.parser) for step in steps],
        "after": [_step(step, model.parser) for step in config["postprocessing"]["transforms"]],
        "threshold": next(step for step in model.postprocessing if isinstance(step, AsDiscreted)).threshold[0],
        "weights": {"file": model.weights.name, "sha256": sha256_of(model.weights)},
        "versions": {
            "chest-refseg": __version__,
            "python": platform.python_version(),
            **{name: version(name) for name in ("torch", "monai", "transformers", "onnx", "onnxruntime-gpu")},
        },
    }
    facts["sentence"] = {}
    if isinstance(network, TextNetwork):
        facts["inputs"]["text"] = {
            "shape": ["batch", "length"], "dtype": "int64", "padding": 0, "longest": network.max_length,
            "ids_below": network.vocab_size,
        }  # fmt: skip
        facts["sentence"] = {
            "grammar": model.grammar,
            "captions": config["captions"],
            "laterality": "image",
            "length": tokenizer_of(model).length,
            "default": model.metadata["default_prompt"],
            "default_ids": network.default_text[0].tolist(),
        }
    return facts


def inference_of(model: Model) -> dict[str, Any]:
    """The bundle's ``inference.json`` with overlays and what was overridden, but nothing of this machine.

    Masks go to the working directory: who has the file alone has no bundle's folder.
    """
    config = copy.deepcopy(model.parser.get())
    written = ConfigParser.load_config_files(configuration_files(model.folder, ["inference"]))
    config.pop("_meta_", None)
    return config | {key: written[key] for key in _LOCAL if key in written} | {"output_dir": "eval"}


def tokenizer_of(model: Model) -> Tokenizer:
    """The tokeniser of a bundle's transforms."""
    return next(step.tokenizer for step in model.preprocessing.transforms if isinstance(step, TokenizePromptd))


def _step(step: dict[str, Any] | str, parser: ConfigParser) -> dict[str, Any]:
    """A transform (or a reference to one) by its name, arguments that refer to plain values resolved."""
    if isinstance(step, str):
        step = parser.get(step.removeprefix("@"))
    found: dict[str, Any] = {"name": step["_target_"].rpartition(".")[2]}
    for key, value in step.items():
        if key == "_target_":
            continue
        if isinstance(value, str) and value.startswith("@") and parser.get(value[1:], None) is not None:
            inner = parser.get(value[1:])
            value = inner if isinstance(inner, bool | int | float | str | list) else value
        found[key] = value
    return found
