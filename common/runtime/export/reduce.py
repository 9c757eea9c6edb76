"""Smaller ONNX files: int8 for a CPU, fp16 for a GPU, kept only where Dice on held-out images stays."""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from common.datasets import load_dataset
from common.errors import UserError
from common.files import replacing, write_text
from common.images import read_mask
from common.metrics.overlap import counts, dice
from common.networks.base import TextNetwork
from common.runtime.backends import FACTS, listed_in, open_exported, read_inside
from common.runtime.export.export import SIDECAR
from common.runtime.model import Model
from common.runtime.speed import milliseconds

MOST = 0.5  # points of Dice that may be lost, by either definition
# what becomes int8, the first that keeps Dice: weights and activations of all products, or of convolutions alone
_TRIALS = (("Conv", "ConvTranspose", "Gemm", "MatMul"), ("Conv", "ConvTranspose"), ("Conv",))


@dataclass
class Reduced:
    """What came of it.

    Attributes:
        path: the file; None where it was not kept.
        rows: of PyTorch, the ONNX file and each trial: ``network``, ``MB``, ``ms an image``, ``Dice (micro)``, ``Dice
            (mean)``, in points.
        images: so many were held out.
    """

    path: Path | None
    rows: list[dict[str, Any]]
    images: int


@dataclass
class _Case:
    data: dict[str, Any]
    label: str
    inputs: tuple[torch.Tensor, ...]  # image and ids of a batch of one


def reduce(
    model: Model,
    source: Path,
    kind: str,
    data: Path,
    dataset: str = "auto",
    calibration: int = 64,
    held_out: int = 100,
    said: Callable[[str], None] = lambda line: None,
) -> Reduced:
    """Write ``model_int8.onnx`` or ``model_fp16.onnx`` beside an exported ``model.onnx``, if its masks are as good.

    Args:
        model: the bundle that it was exported of.
        source: the ONNX file.
        kind: ``"int8"`` (static, calibrated) or ``"fp16"``.
        data: a data set's folder; its training split calibrates, its validation split is held out.
        dataset: which layout, see :func:`common.datasets.load_dataset`.
        calibration: images to calibrate with.
        held_out: images to compare Dice on.
        said: called with a line for each trial.

    Raises:
        UserError: the data cannot be used, or ONNX Runtime refuses.
    """
    facts = read_inside(source)[FACTS]
    listed = listed_in(facts)
    cases = _cases(model, load_dataset(dataset, data, "validation", limit=held_out), listed)
    used = _cases(model, load_dataset(dataset, data, "train", limit=calibration), listed) if kind == "int8" else []
    path = source.with_name(f"{source.stem}_{kind}.onnx")
    networks: dict[str, Callable[..., torch.Tensor]] = {"PyTorch": model.network, source.name: open_exported(source)}
    sizes = {"PyTorch": model.weights.stat().st_size, source.name: source.stat().st_size}
    scores = {name: _dice(model, network, cases) for name, network in networks.items()}
    kept = None
    for kinds in _TRIALS if kind == "int8" else ((),):
        name = f"{path.name} ({', '.join(kinds)})" if kinds else path.name
        with tempfile.TemporaryDirectory() as folder:
            part = Path(folder) / path.name
            made = _int8(source, part, used, kinds) if kind == "int8" else _fp16(source)
            said(f"trying {name}")
            content = _with_facts(made, facts | {"reduced": {"kind": kind, "operators": list(kinds),
                                                             "calibration images": len(used)}})  # fmt: skip
            part.write_bytes(content)
            networks[name] = open_exported(part)
        sizes[name] = len(content)
        scores[name] = _dice(model, networks[name], cases)
        if all(before - after < MOST for before, after in zip(scores[source.name], scores[name], strict=True)):
            with replacing(path) as part:
                part.write_bytes(content)
            kept = path
            break
    if kept is None:
        path.unlink(missing_ok=True)
    with torch.no_grad():
        speed = milliseconds({name: _call(network, cases[0].inputs) for name, network in networks.items()})
    rows = [
        {"network": name, "MB": sizes[name] / 1e6, "ms an image": speed[name], "Dice (micro)": scores[name][0],
         "Dice (mean)": scores[name][1]}
        for name in networks
    ]  # fmt: skip
    found = Reduced(kept, rows, len(cases))
    _note(source, path, found)
    return found


def _call(network: Callable[..., torch.Tensor], inputs: tuple[torch.Tensor, ...]) -> Callable[[], torch.Tensor]:
    return lambda: network(*inputs)


def _cases(model: Model, items: Sequence[Mapping[str, Any]], listed: frozenset[str] | None) -> list[_Case]:
    """Images ready for the network; one whose sentence is not understood, or not in the table, has the default one."""
    found = []
    for item in items:
        try:
            data = model.prepare(item["image"], item["text_prompt"], item["laterality"])
        except UserError:
            data = model.prepare(item["image"])
        if listed is not None and data["text_prompt"] not in listed:
            data = model.prepare(item["image"])
        inputs = (data["image"].as_tensor()[None],)
        if isinstance(model.network, TextNetwork):
            inputs = (*inputs, torch.as_tensor(data["text"])[None])
        found.append(_Case(data, str(item["label"]), inputs))
    return found


def _dice(model: Model, network: Callable[..., torch.Tensor], cases: Sequence[_Case]) -> tuple[float, float]:
    """Micro Dice and the mean of the images' Dice, in points, of masks in the files' own grids."""
    total, each = np.zeros(3, dtype=np.int64), []
    for case in cases:
        with torch.no_grad():
            logits = network(*case.inputs)[0]
        result = model.finish(case.data, logits)
        found = counts(result.displayed, read_mask(case.label, result.meta))
        total += found
        each.append(dice(*found))
    return 100 * dice(*(int(n) for n in total)), 100 * float(np.nanmean(each))


class _Reader:
    """Calibration images as ONNX Runtime's quantiser takes them."""

    def __init__(self, cases: Sequence[_Case]) -> None:
        self.rows: Iterator[_Case] = iter(cases)

    def get_next(self) -> dict[str, np.ndarray] | None:
        """The inputs of one image; None behind the last."""
        case = next(self.rows, None)
        if case is None:
            return None
        return {name: value.numpy() for name, value in zip(("image", "text"), case.inputs, strict=False)}


def _int8(source: Path, part: Path, cases: Sequence[_Case], kinds: Sequence[str]) -> Any:
    import onnx
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    level = logging.root.level
    logging.root.setLevel(logging.ERROR)  # it advises to optimise first, which adds operators that are no standard
    try:
        quantize_static(
            str(source), str(part), _Reader(cases), quant_format=QuantFormat.QDQ, op_types_to_quantize=list(kinds),
            per_channel=True, activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
        )  # fmt: skip
    finally:
        logging.root.setLevel(level)
    return onnx.load(str(part))


def _fp16(source: Path) -> Any:
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16
    from onnxruntime.transformers.onnx_model import OnnxModel

    # inputs and outputs stay float32: the file is called as the others are
    made = OnnxModel(convert_float_to_float16(onnx.load(str(source)), keep_io_types=True))
    made.topological_sort()  # it puts the casts of the inputs at the end
    return made.model


def _with_facts(model: Any, facts: dict[str, Any]) -> bytes:
    """The model with its facts, of standard operators only, checked.

    Raises:
        UserError: an operator of ONNX Runtime's own.
    """
    import onnx

    used = {node.domain for node in model.graph.node}
    if used - {"", "ai.onnx"}:
        raise UserError(f"quantised model: operators of {', '.join(sorted(used))}; report it, the file is not written")
    for entry in [entry for entry in model.opset_import if entry.domain not in used]:
        model.opset_import.remove(entry)
    inside = {entry.key: entry.value for entry in model.metadata_props} | {FACTS: json.dumps(facts, ensure_ascii=False)}
    del model.metadata_props[:]
    for key, value in inside.items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value
    onnx.checker.check_model(model)
    return model.SerializeToString()


def _note(source: Path, path: Path, found: Reduced) -> None:
    """Put the comparison into the sidecar of the export."""
    sidecar = source.with_name(source.stem + SIDECAR)
    content = json.loads(sidecar.read_text(encoding="utf-8")) if sidecar.is_file() else {}
    content.setdefault("reduced", {})[path.name] = {
        "kept": found.path is not None, "points of Dice that may be lost": MOST, "held-out images": found.images,
        "compared": found.rows,
    }  # fmt: skip
    write_text(sidecar, json.dumps(content, indent=4, ensure_ascii=False) + "\n")
