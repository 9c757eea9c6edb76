"""Pretrained weights in the Hugging Face formats, from disk only: nothing is ever downloaded."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import constants, try_to_load_from_cache
from safetensors.torch import load_file
from torch import nn

from common.errors import UserError

WEIGHTS = ("model.safetensors", "pytorch_model.bin")  # in this order; CXR-BERT has only the second
# Weights that come with the package, by the name that a config gives.
SHIPPED = {"compact": Path(__file__).parent / "text" / "compact"}


def load_pretrained(model: nn.Module, source: str, prefix: str) -> None:
    """Fill ``model`` from a checkpoint; every parameter must be there, in its shape.

    Args:
        model: any module; buffers that are not parameters may be absent from the checkpoint.
        source: "compact", a folder, or a Hugging Face name such as "facebook/convnext-tiny-224", which is
            looked up in the local hub cache.
        prefix: the part of the checkpoint to take, such as "bert."; its heads are left out. A checkpoint
            without any such key is taken whole.

    Raises:
        UserError: no checkpoint there (the message has the command that fetches it), or it does not fit.
    """
    path = find_file(source, WEIGHTS)
    state = read_weights(path)
    part = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)} or state
    own = model.state_dict()
    missing = [key for key in own if key not in part]
    reshaped = [key for key in own if key in part and part[key].shape != own[key].shape]
    if missing or reshaped:
        key = (missing or reshaped)[0]
        fault = f"it has no '{key}'" if missing else f"'{key}' has shape {tuple(part[key].shape)}"
        raise UserError(
            f"{path}: these weights do not fit {type(model).__name__}: {fault}, expected "
            f"{tuple(own[key].shape)}; change 'pretrained' or the widths and depths in network_def"
        )
    model.load_state_dict({key: part[key] for key in own})


def find_file(source: str, names: Sequence[str], what: str = "pretrained weights") -> Path:
    """The first file of ``names`` that ``source`` has.

    Args:
        source: "compact", a folder, or a Hugging Face name (see :func:`load_pretrained`).
        names: of files, in this order.
        what: they are, for the message.

    Raises:
        UserError: there is none; names the file, where it was looked for, and the command that fetches it.
    """
    if source in SHIPPED or Path(source).is_dir():
        folder = SHIPPED.get(source, Path(source))
        found = [folder / name for name in names if (folder / name).is_file()]
        fix = (
            "make them: python -m tools train-text-encoder"
            if source in SHIPPED
            else f"fetch them: hf download NAME --local-dir {source}"
        )
        where = f"the folder {folder.resolve()}"
    else:
        cached = [try_to_load_from_cache(source, name) for name in names] if source.count("/") == 1 else []
        found = [Path(path) for path in cached if isinstance(path, str)]
        fix = f"fetch them where there is a network: hf download {source}"
        where = f"the hub cache {constants.HF_HUB_CACHE} (and no folder of that name is in {Path.cwd()})"
    if not found:
        raise UserError(f"{what} '{source}': no {' or '.join(names)} in {where}; {fix}")
    return found[0]


def read_weights(path: Path) -> Any:
    """What is in a file of weights: a state dict, or whatever a pickle of tensors holds.

    Raises:
        UserError: the file is broken, or a pickle that asks for more than tensors; such a one could run code.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damage makes the unpickler raise anything: IndexError, UnicodeDecodeError, ...
        asked = re.search(r"Unsupported global: GLOBAL ([\w.]+)", str(error))
        if asked:
            raise UserError(
                f"{path}: holds more than tensors ({asked[1]}), which could run code when it is read; "
                f"get the file with the state dict alone, or a model.safetensors"
            ) from error
        raise UserError(f"{path}: not a readable file of weights; fetch it again") from error
