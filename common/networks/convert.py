"""A published checkpoint, checked and laid out for offline use: what ``pretrained: <folder>`` reads.

Formats: BERT of Hugging Face (CXR-BERT's ``bert.*`` beside its heads, or the encoder alone; the old names
``LayerNorm.gamma`` and ``LayerNorm.beta`` too), ConvNeXt of Hugging Face (``convnext.*``) and of its authors
(``convnext_tiny_*.pth``; their names are in :data:`_AUTHORS`). The encoder's widths and depths are read from the
tensors, and every parameter of that architecture must be there, in its shape, and nothing else: a file that merely
resembles a known one is refused. Heads are left out.
"""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import BertConfig, BertModel, ConvNextConfig, ConvNextModel

from common.errors import UserError
from common.files import sha256_of
from common.networks.checkpoints import WEIGHTS, find_file, read_weights

VOCABULARY = "vocab.txt"
PROVENANCE = "provenance.json"
# First digits of the SHA-256 of published files. The first as the Semi-MedRef authors name it.
KNOWN = {"convnext_tiny_22k_224.pth": "b2b2153ae940"}
# Names of ConvNeXt's authors (github.com/facebookresearch/ConvNeXt, models/convnext.py) and those of transformers.
# Their downsampling layers stand apart from the stages; the first is the stem, where the convolution comes first.
_AUTHORS = (
    (r"downsample_layers\.0\.0\.(.+)", r"embeddings.patch_embeddings.\1"),
    (r"downsample_layers\.0\.1\.(.+)", r"embeddings.layernorm.\1"),
    (r"downsample_layers\.([1-3])\.([01])\.(.+)", r"encoder.stages.\1.downsampling_layer.\2.\3"),
    (r"stages\.(\d+)\.(\d+)\.norm\.(.+)", r"encoder.stages.\1.layers.\2.layernorm.\3"),
    (r"stages\.(\d+)\.(\d+)\.gamma", r"encoder.stages.\1.layers.\2.layer_scale_parameter"),
    (r"stages\.(\d+)\.(\d+)\.(dwconv|pwconv1|pwconv2)\.(.+)", r"encoder.stages.\1.layers.\2.\3.\4"),
    (r"norm\.(.+)", r"layernorm.\1"),
)

State = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Provenance:
    """Where the weights of a folder come from; written beside them as ``provenance.json``.

    Attributes:
        source: name of the file.
        source_bytes: its size.
        source_sha256: of the whole file.
        checked: what its SHA-256 agrees with, or begins like; "" where there was nothing to compare it with.
        format: whose names its tensors had.
        architecture: for ``network_def``: fields of ``BertConfig``, or arguments of ``ConvNeXt``.
        parameters: numbers in the encoder.
        precision: of what was written.
        left_out: tensors that belong to no part of the encoder, and how many, by the first part of their names.
        sha256: of the ``model.safetensors`` written.
    """

    source: str
    source_bytes: int
    source_sha256: str
    checked: str
    format: str
    architecture: dict[str, Any]
    parameters: int
    precision: str
    left_out: dict[str, int]
    sha256: str


def convert(
    kind: str,
    source: str,
    output: Path,
    *,
    sha256: str | None = None,
    vocabulary: Path | None = None,
    half: bool = False,
) -> Provenance:
    """Check a checkpoint and write it as a folder; all of it or nothing.

    Args:
        kind: ``"text"`` (BERT) or ``"image"`` (ConvNeXt).
        source: a file, a folder with ``model.safetensors`` or ``pytorch_model.bin``, or a Hugging Face name in the
            local hub cache.
        output: folder that is made; it must not hold anything.
        sha256: of the file, as published; of its first digits (eight at least) it is only said that they are those.
        vocabulary: of a text encoder; None for the ``vocab.txt`` beside the weights.
        half: write half precision. Encoders read it as float32.

    Raises:
        UserError: the file is not there, is not what it should be, holds more than tensors, or does not fit.
    """
    output = Path(output)
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise UserError(f"{output}: is there already; give another --output, or remove it")
    path = Path(source) if Path(source).is_file() else find_file(source, WEIGHTS)
    digest = sha256_of(path)
    checked = _check_digest(path, digest, sha256)
    state = _tensors(path)
    found, encoder, left_out, architecture = (_text if kind == "text" else _image)(path, state)
    _check_numbers(path, encoder, half)
    extra = [_vocabulary(path, vocabulary, architecture["vocab_size"])] if kind == "text" else []
    if half:
        encoder = {key: value.half() for key, value in encoder.items()}

    output.parent.mkdir(parents=True, exist_ok=True)
    part = output.with_name(f".{output.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        part.mkdir()
        save_file({key: value.contiguous() for key, value in encoder.items()}, part / WEIGHTS[0], {"format": "pt"})
        for file in extra:
            shutil.copyfile(file, part / VOCABULARY)
        provenance = Provenance(
            source=path.name, source_bytes=path.stat().st_size, source_sha256=digest, checked=checked, format=found,
            architecture=architecture, parameters=sum(value.numel() for value in encoder.values()),
            precision="float16" if half else "float32", left_out=left_out, sha256=sha256_of(part / WEIGHTS[0]),
        )  # fmt: skip
        (part / PROVENANCE).write_text(json.dumps(asdict(provenance), indent=4) + "\n", encoding="utf-8")
        mode = (part / PROVENANCE).stat().st_mode
        (part / WEIGHTS[0]).chmod(mode)  # safetensors writes a file that its owner alone may read
        part.replace(output)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return provenance


def _check_digest(path: Path, digest: str, wanted: str | None) -> str:
    """What the digest agrees with, or begins like where not all of its 64 digits are known."""
    if wanted is not None and not re.fullmatch(r"[0-9a-fA-F]{8,64}", wanted):
        raise UserError(f"--sha256 {wanted}: is no SHA-256; give its 64 hexadecimal digits, or at least the first 8")
    compared = {"the one given": wanted, f"the published {path.name}": KNOWN.get(path.name)}
    for whose, start in compared.items():
        if start and not digest.startswith(start.lower()):
            raise UserError(
                f"{path}: its SHA-256 is {digest}, {whose} begins with {start.lower()[:12]}; "
                f"{path.stat().st_size:,} bytes are there, fetch the file again"
            )
    return ", ".join(
        f"agrees with {whose}" if len(start) == 64 else f"begins like {whose} ({len(start)} of 64 digits known)"
        for whose, start in compared.items()
        if start
    )


def _tensors(path: Path) -> State:
    """The tensors of a file, as float32; of a training checkpoint those under ``model`` or ``state_dict``."""
    content = read_weights(path)
    for key in ("model", "state_dict"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not all(isinstance(value, torch.Tensor) for value in content.values()):
        raise UserError(f"{path}: holds no state dict (names and their tensors); get the published weights")
    # clones: tied weights share memory, which safetensors refuses to write
    return {key: value.detach().float().clone() for key, value in content.items()}


def _text(path: Path, state: State) -> tuple[str, State, dict[str, int], dict[str, Any]]:
    """Format, encoder under transformers' names, what is left out, and the fields of ``BertConfig``."""
    old = any(key.endswith(".LayerNorm.gamma") for key in state)
    state = {re.sub(r"LayerNorm\.gamma$", "LayerNorm.weight", key): value for key, value in state.items()}
    state = {re.sub(r"LayerNorm\.beta$", "LayerNorm.bias", key): value for key, value in state.items()}
    encoder, left_out = _part(state, "bert.", ("embeddings.", "encoder."))
    encoder.pop("embeddings.position_ids", None)  # buffers that older versions saved
    encoder.pop("embeddings.token_type_ids", None)
    try:
        words, width = encoder["embeddings.word_embeddings.weight"].shape
        architecture = {
            "vocab_size": words,
            "hidden_size": width,
            "num_hidden_layers": _count(encoder, r"encoder\.layer\.(\d+)\."),
            "num_attention_heads": _heads(path, width),
            "intermediate_size": len(encoder["encoder.layer.0.intermediate.dense.bias"]),
            "max_position_embeddings": len(encoder["embeddings.position_embeddings.weight"]),
            "type_vocab_size": len(encoder["embeddings.token_type_embeddings.weight"]),
        }
    except KeyError as error:
        raise UserError(f"{path}: has no {error}, so it is no BERT; give the text encoder's checkpoint") from error
    _check_fit(path, encoder, lambda: BertModel(BertConfig(**architecture), add_pooling_layer=False), "BERT")
    return "BERT, old names" if old else "BERT", encoder, left_out, architecture


def _image(path: Path, state: State) -> tuple[str, State, dict[str, int], dict[str, Any]]:
    """Format, encoder under transformers' names, what is left out, and the arguments of ``ConvNeXt``."""
    authors = "downsample_layers.0.0.weight" in state
    if authors:
        renamed = {}
        for key, value in state.items():
            new = next((re.sub(old, new, key) for old, new in _AUTHORS if re.fullmatch(old, key)), None)
            inner = key.startswith(("downsample_layers.", "stages."))  # unknown there: the check of the fit names it
            renamed[f"convnext.{new}" if new else f"convnext.encoder.{key}" if inner else key] = value
        state = renamed
    encoder, left_out = _part(state, "convnext.", ("embeddings.", "encoder.", "layernorm."))
    try:
        width, channels, patch, _ = encoder["embeddings.patch_embeddings.weight"].shape
        stages = _count(encoder, r"encoder\.stages\.(\d+)\.")
        downsampling = [encoder[f"encoder.stages.{i}.downsampling_layer.1.weight"] for i in range(1, stages)]
        architecture = {
            "widths": [width, *(len(weight) for weight in downsampling)],
            "depths": [_count(encoder, rf"encoder\.stages\.{i}\.layers\.(\d+)\.") for i in range(stages)],
            "patch_size": patch,
        }
    except (KeyError, ValueError) as error:
        raise UserError(f"{path}: is no ConvNeXt ({error}); give the image encoder's checkpoint") from error
    config = ConvNextConfig(
        num_channels=channels, patch_size=patch, num_stages=stages, hidden_sizes=architecture["widths"],
        depths=architecture["depths"],
    )  # fmt: skip
    _check_fit(path, encoder, lambda: ConvNextModel(config), "ConvNeXt")
    if channels != 3:
        raise UserError(f"{path}: takes pictures of {channels} channels, expected 3; give a checkpoint of colour")
    return "ConvNeXt of its authors" if authors else "ConvNeXt", encoder, left_out, architecture


def _part(state: State, prefix: str, parts: tuple[str, ...]) -> tuple[State, dict[str, int]]:
    """The encoder without its prefix, and how many tensors of what else there is."""
    whole = any(key.startswith(prefix) for key in state)
    encoder: State = {}
    others: Counter[str] = Counter()
    for key, value in state.items():
        name = key.removeprefix(prefix)
        if (key.startswith(prefix) or not whole) and name.startswith(parts):
            encoder[name] = value
        else:
            others[name.split(".")[0]] += 1
    return encoder, dict(others)


def _count(state: State, pattern: str) -> int:
    """How many numbers the pattern's group has in the names."""
    return len({match[1] for key in state if (match := re.match(pattern, key))})


def _heads(path: Path, width: int) -> int:
    """Attention heads, which no tensor shows: from ``config.json`` beside the file, else BERT's one for 64 channels."""
    config = path.with_name("config.json")
    if not config.is_file():
        return max(1, width // 64)
    try:
        return int(json.loads(config.read_text(encoding="utf-8"))["num_attention_heads"])
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{config}: does not say num_attention_heads; fetch it again, or remove it") from error


def _check_fit(path: Path, encoder: State, make: Callable[[], torch.nn.Module], name: str) -> None:
    """Every parameter of the architecture, in its shape, and no other."""
    with torch.device("meta"):
        own = {key: tuple(value.shape) for key, value in make().named_parameters()}
    given = {key: tuple(value.shape) for key, value in encoder.items()}
    missing = [key for key in own if key not in given]
    foreign = [key for key in given if key not in own]
    reshaped = [key for key in own if key in given and own[key] != given[key]]
    fault = ""
    if missing:
        fault = f"has no '{missing[0]}' ({len(missing)} missing)"
    elif foreign:
        fault = f"has '{foreign[0]}', which {name} does not ({len(foreign)} such)"
    elif reshaped:
        key = reshaped[0]
        fault = f"'{key}' has shape {given[key]}, expected {own[key]}"
    if fault:
        raise UserError(f"{path}: {fault}; it is no whole {name} that transformers knows, fetch the published one")


def _check_numbers(path: Path, encoder: State, half: bool) -> None:
    """No NaN, no infinity; and none that half precision would make infinite."""
    limit = torch.finfo(torch.float16).max
    for key, value in encoder.items():
        if not torch.isfinite(value).all():
            raise UserError(f"{path}: '{key}' holds NaN or infinity; fetch the file again")
        if half and value.abs().max() > limit:
            raise UserError(f"{path}: '{key}' holds {value.abs().max():g}, too large for half precision; omit --half")


def _vocabulary(path: Path, given: Path | None, words: int) -> Path:
    """The vocabulary's file: as many pieces as the encoder has embeddings, the padding first."""
    file = given or path.with_name(VOCABULARY)
    if not file.is_file():
        raise UserError(f"{file}: is not there, and the encoder's words need it; give it as --vocabulary FILE")
    try:
        pieces = file.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    except UnicodeDecodeError as error:
        raise UserError(f"{file}: is no text; give the encoder's {VOCABULARY}") from error
    if len(pieces) != words:
        raise UserError(
            f"{file}: {len(pieces):,} pieces, but the encoder has {words:,} embeddings; give its own vocabulary"
        )
    # as of the tokeniser that will read it
    if pieces[0] != "[PAD]" or len(set(pieces)) != len(pieces) or not {"[UNK]", "[CLS]", "[SEP]"} <= set(pieces):
        raise UserError(
            f"{file}: no vocabulary of BERT, whose first piece is [PAD], and none stands twice; give the encoder's "
            f"{VOCABULARY}"
        )
    return file
