"""Bundles in MONAI Deploy: what its bundle inference operator needs to run an exported ``model.ts`` with a sentence.

``MonaiBundleInferenceOperator`` reads ``metadata.json`` and ``inference.json`` from the TorchScript file, leaves out
loading and saving, and runs the rest on an ``Image`` of one DICOM series. Three things are the application's:

- the image comes from :func:`read`: our reader's grid and facts, without which nobody knows how it is displayed;
- the sentence goes in before the first transform: :func:`ask`;
- the operator sends masks (1, W, H, D) on: :func:`as_volume`.

:func:`operators` makes the operators with them, where ``monai-deploy-app-sdk`` is installed. The package
``chest-refseg`` has to be in the application's image, for the transforms are its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from common.errors import UserError
from common.images import read_image


def read(path: str | Path, channels: int = 1) -> tuple[np.ndarray, dict[str, Any]]:
    """An image as the operator takes it: (C, W, H) float32 and its meta, as MONAI's ``LoadImaged`` would give them.

    Args:
        path: DICOM, PNG or NIfTI.
        channels: 1, or 3 for networks on colour pictures.

    Raises:
        UserError: it cannot be read.
    """
    pixels, meta = read_image(path, channels)
    return (pixels[None] if pixels.ndim == 2 else pixels), meta | {"original_channel_dim": 0}


def ask(data: Mapping[str, Any], sentence: str | None, laterality: str | None) -> dict[str, Any]:
    """The operator's inputs with a sentence; without one the default stands in, which asserts disease everywhere.

    Raises:
        UserError: a sentence, and nobody says whose left it means.
    """
    if not sentence or not sentence.strip():
        return dict(data)
    if laterality not in ("patient", "image"):
        raise UserError("laterality: whose left does the sentence mean? Give 'patient' or 'image'")
    return {**data, "text_prompt": sentence, "laterality": laterality}


def as_volume(outputs: Mapping[str, Any]) -> dict[str, Any]:
    """What the operator sends on: the mask (W, H) as (1, W, H, 1)."""
    mask = outputs["pred"]
    return {**outputs, "pred": mask[None, ..., None] if mask.ndim == 2 else mask}


def operators() -> tuple[type, type]:
    """The classes ``(ReadOperator, ReferringOperator)`` of an application.

    ``ReadOperator(fragment, path=..., channels=1)`` emits ``image``; ``ReferringOperator(fragment, sentence=...,
    laterality=..., **)`` takes what ``MonaiBundleInferenceOperator`` takes besides.

    Raises:
        UserError: MONAI Deploy is not installed.
    """
    try:
        from monai.deploy.core import Image, Operator, OperatorSpec
        from monai.deploy.operators.monai_bundle_inference_operator import MonaiBundleInferenceOperator
    except ImportError as error:
        raise UserError(f"MONAI Deploy cannot be imported ({error}); pip install monai-deploy-app-sdk") from error

    class ReadOperator(Operator):
        """Emits the image of a file, with the facts of our reader."""

        def __init__(self, fragment: Any, *args: Any, path: str | Path, channels: int = 1, **kwargs: Any) -> None:
            self.path, self.channels = path, channels
            super().__init__(fragment, *args, **kwargs)

        def setup(self, spec: OperatorSpec) -> None:
            """One output."""
            spec.output("image")

        def compute(self, op_input: Any, op_output: Any, context: Any) -> None:
            """Read and emit."""
            op_output.emit(Image(*read(self.path, self.channels)), "image")

    class ReferringOperator(MonaiBundleInferenceOperator):
        """MONAI Deploy's operator with a sentence."""

        def __init__(
            self, fragment: Any, *args: Any, sentence: str = "", laterality: str | None = None, **kwargs: Any
        ) -> None:
            self.sentence, self.laterality = sentence, laterality
            super().__init__(fragment, *args, **kwargs)

        def pre_process(self, data: Any, *args: Any, **kwargs: Any) -> Any:
            """The bundle's transforms, sentence included."""
            return super().pre_process(ask(data, self.sentence, self.laterality), *args, **kwargs)

        def post_process(self, data: Any, *args: Any, **kwargs: Any) -> Any:
            """The bundle's transforms, to a mask that can be sent on."""
            return as_volume(super().post_process(data, *args, **kwargs))

    return ReadOperator, ReferringOperator
