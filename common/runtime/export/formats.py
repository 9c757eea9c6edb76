"""A deployed network as TorchScript, ``.pt2`` and ONNX, with its facts inside the file."""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from common.files import replacing
from common.runtime.export.network import (
    check_onnx,
    check_program,
    check_script,
    deployed,
    tensors,
    traced,
    without_dead_code,
)  # fmt: skip

FORMATS = ("ts", "onnx", "pt2")


class _ImageAndText(nn.Module):
    """The traced network with an optional sentence: a trace alone cannot have one. It is scripted."""

    def __init__(self, network: torch.jit.ScriptModule, default_text: torch.Tensor) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("default_text", default_text)

    def forward(self, image: torch.Tensor, text: torch.Tensor | None = None) -> torch.Tensor:
        """Logits (B, 1, H, W)."""
        if text is None:
            text = self.default_text.expand(image.shape[0], -1)
        return self.network(image, text)


class _ImageAlone(nn.Module):
    """The same signature where the network takes no sentence."""

    def __init__(self, network: torch.jit.ScriptModule) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: torch.Tensor, text: torch.Tensor | None = None) -> torch.Tensor:
        """Logits (B, 1, H, W)."""
        return self.network(image)


class Exporter:
    """A network made ready once, and written in each format.

    Args:
        network: trained; it is not changed.
        example: image (2, C, H, W), and ids (2, L) where the network takes text. Two, for a batch of one would be
            exported as a batch of one.
        default_text: ids (1, L) of the default sentence; None where the network takes no text.
        longest: tokens of the longest sentence.
    """

    def __init__(
        self,
        network: nn.Module,
        example: tuple[torch.Tensor, ...],
        default_text: torch.Tensor | None = None,
        longest: int = 0,
    ) -> None:
        self.example, self.default_text, self.longest = example, default_text, longest
        with _quiet():
            self.network = deployed(network, example)
        self.kept = dict(tensors(self.network))
        self.removed = {name for name, _ in tensors(network)} - self.kept.keys()
        self._program: torch.export.ExportedProgram | None = None

    def write(self, kind: str, path: Path, inside: Mapping[str, str]) -> None:
        """Write one of :data:`FORMATS`, checked.

        Args:
            kind: the format.
            path: the file.
            inside: texts that the file holds, by name.

        Raises:
            UserError: the graph holds what it must not.
        """
        with _quiet():
            if kind == "ts":
                content = self._script(dict(inside), path.stem)
            else:
                content = {"onnx": self._onnx, "pt2": self._pt2}[kind](dict(inside))
        with replacing(path) as part:
            part.write_bytes(content)

    def _script(self, inside: dict[str, str], name: str) -> bytes:
        trace = traced(self.network, self.example)
        outer = _ImageAlone(trace) if self.default_text is None else _ImageAndText(trace, self.default_text)
        script = torch.jit.script(outer.eval())
        check_script(script, set(self.kept), "network.")
        # to a buffer: a file's own name would stand in the archive
        buffer = io.BytesIO()
        torch.jit.save(script, buffer, _extra_files=inside)
        return _without_places(buffer, name)

    def program(self) -> torch.export.ExportedProgram:
        """The program that both ``.pt2`` and ONNX are made of."""
        if self._program is None:
            batch = torch.export.Dim("batch")
            shapes: dict[str, Any] = {"image": {0: batch}}
            if len(self.example) == 2:
                shapes["text"] = {0: batch, 1: torch.export.Dim("length", min=2, max=self.longest)}
            # asserts: else a length that happens to be the width of a layer is a case of its own, and is refused
            program = torch.export.export(
                self.network, self.example, dynamic_shapes=shapes, prefer_deferred_runtime_asserts_over_guards=True
            )
            self._program = without_dead_code(program)
            for node in self._program.graph.nodes:
                node.meta.pop("stack_trace", None)
            check_program(self._program, set(self.kept))
        return self._program

    def _pt2(self, inside: dict[str, str]) -> bytes:
        buffer = io.BytesIO()
        torch.export.save(self.program(), buffer, extra_files=inside)
        return buffer.getvalue()

    def _onnx(self, inside: dict[str, str]) -> bytes:
        names = ["image", "text"][: len(self.example)]
        made = torch.onnx.export(
            self.program(), (), dynamo=True, external_data=False, verbose=False, input_names=names,
            output_names=["pred"],
        )  # fmt: skip
        model = made.model_proto
        _name_dimensions(model.graph)
        for node in model.graph.node:
            del node.metadata_props[:]
            node.ClearField("doc_string")
        check_onnx(model, self.kept, self.removed)
        for name, text in inside.items():
            entry = model.metadata_props.add()
            entry.key, entry.value = name, text
        return model.SerializeToString()


def _without_places(archive: io.BytesIO, root: str) -> bytes:
    """A TorchScript archive without the lines of code that its nodes come from: they name this machine's folders.

    Its entries stand below ``root``, the file's name without its ending: there MONAI Deploy looks for metadata.
    """
    archive.seek(0)
    reader = torch._C.PyTorchFileReader(archive)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{root}.ts"
        # torch makes the root of the file's name
        writer = torch._C.PyTorchFileWriter(str(path))
        for name in reader.get_all_records():
            # what the writer writes itself is left out too
            if not name.endswith(".debug_pkl") and name not in ("version", "byteorder", ".data/serialization_id"):
                record = reader.get_record(name)
                writer.write_record(name, record, len(record))
        writer.write_end_of_file()
        del writer
        return path.read_bytes()


def _name_dimensions(graph: Any) -> None:
    """The exporter numbers the free dimensions; a user reads "batch" and "length"."""
    names = {}
    for value in graph.input:
        for place, wanted in enumerate(("batch", "length")):
            dim = value.type.tensor_type.shape.dim[place]
            if dim.dim_param:
                names.setdefault(dim.dim_param, wanted)
    for value in (*graph.input, *graph.output):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param in names:
                dim.dim_param = names[dim.dim_param]
    # shapes in between follow from these, and would still have the old names
    del graph.value_info[:]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporters' lines on packages that are not needed and on what is deprecated."""
    # transformers speaks of a loss that is not used
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "transformers")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
