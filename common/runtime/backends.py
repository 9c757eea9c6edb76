"""One call for all ways to compute a network: ``network(image, text=None)`` gives logits, by PyTorch or exported.

``python -m tools export`` writes ``model.ts`` (TorchScript) and ``model.onnx`` (ONNX Runtime) beside ``model.pt``. Each
holds what is needed to use it alone, under these names (TorchScript: ``extra/``, ONNX: metadata):

- ``export.json``: the facts, see :func:`common.runtime.export.facts.facts_of`
- ``metadata.json`` and ``inference.json``: the bundle's, as MONAI Deploy reads them
- ``tokenizer.json``: the sentence's way to ids, for the package ``tokenizers``
"""

from __future__ import annotations

import importlib.util
import json
import zipfile
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import torch
from torch import nn

from common.errors import UserError
from common.files import sha256_of

# how a network is computed -> how the file's name ends
SUFFIXES = {"torch": ".pt", "torchscript": ".ts", "onnx": ".onnx"}
BACKENDS = tuple(SUFFIXES)
FACTS, METADATA, INFERENCE, TOKENIZER = "export.json", "metadata.json", "inference.json", "tokenizer.json"
INSIDE = (FACTS, METADATA, INFERENCE, TOKENIZER)
MOST_IN_A_BATCH = 64  # TensorRT plans for batches up to this


class Exported(nn.Module, ABC):
    """An exported network, called as the one that it was made of; an ``nn.Module``, so that MONAI's engines take it.

    Attributes:
        facts: what the file says of itself.
    """

    def __init__(self, path: Path, facts: dict[str, Any]) -> None:
        super().__init__()
        self.path, self.facts = path, facts
        self.takes_text = "text" in facts["inputs"]

    @abstractmethod
    def compute(self, image: torch.Tensor, text: torch.Tensor | None) -> torch.Tensor:
        """Logits; ``text`` None where the network takes none."""

    def forward(self, image: torch.Tensor, text: torch.Tensor | None = None) -> torch.Tensor:
        """Logits (B, 1, H, W), on the image's device.

        Args:
            image: (B, C, H, W) float32, of the size that the file was made for.
            text: ids (B, L), padded with 0; None for the default sentence.

        Raises:
            UserError: image or ids do not fit, or the file's table does not hold the sentence.
        """
        inputs = self.facts["inputs"]
        wanted = tuple(inputs["image"]["shape"][1:])
        if image.ndim != 4 or tuple(image.shape[1:]) != wanted:
            raise UserError(
                f"{self.path}: images of shape {tuple(image.shape)}, but it was made for (batch, "
                f"{', '.join(map(str, wanted))}); export again with that image_size, or change the transforms"
            )
        if not self.takes_text:
            return self.compute(image, None)
        if text is None:
            text = torch.tensor([self.facts["sentence"]["default_ids"]], device=image.device)
            text = text.expand(len(image), -1)
        most, below = inputs["text"]["longest"], inputs["text"]["ids_below"]
        if text.ndim != 2 or len(text) != len(image) or text.dtype != torch.int64 or text.shape[1] > most:
            raise UserError(
                f"{self.path}: token ids are {text.dtype} of shape {tuple(text.shape)}, expected torch.int64 of shape "
                f"({len(image)}, at most {most}); use the tokeniser in the file"
            )
        if text.min() < 0 or text.max() >= below or not (text != 0).any(dim=1).all():
            raise UserError(
                f"{self.path}: token ids from {text.min()} to {text.max()}, but it knows 0 to {below - 1}, and no "
                f"sentence of 0 alone; use the tokeniser in the file"
            )
        logits = self.compute(image, text)
        if "table" in self.facts["sentence"] and logits.isnan().flatten(1).any(dim=1).any():
            raise UserError(not_listed(self.path, self.facts))
        return logits


def not_listed(path: Path, facts: dict[str, Any]) -> str:
    """What is said of a sentence that the table of a file does not hold."""
    table = facts["sentence"]["table"]
    return (
        f"{path}: its table of {len(table)} sentences does not hold this one; give zones and at most 6 areas, such as "
        f"{table[len(table) // 2]!r}, or the file with the text encoder"
    )


def listed_in(facts: dict[str, Any]) -> frozenset[str] | None:
    """The sentences that a file's table holds; None where it has a text encoder, or takes no sentence."""
    table = facts["sentence"].get("table")
    return None if table is None else frozenset(table)


class TorchScript(Exported):
    """``model.ts`` in PyTorch; needs no code of this package."""

    def __init__(self, path: Path, device: torch.device) -> None:
        super().__init__(path, read_inside(path)[FACTS])
        self.module = torch.jit.load(str(path), map_location=device).eval()

    def compute(self, image: torch.Tensor, text: torch.Tensor | None) -> torch.Tensor:
        """As of every exported network."""
        with torch.no_grad():
            return self.module(image, text)


class Onnx(Exported):
    """``model.onnx`` in ONNX Runtime, with as many threads as torch has."""

    def __init__(self, path: Path, device: torch.device) -> None:
        import onnxruntime

        super().__init__(path, read_inside(path)[FACTS])
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3
        try:
            self.session = onnxruntime.InferenceSession(str(path), options, providers=providers(device, self.facts))
        except Exception as error:
            raise UserError(f"{path}: ONNX Runtime does not take it ({_line(error)}); export again") from error

    def compute(self, image: torch.Tensor, text: torch.Tensor | None) -> torch.Tensor:
        """As of every exported network."""
        inputs = {"image": image.float().contiguous().cpu().numpy()}
        if text is not None:
            inputs["text"] = text.contiguous().cpu().numpy()
        return torch.from_numpy(self.session.run(["pred"], inputs)[0]).to(image.device)


def providers(device: torch.device, facts: dict[str, Any]) -> list[Any]:
    """What ONNX Runtime computes with: TensorRT where it is installed and CUDA on a GPU, else the CPU.

    The device decides, and ``torch.cuda`` whether there is one: onnxruntime-gpu lists CUDA on machines without a GPU.

    Raises:
        UserError: a GPU is asked for where there is none.
    """
    cpu = ["CPUExecutionProvider"]
    if device.type != "cuda":
        return cpu
    if not torch.cuda.is_available():
        raise UserError(f"device {device}: there is no GPU that PyTorch can use; write cpu")
    number = {"device_id": device.index or 0}
    cuda = [("CUDAExecutionProvider", number), *cpu]
    if importlib.util.find_spec("tensorrt") is None:
        return cuda
    # without these shapes an engine, which takes minutes, is made anew for every batch of another size
    shapes = {
        f"trt_profile_{name}_shapes": ",".join(
            f"{key}:{'x'.join(str(n) for n in (batch, *rest))}"
            for key, rest in (
                ("image", facts["inputs"]["image"]["shape"][1:]),
                *((("text", [length]),) if "text" in facts["inputs"] else ()),
            )
        )
        for name, batch, length in (
            ("min", 1, 2), ("opt", 8, facts["sentence"].get("length", 2)),
            ("max", MOST_IN_A_BATCH, facts["inputs"].get("text", {}).get("longest", 2)),
        )
    }  # fmt: skip
    cache = {
        "trt_engine_cache_enable": True,
        "trt_engine_cache_path": str(Path.home() / ".cache" / "chest-refseg" / "tensorrt"),
    }
    return [("TensorrtExecutionProvider", number | shapes | cache), *cuda]


def is_exported(weights: str | Path) -> bool:
    """Whether the name is that of an exported file, which the weights of a bundle may be too."""
    return Path(weights).suffix in (SUFFIXES["torchscript"], SUFFIXES["onnx"])


def exported_file(weights: str | Path, backend: str) -> Path:
    """The file of a backend: ``weights`` itself if it is one (``model_int8.onnx``), else the one beside the weights.

    Raises:
        UserError: no such backend, or no such file.
    """
    if backend not in BACKENDS:
        raise UserError(f"--backend {backend}: is unknown; write one of {', '.join(BACKENDS)}")
    given = Path(weights)
    if backend == "torch" and not is_exported(given):
        return given
    path = given.with_suffix(SUFFIXES[backend])
    if not path.is_file():
        raise UserError(f"{path}: is not there; write it with python -m tools export, or leave --backend out")
    return path


def open_exported(path: str | Path, device: str | torch.device = "cpu") -> Exported:
    """An exported network by its file, on a device.

    Raises:
        UserError: the file cannot be used, or was exported of other weights than those that lie beside it.
    """
    path = Path(path)
    opened: Exported = (TorchScript if path.suffix == SUFFIXES["torchscript"] else Onnx)(path, torch.device(device))
    origin = opened.facts["weights"]
    source = path.with_name(origin["file"])
    if source.is_file() and sha256_of(source) != origin["sha256"]:
        raise UserError(f"{path}: was exported of other weights than {source.name} beside it; export again")
    return opened


def read_inside(path: Path) -> dict[str, Any]:
    """What an exported file holds beside the network, by :data:`INSIDE`, parsed.

    Raises:
        UserError: it is not there, cannot be read, or was not written by ``tools export``.
    """
    if not path.is_file():
        raise UserError(f"{path}: is not there; write it with python -m tools export")
    try:
        if path.suffix == ".onnx":
            import onnx

            texts = {entry.key: entry.value for entry in onnx.load(str(path)).metadata_props}
        else:
            with zipfile.ZipFile(path) as archive:
                places = {Path(name).name: name for name in archive.namelist() if "/extra/" in f"/{name}"}
                texts = {name: archive.read(places[name]).decode() for name in INSIDE if name in places}
        return {name: json.loads(texts[name]) for name in INSIDE if name in texts} | {FACTS: json.loads(texts[FACTS])}
    except Exception as error:  # each library has its own
        raise UserError(
            f"{path}: is no export of this package ({_line(error)}); write it with python -m tools export"
        ) from error


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"
