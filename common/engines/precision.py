"""Which half precision a GPU computes well."""

from __future__ import annotations

import torch


def amp_dtype(device: torch.device) -> torch.dtype:
    """The dtype for ``torch.autocast`` on ``device``: bfloat16 where the GPU has it, else float16."""
    if device.type != "cuda" or torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.bfloat16
    return torch.float16
