"""A CT series of several slices, of which the networks here see one at a time.

Each slice is segmented as ``tools segment`` does it, with the sentence of the request; the masks are put together in
the grid of the series. What is no stack of parallel, evenly spaced CT slices is refused: no volume would lie where they
do.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from common.batch.find import find
from common.errors import UserError
from common.images import read_image
from common.images.header import numbers
from common.images.meta import shown

_OTHERWISE = "segment it with python -m tools segment"
_LEVELS = ("ok", "note", "review")
_EVEN = 0.02  # of the distance between slices: what writing rounds


def slices_of(files: Sequence[Path]) -> list[Path]:
    """The files of a CT series in their order in space.

    Args:
        files: all of one folder, more than one.

    Raises:
        UserError: they are no stack of slices.
    """
    folder = files[0].parent
    found = find(folder, None).found
    stack = [item for item in found if item.series]
    if len(stack) < len(files):
        others = len(files) - len(stack)
        raise UserError(
            f"{shown(folder.name)}: a series of {len(files)} images, of which {others} are no slices of one CT stack; "
            f"{_OTHERWISE}"
        )
    return [item.path for item in stack]


def affine_of(slices: Sequence[Path]) -> np.ndarray:
    """(4, 4) from (column, row, slice) to RAS millimetres.

    Raises:
        UserError: the slices are not evenly spaced.
    """
    import pydicom

    affine = np.asarray(read_image(slices[0])[1]["affine"], float).copy()
    headers = [pydicom.dcmread(path, stop_before_pixels=True) for path in slices]
    places = np.array([numbers(header, "ImagePositionPatient") for header in headers], float) * (-1, -1, 1)
    step = (places[-1] - places[0]) / (len(slices) - 1)
    even = places[0] + np.arange(len(slices))[:, None] * step
    if np.abs(places - even).max() > _EVEN * np.linalg.norm(step):
        raise UserError(
            f"{shown(slices[0].parent.name)}: the slices of the series are not evenly spaced, so that no volume holds "
            f"them; {_OTHERWISE}, whose DICOM SEG has the place of each"
        )
    affine[:3, 2] = step
    return affine


def volume_of(slices: Sequence[Path]) -> tuple[np.ndarray, np.ndarray]:
    """The grey values (W, H, N) that networks get, and the affine."""
    return np.stack([read_image(path)[0] for path in slices], axis=-1), affine_of(slices)


def masks_on(label: Path, slices: Sequence[Path]) -> list[np.ndarray]:
    """A mask of a series, of any orientation: for each slice (rows, columns) bool in its stored grid.

    Args:
        label: NIfTI.
        slices: of the series.

    Raises:
        UserError: it lies in another grid.
    """
    import nibabel

    try:
        image = nibabel.load(label)
        values = np.asarray(image.dataobj) > 0
    except Exception as error:  # nibabel meets damage with exceptions of every kind
        raise UserError("label: cannot be read; write it again as .nii.gz or .nrrd") from error
    affine, first = affine_of(slices), read_image(slices[0])[1]
    size = (*(int(n) for n in first["spatial_shape"][:2]), len(slices))
    elsewhere = UserError(
        f"label: is {' x '.join(map(str, values.shape))} in another place than its series of "
        f"{' x '.join(map(str, size))}; draw it on the series' own grid"
    )
    if values.ndim != 3:
        raise elsewhere
    # a file without orientation says its pixels' order alone
    if image.header["sform_code"] or image.header["qform_code"]:
        way = np.linalg.inv(image.affine) @ affine
        turn = np.rint(way[:3, :3])
        if np.abs(way[:3, :3] - turn).max() > _EVEN or not np.array_equal(np.abs(turn) @ np.abs(turn).T, np.eye(3)):
            raise elsewhere
        axes = np.argmax(np.abs(turn), axis=0)  # of the label, for each of the series
        flipped = [turn[axis, own] < 0 for own, axis in enumerate(axes)]
        starts = [values.shape[axis] - 1 if flip else 0 for axis, flip in zip(axes, flipped, strict=True)]
        if np.abs(way[:3, 3][axes] - starts).max() > 0.1:
            raise elsewhere
        values = np.transpose(values, axes)[tuple(slice(None, None, -1 if flip else 1) for flip in flipped)]
    if values.shape != size:
        raise elsewhere
    return [values[..., number].T for number in range(len(slices))]


def infer_slices(
    one: Callable[..., tuple[Any, dict[str, Any]]], task: Any, request: Mapping[str, Any], slices: Sequence[Path]
) -> tuple[str, dict[str, Any]]:
    """MONAI Label's inference of a series: each slice by itself, then one file and one answer.

    Args:
        one: the inference of an image: ``(task, request) -> (file, answer)``, or ``(None, data)`` without a writer.
        task: MONAI Label's.
        request: of the series.
        slices: of it, in order.

    Raises:
        UserError: what ``one`` refuses of a slice, or what is asked for is of single images.
    """
    name = shown(slices[0].parent.name)
    if task.skip_writer:
        raise UserError(f"{name}: a series of {len(slices)} slices; uncertainty is scored of single images")
    extension = request.get("result_extension") or ".nii.gz"
    if extension == ".png":
        raise UserError("result_extension: .png holds one slice, the series has more; write .nii.gz or .nrrd")
    affine = affine_of(slices)
    masks, answers = [], []
    for path in slices:
        asked = {**request, "image": str(path), "result_extension": extension}
        _, data = one(task, {**asked, "skip_writer": True, "logging": "WARNING"})
        masks.append(np.asarray(data[task.output_label_key])[..., 0].astype(np.uint8))  # of (W, H, 1)
        answers.append(data[task.output_json_key])
    file, said = task.writer(written(np.stack(masks, axis=-1), affine, request, extension, task, answers))
    return file, said | {"label_names": task.labels, "latencies": {}, "centroids": {}}


def written(
    volume: np.ndarray, affine: np.ndarray, request: Mapping[str, Any], extension: str, task: Any, answers: list[Any]
) -> dict[str, Any]:
    """What MONAI Label's writer needs of a series."""
    from monai.data import MetaTensor

    return {
        task.output_label_key: MetaTensor(torch.from_numpy(volume), affine=torch.from_numpy(affine)),
        task.output_json_key: answer_of_series(answers, float(np.linalg.norm(affine[:3, 2]))),
        "image_path": request["image"], "result_extension": extension, "result_dtype": "uint8",
        "result_compress": request.get("result_compress", False),
    }  # fmt: skip


def answer_of_series(answers: Sequence[Mapping[str, Any]], distance: float) -> dict[str, Any]:
    """The answers of slices as one.

    Args:
        answers: :func:`.steps.answer` of each, and ``threshold``.
        distance: between slices, mm.

    Returns:
        As of a slice; ``mask`` counts pixels of all, has ``volume_mm3`` in place of an area and names the sides and
        zones of any slice; the verdict is the worst of those that are marked, or of all if none is; ``slices`` says how
        many there are and how many are marked.
    """
    marked = [one for one in answers if one["mask"]["pixels"]]
    told = marked or list(answers)
    areas = [one["mask"]["area_mm2"] for one in answers]
    worst = max((one["verdict"]["level"] for one in told), key=_LEVELS.index)
    mask = {
        "sides": "; ".join(dict.fromkeys(one["mask"]["sides"] for one in marked if one["mask"]["sides"])),
        "zones": "; ".join(dict.fromkeys(one["mask"]["zones"] for one in marked if one["mask"]["zones"])),
        "pixels": sum(one["mask"]["pixels"] for one in answers),
        "share": sum(one["mask"]["share"] for one in answers) / len(answers),
        "volume_mm3": None if None in areas else sum(areas) * distance,
    }  # fmt: skip
    return {
        "prompt": answers[0]["prompt"],
        "mask": mask,
        "verdict": {
            "level": worst,
            "reasons": list(dict.fromkeys(reason for one in told for reason in one["verdict"]["reasons"])),
        },
        "threshold": answers[0]["threshold"],
        "slices": {"number": len(answers), "marked": len(marked)},
    }  # fmt: skip


def items_of_slices(
    items: Sequence[Mapping[str, Any]], slices_of_image: Callable[[str], Sequence[Path]]
) -> list[dict[str, Any]]:
    """Items of a training, a series as one item a slice; its labels lie in this process's temporary folder.

    Args:
        items: with ``image`` and ``label``.
        slices_of_image: the slices of a series, none of one image.

    Raises:
        UserError: a label is another series'.
    """
    import nibabel

    found: list[dict[str, Any]] = []
    for item in items:
        slices = slices_of_image(item["image"])
        if not slices:
            found.append(dict(item))
            continue
        folder = Path(tempfile.mkdtemp())
        for number, (path, mask) in enumerate(zip(slices, masks_on(Path(item["label"]), slices), strict=True)):
            label = folder / f"{number}.nii.gz"
            # without orientation: in its image's stored grid
            image = nibabel.Nifti1Image(mask.T[..., None].astype(np.uint8), np.eye(4))
            for set_code in (image.set_sform, image.set_qform):
                set_code(np.eye(4), code=0)
            image.to_filename(label)
            found.append({**item, "image": str(path), "label": str(label)})
    return found
