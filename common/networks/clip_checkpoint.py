"""OpenAI's CLIP checkpoints, from disk only: the TorchScript archives they publish, and state dicts.

A state dict has OpenAI's names or, of the text side, those of transformers (``openai/clip-vit-base-patch32``).

A TorchScript archive is a zip with code in it. Here its tensors are read and its code is not: the pickle of its
attributes is read by an unpickler that knows tensors and nothing else, and turned into the names of a state dict.
"""

from __future__ import annotations

import pickle
import re
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from common.errors import UserError
from common.networks.checkpoints import WEIGHTS, find_file, read_weights

# in this order: timm's repositories hold the picture's side alone, under other names, as model.safetensors too
CLIP_WEIGHTS = ("RN101.pt", "open_clip_model.safetensors", "open_clip_pytorch_model.bin", *WEIGHTS)
_STORAGES = {"HalfStorage": torch.float16, "FloatStorage": torch.float32, "LongStorage": torch.int64}
_VISUAL = "visual."
# names of the text side in transformers, but those of its queries, keys and values, and OpenAI's
_TRANSFORMERS = (
    (r"text_model\.embeddings\.token_embedding\.weight", "token_embedding.weight"),
    (r"text_model\.embeddings\.position_embedding\.weight", "positional_embedding"),
    (r"text_model\.encoder\.layers\.(\d+)\.self_attn\.out_proj\.(.+)", r"transformer.resblocks.\1.attn.out_proj.\2"),
    (r"text_model\.encoder\.layers\.(\d+)\.layer_norm([12])\.(.+)", r"transformer.resblocks.\1.ln_\2.\3"),
    (r"text_model\.encoder\.layers\.(\d+)\.mlp\.fc1\.(.+)", r"transformer.resblocks.\1.mlp.c_fc.\2"),
    (r"text_model\.encoder\.layers\.(\d+)\.mlp\.fc2\.(.+)", r"transformer.resblocks.\1.mlp.c_proj.\2"),
    (r"text_model\.final_layer_norm\.(.+)", r"ln_final.\1"),
)
# of neither encoder: the temperature of CLIP's contrast, and numbers that OpenAI's archives keep as tensors
_OTHERS = ("logit_scale", "input_resolution", "context_length", "vocab_size")


def load_clip(model: nn.Module, source: str, prefix: str, ours: Sequence[str] = ()) -> None:
    """Fill one encoder from a CLIP checkpoint, as float32; all of it must be there, in its shape, and nothing else.

    Args:
        model: with OpenAI's names.
        source: a file, a folder with one of :data:`CLIP_WEIGHTS`, or a Hugging Face name in the local hub cache.
        prefix: of the encoder's names in the checkpoint: ``"visual."``, or "" for the text.
        ours: beginnings of names that CLIP does not have; they keep their random weights.

    Raises:
        UserError: there is no checkpoint, it cannot be read, or it does not fit.
    """
    path = Path(source) if Path(source).is_file() else find_file(source, CLIP_WEIGHTS)
    state = read_archive(path) if _is_archive(path) else read_weights(path)
    if not prefix and "text_model.final_layer_norm.weight" in state:
        state = text_of_transformers(state)
    part = {
        key.removeprefix(prefix): value
        for key, value in state.items()
        if key.startswith(_VISUAL) == bool(prefix) and key not in _OTHERS and not key.endswith("num_batches_tracked")
    }
    own = {
        key: value
        for key, value in model.state_dict().items()
        if not key.startswith(tuple(ours)) and not key.endswith("num_batches_tracked")
    }
    missing, foreign = sorted(own.keys() - part.keys()), sorted(part.keys() - own.keys())
    reshaped = [key for key in own if key in part and part[key].shape != own[key].shape]
    fault = ""
    if missing:
        fault = f"it has no '{prefix}{missing[0]}' ({len(missing)} missing)"
    elif foreign:
        fault = f"it has '{prefix}{foreign[0]}', for which there is no place ({len(foreign)} such)"
    elif reshaped:
        key = reshaped[0]
        fault = f"'{prefix}{key}' has shape {tuple(part[key].shape)}, expected {tuple(own[key].shape)}"
    if fault:
        raise UserError(
            f"{path}: these weights do not fit {type(model).__name__}: {fault}; change 'pretrained' or the "
            f"'architecture' in network_def"
        )
    model.load_state_dict({key: value.float() for key, value in part.items()}, strict=False)


def read_archive(path: Path) -> dict[str, torch.Tensor]:
    """The state dict of a TorchScript archive; nothing in it is run.

    Raises:
        UserError: the archive is broken or holds more than modules of tensors.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            (pickled,) = (name for name in archive.namelist() if name.count("/") == 1 and name.endswith("/data.pkl"))
            folder = pickled.removesuffix(".pkl")
            with archive.open(pickled) as file:
                root = _Tensors(file, lambda key: archive.read(f"{folder}/{key}")).load()
        return dict(_named(root))
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    except Exception as error:  # damage makes the unpickler raise anything
        raise UserError(f"{path}: not a readable TorchScript archive; fetch it again") from error


def text_of_transformers(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The text side of a ``CLIPModel`` or ``CLIPTextModelWithProjection`` of transformers, under OpenAI's names."""
    found = {}
    for key, value in state.items():
        for old, new in _TRANSFORMERS:
            if re.fullmatch(old, key):
                found[re.sub(old, new, key)] = value
        if match := re.fullmatch(r"text_model\.encoder\.layers\.(\d+)\.self_attn\.q_proj\.(weight|bias)", key):
            # a checkpoint without the other two gives a stack that does not fit
            parts = [state[name] for kind in "qkv" if (name := key.replace("q_proj", f"{kind}_proj")) in state]
            found[f"transformer.resblocks.{match[1]}.attn.in_proj_{match[2]}"] = torch.cat(parts)
    if "text_projection.weight" in state:
        found["text_projection"] = state["text_projection.weight"].T
    return found


def _is_archive(path: Path) -> bool:
    """Whether a file is what ``torch.jit.save`` writes: a zip with ``constants.pkl`` beside its ``data.pkl``."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


class _Module:
    """A module of the archive: its attributes by name, submodules, tensors and plain values."""


class _Tensors(pickle.Unpickler):
    """Modules as :class:`_Module`, tensors as tensors; whatever else a pickle may ask for is refused.

    Args:
        file: the archive's ``data.pkl``.
        read: bytes of a storage by its key.
    """

    def __init__(self, file: Any, read: Callable[[str], bytes]) -> None:
        super().__init__(file)
        self._read = read

    def find_class(self, module: str, name: str) -> Any:
        """What stands for a class or function that the pickle names."""
        if module.split(".")[0] == "__torch__":
            return _Module
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _tensor
        if module == "torch" and name in _STORAGES:
            return _STORAGES[name]
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if module == "torch.jit._pickle" and name.startswith(("build_", "restore_type_tag")):
            return lambda values, *_: values  # typed lists and dictionaries
        raise UserError(f"asks for {module}.{name}, which could run code when it is read; get the published file")

    def persistent_load(self, pid: tuple) -> torch.Tensor:
        """A storage, as a flat tensor."""
        _, dtype, key, _, count = pid
        return torch.frombuffer(bytearray(self._read(key)), dtype=dtype, count=count)


def _tensor(flat: torch.Tensor, offset: int, size: tuple, stride: tuple, *_: Any) -> torch.Tensor:
    """A tensor of its storage."""
    return flat.as_strided(size, stride, offset)


def _named(module: _Module, prefix: str = "") -> list[tuple[str, torch.Tensor]]:
    """Names and tensors of a module and those below it."""
    found = []
    for name, value in vars(module).items():
        if isinstance(value, torch.Tensor):
            found.append((prefix + name, value))
        elif isinstance(value, _Module):
            found.extend(_named(value, f"{prefix}{name}."))
    return found
