"""A trained bundle as a function: ``model(path, text, laterality)`` gives the mask in the image's own grid.

Everything comes from the bundle's ``inference.json``: the same transforms, network, inferer and post-processing that
``python -m monai.bundle run inferring`` and MONAI Label use.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from monai.transforms import Invertd, SaveImaged

from common.bundle import bundle_folder, check_versions, configuration_files
from common.engines import amp_dtype, load_weights
from common.errors import UserError
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
        prompt_used: ``"given"``; ``"default"``, which asserts disease everywhere; ``"not used"`` by a network that
            takes the image alone.
        meta: the reader's facts about the file.
    """

    mask: np.ndarray
    probability: np.ndarray
    displayed: np.ndarray
    findings: Findings | None
    sentence: str
    prompt_used: str
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
        device: such as ``"cpu"`` or ``"cuda:1"``; None takes the configuration's, a GPU if there is one.
        override: ids of the configuration and their values, such as ``weights="model.pt"``.

    Attributes:
        grammar: of its sentences, ``"chest"`` or ``"polyp"``.
        kind: of its images, as :mod:`common.prompts.zones` names it.
        takes_text: whether a sentence makes a difference.
        amp: whether it computes in half precision, as its evaluator does.

    Raises:
        UserError: the bundle or its weights are not there or do not fit, or there is no such device.
    """

    kind: str = "radiograph"
    takes_text: bool = True
    amp: bool = False

    def __init__(
        self, folder: Path, overlays: Sequence[str] = (), device: str | torch.device | None = None, **override: Any
    ) -> None:
        if device is not None:
            override["device"] = device_of(device)
        files = configuration_files(folder, ["inference", *overlays])
        self.folder = folder
        self.parser = ConfigParser()
        self.parser.read_config(files)
        self.parser.read_meta(str(folder / "configs" / "metadata.json"))
        self.metadata: dict[str, Any] = self.parser["_meta_"]
        check_versions(self.metadata, folder)
        self.parser.update({"bundle_root": str(folder)} | override)
        self.grammar: str = self.parser.get_parsed_content("grammar")
        self.kind = kind_of(self.metadata)
        self.takes_text = self.metadata["default_prompt"] != ""
        self.device: torch.device = self.parser.get_parsed_content("device")
        self.amp = bool(self.parser.get_parsed_content("amp"))
        self.preprocessing = self.parser.get_parsed_content("preprocessing")
        self.inferer = self.parser.get_parsed_content("inferer")
        post = self.parser.get_parsed_content("postprocessing")
        self.postprocessing = [step for step in post.transforms if not isinstance(step, SaveImaged)]
        self.network = self.parser.get_parsed_content("network")
        load_weights(self.network, self.parser.get_parsed_content("weights"))
        self.network.eval()

    def __call__(self, image: str | Path, text: str | None = None, laterality: str | None = None) -> Segmentation:
        """Segment one image.

        Args:
            image: PNG, JPEG, TIFF, NIfTI or DICOM file.
            text: the sentence; None or blank takes the grammar's default, which asserts disease everywhere.
            laterality: whose left the sentence means, ``"patient"`` or ``"image"``; required with a sentence.

        Raises:
            UserError: the image cannot be read, or the sentence is not understood or has no laterality.
        """
        findings = None
        data: dict[str, Any] = {"image": str(image), "source": str(image)}
        if text and text.strip():
            data |= {"text_prompt": text, "laterality": laterality}
            if laterality in ("image", "patient"):
                findings = parse(text, laterality, self.grammar)
        with torch.no_grad():
            data = self.preprocessing(data)
            batch = data["image"][None].to(self.device)
            # MONAI's engines know half precision on CUDA alone
            half = self.amp and self.device.type == "cuda"
            with torch.autocast(self.device.type, dtype=amp_dtype(self.device), enabled=half):
                data["pred"] = self.inferer(batch, self.network)[0]
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
            prompt_used=data["prompt_used"] if self.takes_text else "not used",
            meta=dict(data["image"].meta),
        )


def _array(tensor: torch.Tensor) -> np.ndarray:
    tensor = tensor.as_tensor() if isinstance(tensor, MetaTensor) else tensor
    return tensor.detach().cpu().numpy()


def device_of(name: str | torch.device) -> torch.device:
    """The device of that name, if this machine has it.

    Raises:
        UserError: it has not, or there is no such name.
    """
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).cpu()
    except Exception as error:  # torch raises RuntimeError, AssertionError, NotImplementedError
        known = " or ".join(["cpu", *(f"cuda:{number}" for number in range(torch.cuda.device_count()))])
        raise UserError(f"device {name!s:.40}: is not there; write {known}") from error
    return device


def kind_of(metadata: Mapping[str, Any]) -> str:
    """The kind of image that a bundle is for, a key of :data:`common.prompts.zones.TABLES`."""
    if metadata["grammar"] == "polyp":
        return "polyp"
    return "axial_ct" if metadata["modality"] == "CT" else "radiograph"


def load(
    bundle: str | Path, overlays: Sequence[str] = (), device: str | torch.device | None = None, **override: Any
) -> Model:
    """A trained bundle by its name or folder, ready to be called with an image.

    Args:
        bundle: its name, or its folder.
        overlays: configuration files on top of ``inference.json``, such as ``["demo"]``.
        device: such as ``"cpu"`` or ``"cuda:1"``; None takes the configuration's.
        override: ids of the configuration and their values.

    Raises:
        UserError: there is no such bundle or device, or the weights are not there or do not fit.
    """
    return Model(bundle_folder(bundle), overlays, device, **override)
