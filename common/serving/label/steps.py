"""Transforms that stand in the served copies of a bundle's configurations."""

from __future__ import annotations

import json
import re
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import Invertd, MapTransform

from common.batch.describe import describe, sides, whose_sides, zones
from common.batch.find import find
from common.errors import UserError
from common.images import to_display
from common.images.meta import shown
from common.images.reader import format_of
from common.prompts import Findings, parse
from common.prompts.zones import count_of_mask, zones_of_mask
from common.runtime.model import Segmentation, kind_of
from common.serving.label.requests import LATERALITY, SENTENCE, NotThere, sentence_of, threshold_of
from common.serving.label.series import slices_of

ASKED, PICTURE, RESULT = "asked", "displayed", "result"
_UID = re.compile(r"[0-9]+(\.[0-9]+)+")
_LONGEST_SIDE = 1024  # of the picture that the verdict looks at


@dataclass(frozen=True)
class Asked:
    """What was understood of a request's sentence.

    Attributes:
        findings: in picture sides; None without a sentence.
        laterality: whose sides it was given in; ``""`` without one.
    """

    findings: Findings | None = None
    laterality: str = ""


def source_of(path: str | Path) -> Path:
    """The file that an image was made from: the DICOM file of a series of one, else the image itself.

    Of a series from DICOMweb, MONAI Label keeps ``<series>.nii.gz`` beside the folder ``<series>`` with its files. Only
    the DICOM file says what the picture shows and how it stands.

    Raises:
        UserError: the series has several images.
    """
    files = files_of(path)
    if len(files) > 1:
        raise UserError(f"{shown(files[0].parent.name)}: a series of {len(files)} images, where one is looked at")
    return files[0] if files else Path(path)


def series_of(path: str | Path) -> list[Path]:
    """The slices of a series of several, in order; none of one image.

    Raises:
        UserError: it has several images that are no stack of CT slices.
    """
    files = files_of(path)
    return slices_of(files) if len(files) > 1 else []


def files_of(path: str | Path) -> list[Path]:
    """The DICOM files of the series that an image stands for; none if it stands for itself."""
    path = Path(path)
    folder = path
    if not path.is_dir():
        folder = path.with_name(path.name.removesuffix(".gz").removesuffix(".nii"))
        if not _UID.fullmatch(folder.name) or not folder.is_dir():
            return []
    return sorted(file for file in folder.iterdir() if file.is_file())


class SourceImaged(MapTransform):
    """Take the DICOM file that an image was made from, where it is there; see :func:`source_of`."""

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Replace the path.

        Raises:
            UserError: as :func:`source_of`.
        """
        return {**data, **{key: str(source_of(data[key])) for key in self.key_iterator(dict(data))}}


class CheckRequestd(MapTransform):
    """The first step of an inference: refuse what is not to be segmented, understand the sentence.

    Args:
        keys: of the image, a path.
        grammar: of the bundle.
        metadata: path of the bundle's ``metadata.json``: what it is for.
    """

    def __init__(self, keys: KeysCollection, grammar: str, metadata: str) -> None:
        super().__init__(keys)
        self.grammar = grammar
        self.metadata = json.loads(Path(metadata).read_text(encoding="utf-8"))

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Set the source and ``asked``; without a sentence its keys are left out, for the default one.

        Raises:
            UserError: the image or the sentence cannot be used; the line names no folder of the server.
        """
        d = dict(data)
        for key in ("label", SENTENCE, LATERALITY):
            d.pop(key, None)
        threshold_of(data)
        prompt = sentence_of(data)
        d[ASKED] = Asked()
        if prompt is not None:
            text, laterality = prompt
            try:
                d[ASKED] = Asked(parse(text, laterality, self.grammar).check(), laterality)
            except UserError as error:
                raise UserError(f"{SENTENCE}: {error}") from error
            d |= {SENTENCE: text, LATERALITY: laterality}
        for key in self.key_iterator(d):
            if not str(d[key]):
                # what MONAI Label makes of an id it does not know
                raise NotThere("image: no such image; write an id that /datastore lists")
            path = source_of(d[key])
            try:
                format_of(path)
            except UserError as error:
                raise UserError(str(error).replace(str(path), path.name)) from error
            found = find(path, self.metadata).found
            if found and found[0].refused:
                # there is no option to override it here
                reason = found[0].refused.split("; --include")[0]
                raise UserError(f"{shown(path.name)}: {reason}; choose another image or another model")
            d[key] = d["source"] = str(path)
        return d


class KeepPictured(MapTransform):
    """Keep the picture as displayed, small, for the verdict: (h, w) or (h, w, 3) under ``displayed``."""

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Add it."""
        d = dict(data)
        for key in self.key_iterator(d):
            picture = _array(d[key])
            step = max(1, -(-max(picture.shape[1:]) // _LONGEST_SIDE))
            picture = picture[:, ::step, ::step]
            d[PICTURE] = picture[0] if len(picture) == 1 else picture.transpose(1, 2, 0)
        return d


class Answerd(Invertd):
    """The last step of an inference: the mask in the source's grid, and what was understood, for the answer.

    It is an ``Invertd``, so that MONAI Label leaves it out where it measures uncertainty and wants probabilities.

    Args:
        keys: of the probabilities, ``pred``.
        transform: what is undone.
        threshold: at which a probability becomes lesion, unless the request says another.
        grammar: of the bundle.
        metadata: path of the bundle's ``metadata.json``.
        orig_keys: of the image.
    """

    def __init__(
        self, keys: KeysCollection, transform: Any, threshold: float, grammar: str, metadata: str,
        orig_keys: KeysCollection = "image",
    ) -> None:  # fmt: skip
        super().__init__(keys, transform, orig_keys, nearest_interp=False, to_tensor=True)
        self.threshold, self.grammar = threshold, grammar
        content = json.loads(Path(metadata).read_text(encoding="utf-8"))
        self.kind, self.takes_text = kind_of(content), content["default_prompt"] != ""

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Replace the probabilities by the mask, uint8: (W, H) of pictures, (W, H, 1) of NIfTI and DICOM."""
        d = dict(super().__call__(data))
        key, image = self.keys[0], d[self.orig_keys[0]]
        threshold = threshold_of(d) or self.threshold
        probability = _array(d[key])[0]
        mask = probability >= threshold
        asked: Asked = d[ASKED]
        result = Segmentation(
            mask=mask.T, probability=probability.T, displayed=to_display(mask, image.meta["display"]),
            findings=asked.findings, sentence=d[SENTENCE],
            prompt_used=d["prompt_used"] if self.takes_text else "not used", meta=dict(image.meta),
        )  # fmt: skip
        picture = d.pop(PICTURE)
        d[RESULT] = answer(result, self.grammar, self.kind, asked.laterality, picture) | {"threshold": threshold}
        in_space = image.meta["format"] in ("nifti", "dicom")
        extension = d.get("result_extension") or (".nii.gz" if in_space else ".png")
        flat = not in_space or extension == ".png"
        if not flat:
            # MONAI Label restores what has another size than this says
            image.meta["spatial_shape"] = np.array([*mask.shape, 1])
        d[key] = torch.from_numpy((mask if flat else mask[..., None]).astype(np.uint8))
        d |= {"result_extension": extension, "result_dtype": "uint8"}
        return d


def answer(
    result: Segmentation, grammar: str, kind: str, laterality: str, picture: np.ndarray | None
) -> dict[str, Any]:
    """What the answer says beside the mask: the words of ``results.csv``.

    Args:
        result: of the image.
        grammar: of the bundle.
        kind: of the bundle's images.
        laterality: whose sides the sentence was given in; ``""`` without one.
        picture: as displayed; None leaves out what the verdict asks of it.

    Returns:
        ``prompt``: used (given, default, not used), understood, laterality, sides, zones; ``mask``: sides, zones,
        pixels, share, area_mm2; ``verdict``: level, reasons. Sides are the patient's, unless nobody knows them.
    """
    facts = describe(result, grammar, kind, laterality, picture)
    prompt = {"used": facts["prompt_used"], "understood": "", "laterality": "", "sides": "", "zones": ""}
    if result.findings is not None:
        whose = whose_sides(result, grammar, laterality)
        prompt |= {
            "understood": facts["understood"], "laterality": whose, "sides": sides(result.findings, whose),
            "zones": zones(result.findings, whose),
        }  # fmt: skip
    elif facts["prompt_used"] == "default":
        prompt["understood"] = result.sentence
    mask = {
        "sides": facts.get("mask_sides", ""), "zones": facts.get("mask_zones", ""), "pixels": facts["pixels"],
        "share": facts["share"], "area_mm2": facts["area_mm2"] if facts["area_mm2"] != "" else None,
    }  # fmt: skip
    reasons = [reason for reason in facts["warnings"].split(" | ") if reason]
    return {"prompt": prompt, "mask": mask, "verdict": {"level": facts["verdict"], "reasons": reasons}}


class SentenceOfLabeld(MapTransform):
    """Give an item that has no sentence one: that which was submitted with its label, else one made from the mask.

    What was submitted and is not understood counts as none.

    It comes after the mask is as displayed and binary, and before ``PreparePromptd``.

    Args:
        keys: of the mask, (1, H, W).
        grammar: of the sentences.
        kind: of the images, a key of :data:`common.prompts.zones.TABLES`.
    """

    def __init__(self, keys: KeysCollection, grammar: str, kind: str) -> None:
        super().__init__(keys)
        self.grammar, self.kind = grammar, kind

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Add ``text_prompt`` and ``laterality``, and the kind of image."""
        d = {**data, "kind": self.kind}
        for key in self.key_iterator(d):
            if str(d.get(SENTENCE) or "").strip():
                continue
            submitted = submitted_with(Path(d[key].meta["filename_or_obj"]))
            if submitted is not None and not self._understood(*submitted):
                submitted = None
            d[SENTENCE], d[LATERALITY] = submitted or (self._of_mask(_array(d[key])[0] > 0), "image")
        return d

    def _understood(self, sentence: str, laterality: str) -> bool:
        """Whether a sentence says something; else the default one, disease everywhere, would be learnt."""
        try:
            parse(sentence, laterality, self.grammar).check()  # type: ignore[arg-type]
        except UserError:
            return False
        return True

    def _of_mask(self, mask: np.ndarray) -> str:
        return Findings(self.grammar, zones_of_mask(mask, self.kind), count_of_mask(mask)).caption()  # type: ignore[arg-type]


def submitted_with(label: Path) -> tuple[str, str] | None:
    """The sentence that a client submitted with a label and whose left it means, as MONAI Label's table of labels says.

    Args:
        label: ``<studies>/labels/final/<image>.<ending>``.
    """
    try:
        table = json.loads((label.parents[2] / "datastore_v2.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, IndexError):
        return None
    for entry in table.get("objects", {}).values():
        info = entry.get("labels", {}).get(label.parent.name, {}).get("info", {})
        if info.get("name") == label.name:
            try:
                return sentence_of(info)
            except UserError:  # a sentence without a side: the mask says which
                return None
    return None


def _array(tensor: torch.Tensor) -> np.ndarray:
    return (tensor.as_tensor() if isinstance(tensor, MetaTensor) else tensor).detach().cpu().numpy()
