"""A trained bundle as a function: ``model(path, text, laterality)`` gives the mask in the image's own grid.

Everything comes from the bundle's ``inference.json``: the same transforms, network, inferer and post-processing that
``python -m monai.bundle run inferring`` and MONAI Label use.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from monai.transforms import Invertd, SaveImaged

from common.bundle import bundle_folder, check_versions, configuration_files, weights
from common.images import to_display, write_mask
from common.prompts import Findings, parse


@dataclass
class Segmentation:
    """What a bundle made of one image.

    Attributes:
        mask: (rows, columns) bool, in the file's own grid.
        probability: (rows, columns) float32 in 0..1, in the file's own grid.
        displayed: the mask as a radiologist sees it: patient's right at the left.
        findings: what was understood of the sentence, in picture sides; None without one.
        sentence: what the network was given.
        meta: the reader's facts about the file.
    """

    mask: np.ndarray
    probability: np.ndarray
    displayed: np.ndarray
    findings: Findings | None
    sentence: str
    meta: dict[str, Any] = field(repr=False)

    @property
    def area_mm2(self) -> float | None:
        """Area of the mask, None where the file does not say the size of its pixels."""
        height, width = self.meta["spacing_mm"]
        area = float(self.mask.sum()) * float(height) * float(width)
        return area if area == area else None

    def save(self, path: str | Path) -> None:
        """Write the mask in the file's own grid: PNG (0 and 255) or NIfTI, by the name's ending."""
        write_mask(self.mask.T, self.meta, Path(path))


class Model:
    """A bundle ready to segment single images.

    Args:
        folder: the bundle.
        overlays: configuration files of the bundle on top of ``inference.json``, such as ``"demo"``.
        override: ids of the configuration and their values, such as ``weights="model.pt"``.

    Raises:
        UserError: the bundle or its weights are not there or do not fit.
    """

    def __init__(self, folder: Path, overlays: Sequence[str] = (), **override: Any) -> None:
        files = configuration_files(folder, ["inference", *overlays])
        self.folder = folder
        self.parser = ConfigParser()
        self.parser.read_config(files)
        self.parser.read_meta(str(folder / "configs" / "metadata.json"))
        self.metadata: dict[str, Any] = self.parser["_meta_"]
        check_versions(self.metadata, folder)
        self.parser.update({"bundle_root": str(folder)} | override)
        self.grammar: str = self.parser.get_parsed_content("grammar")
        self.device: torch.device = self.parser.get_parsed_content("device")
        self.preprocessing = self.parser.get_parsed_content("preprocessing")
        self.inferer = self.parser.get_parsed_content("inferer")
        post = self.parser.get_parsed_content("postprocessing")
        self.postprocessing = [step for step in post.transforms if not isinstance(step, SaveImaged)]
        self.network = self.parser.get_parsed_content("network")
        state = torch.load(
            weights(self.parser.get_parsed_content("weights")), map_location=self.device, weights_only=True
        )
        self.network.load_state_dict(state)
        self.network.eval()

    def __call__(self, image: str | Path, text: str | None = None, laterality: str | None = None) -> Segmentation:
        """Segment one image.

        Args:
            image: PNG, JPEG, TIFF, NIfTI or DICOM file.
            text: the sentence; None takes the grammar's default, which asserts disease everywhere.
            laterality: whose left the sentence means, ``"patient"`` or ``"image"``; required with a sentence.

        Raises:
            UserError: the image cannot be read, or the sentence is not understood or has no laterality.
        """
        findings = None
        data: dict[str, Any] = {"image": str(image), "source": str(image)}
        if text:
            data |= {"text_prompt": text, "laterality": laterality}
            if laterality in ("image", "patient"):
                findings = parse(text, laterality, self.grammar)
        with torch.no_grad():
            data = self.preprocessing(data)
            batch = data["image"][None].to(self.device)
            data["pred"] = self.inferer(batch, self.network)[0].float()
            probability = None
            for step in self.postprocessing:
                data = step(data)
                if isinstance(step, Invertd):
                    probability = data["pred"][0]
        mask = _array(data["pred"]) > 0
        return Segmentation(
            mask=mask.T,
            probability=_array(probability).T.astype(np.float32),
            displayed=to_display(mask, data["image"].meta["display"]),
            findings=findings,
            sentence=data["text_prompt"],
            meta=dict(data["image"].meta),
        )


def _array(tensor: torch.Tensor) -> np.ndarray:
    tensor = tensor.as_tensor() if isinstance(tensor, MetaTensor) else tensor
    return tensor.detach().cpu().numpy()


def load(bundle: str | Path, overlays: Sequence[str] = (), **override: Any) -> Model:
    """A trained bundle by its name or folder, ready to be called with an image.

    Args:
        bundle: its name, or its folder.
        overlays: configuration files on top of ``inference.json``, such as ``["demo"]``.
        override: ids of the configuration and their values.

    Raises:
        UserError: there is no such bundle, or it has no weights.
    """
    return Model(bundle_folder(bundle), overlays, **override)
