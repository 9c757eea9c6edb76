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

from common.bundle import bundle_folder, check_versions, configuration_files, metadata_of
from common.engines import amp_dtype, load_weights
from common.errors import UserError, user_error
from common.images import to_display, write_mask
from common.prompts import Findings, parse
from common.runtime.backends import FACTS, exported_file, is_exported, listed_in, not_listed, open_exported, read_inside
from common.transforms import ToDisplayd, TokenizePromptd


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


class Processing:
    """What a bundle does before and after its network, to one image; it can be pickled by its arguments alone.

    Args:
        folder: the bundle.
        overlays: configuration files of the bundle on top of ``inference.json``, such as ``"demo"``.
        override: ids of the configuration and their values, such as ``weights="model.pt"``.

    Attributes:
        metadata: the bundle's ``metadata.json``, with what the overlays change of it.
        grammar: of its sentences, ``"chest"`` or ``"polyp"``.
        kind: of its images, as :mod:`common.prompts.zones` names it.
        takes_text: whether a sentence makes a difference.
        weights: ``model.pt``, or a file that ``tools export`` wrote: ``model.ts``, ``model.onnx``.

    Raises:
        UserError: there is no such configuration, or it needs another version of this package.
    """

    kind: str = "radiograph"
    takes_text: bool = True
    _table: dict[str, Any] | None = None

    def __init__(self, folder: Path, overlays: Sequence[str] = (), **override: Any) -> None:
        files = configuration_files(folder, ["inference", *overlays])
        self.folder = folder
        self.parser = ConfigParser()
        try:
            self.parser.read_config(files)
        except KeyError as error:
            raise UserError(f"{', '.join(overlays)}: an overlay is of training alone ({error.args[0]})") from error
        self.metadata = metadata_of(folder, overlays)
        self.parser.read_meta(self.metadata)
        check_versions(self.metadata, folder)
        self.parser.update({"bundle_root": str(folder)} | override)
        self.grammar: str = self.parser.get_parsed_content("grammar")
        self.kind = kind_of(self.metadata)
        self.takes_text = self.metadata["default_prompt"] != ""
        self.preprocessing = self.parser.get_parsed_content("preprocessing")
        self.weights = Path(self.parser.get_parsed_content("weights"))
        # of a file with a table of sentences, what it says of itself: no other sentence may be asked of it
        if is_exported(self.weights) and listed_in(facts := read_inside(self.weights)[FACTS]) is not None:
            self._table = facts
        post = self.parser.get_parsed_content("postprocessing")
        self.postprocessing = [step for step in post.transforms if not isinstance(step, SaveImaged)]

    def prepare(self, image: str | Path, text: str | None = None, laterality: str | None = None) -> dict[str, Any]:
        """Read an image and make it, with its sentence, ready for the network.

        Args:
            image: PNG, JPEG, TIFF, NIfTI or DICOM file.
            text: the sentence; None or blank takes the grammar's default, which asserts disease everywhere.
            laterality: whose left the sentence means, ``"patient"`` or ``"image"``; required with a sentence.

        Returns:
            The data dictionary: ``image`` (C, H, W), where the bundle takes text ``text`` (L,), ``findings``, what was
            understood of the sentence (None without one), and ``displayed``, the picture as a radiologist sees it,
            (H, W) or (H, W, 3), float32 in 0..1.

        Raises:
            UserError: the image cannot be read, or the sentence is not understood, has no laterality, or is not in
                the table of the exported network.
        """
        findings = None
        data: dict[str, Any] = {"image": str(image), "source": str(image)}
        if text and text.strip():
            data |= {"text_prompt": text, "laterality": laterality}
            if laterality in ("image", "patient"):
                findings = parse(text, laterality, self.grammar)
        displayed = None
        try:
            for step in self.preprocessing.transforms:
                data = step(data)
                if isinstance(step, ToDisplayd):
                    picture = data["image"].as_tensor().numpy()
                    displayed = picture[0] if len(picture) == 1 else picture.transpose(1, 2, 0)
        except Exception as error:
            # MONAI wraps what a transform raises
            if (fault := user_error(error)) is not None:
                raise fault from error
            raise
        if self._table is not None and data["text_prompt"] not in (listed_in(self._table) or ()):
            raise UserError(not_listed(self.weights, self._table))
        return {**data, "findings": findings, "displayed": displayed}

    def finish(self, data: Mapping[str, Any], logits: torch.Tensor) -> Segmentation:
        """The mask in the file's own grid.

        Args:
            data: what :meth:`prepare` gave.
            logits: the network's of this image, (1, H, W).
        """
        findings = data["findings"]
        data = {**data, "pred": logits}
        probability = None
        with torch.no_grad():
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
            # the transforms moved the affine with the picture; the mask is back in the file's own grid
            meta={**data["image"].meta, "affine": np.asarray(data["image"].meta["original_affine"])},
        )


class Model(Processing):
    """A bundle ready to segment images.

    Args:
        folder: the bundle.
        overlays: configuration files of the bundle on top of ``inference.json``, such as ``"demo"``.
        device: such as ``"cpu"`` or ``"cuda:1"``; None takes the configuration's, a GPU if there is one.
        override: ids of the configuration and their values, such as ``weights="model.pt"``.

    Attributes:
        amp: whether it computes in half precision, as its evaluator does; an exported network decides itself.
        network: called with image and ids; that of the configuration, or an exported one.

    Raises:
        UserError: the bundle or its weights are not there or do not fit, or there is no such device.
    """

    amp: bool = False

    def __init__(
        self, folder: Path, overlays: Sequence[str] = (), device: str | torch.device | None = None, **override: Any
    ) -> None:
        if device is not None:
            override["device"] = device_of(device)
        super().__init__(folder, overlays, **override)
        self.device: torch.device = self.parser.get_parsed_content("device")
        self.inferer = self.parser.get_parsed_content("inferer")
        self.network: torch.nn.Module
        if is_exported(self.weights):
            exported = open_exported(self.weights, self.device)
            self._check(exported.facts)
            self.network = exported
        else:
            self.amp = bool(self.parser.get_parsed_content("amp"))
            self.network = self.parser.get_parsed_content("network")
            load_weights(self.network, str(self.weights))
        self.network.eval()

    def __call__(self, image: str | Path, text: str | None = None, laterality: str | None = None) -> Segmentation:
        """Segment one image; arguments and errors are those of :meth:`Processing.prepare`."""
        data = self.prepare(image, text, laterality)
        return self.finish(data, self.logits([data])[0])

    def _check(self, facts: Mapping[str, Any]) -> None:
        """Refuse a file that is of another bundle, or whose sentences were other ones."""
        own = {"bundle": self.metadata["name"]}
        theirs = {"bundle": facts["bundle"]["name"]}
        if facts["sentence"]:
            own |= {"grammar": self.grammar, "captions": self.parser.get_parsed_content("captions")}
            theirs |= {key: facts["sentence"][key] for key in ("grammar", "captions")}
            tokenizer = next(s.tokenizer for s in self.preprocessing.transforms if isinstance(s, TokenizePromptd))
            # a vocabulary in other order would mark the other lung
            own["ids of the default sentence"] = tokenizer.ids(facts["sentence"]["default"])
            theirs["ids of the default sentence"] = facts["sentence"]["default_ids"]
        for key, value in own.items():
            if value != theirs[key]:
                raise UserError(f"{self.weights}: {key} {theirs[key]}, but the configuration has {value}; export again")

    def logits(self, prepared: Sequence[Mapping[str, Any]]) -> torch.Tensor:
        """The network's logits (B, 1, H, W), on the CPU, of what :meth:`Processing.prepare` gave for B images.

        Only ``image`` and ``text`` are looked at.
        """
        images = torch.stack([_plain(data["image"]) for data in prepared]).to(self.device)
        ids = {}
        if "text" in prepared[0]:
            ids["text"] = torch.stack([torch.as_tensor(data["text"]) for data in prepared]).to(self.device)
        # MONAI's engines know half precision on CUDA alone
        half = self.amp and self.device.type == "cuda"
        with torch.no_grad(), torch.autocast(self.device.type, dtype=amp_dtype(self.device), enabled=half):
            return self.inferer(images, self.network, **ids).cpu()


def _plain(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.as_tensor() if isinstance(tensor, MetaTensor) else tensor


def _array(tensor: torch.Tensor) -> np.ndarray:
    return _plain(tensor).detach().cpu().numpy()


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


def with_backend(
    folder: Path, overlays: Sequence[str], backend: str | None, override: dict[str, Any]
) -> dict[str, Any]:
    """``override`` with the weights that a backend computes with: ``model.onnx`` beside ``model.pt`` for ``"onnx"``.

    Args:
        folder: the bundle.
        overlays: configuration files on top of ``inference.json``.
        backend: of :data:`common.runtime.backends.BACKENDS`; None leaves it to the name of the weights.
        override: ids of the configuration and their values.

    Raises:
        UserError: no such backend, or no such file.
    """
    if backend is None:
        return dict(override)
    weights = Processing(folder, overlays, **override).weights
    return {**override, "weights": str(exported_file(weights, backend))}


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
