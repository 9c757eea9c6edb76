"""Images below a folder, found by content and by name."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from common.errors import UserError
from common.images.reader import holds_image

from .prompts import Prompts

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp", ".nii", ".nii.gz", ".dcm", ".dicom", ".dic")


def is_image(path: Path) -> bool:
    """Whether a file says by its name or by its first bytes that it is an image (one that cannot be read: by name)."""
    if path.name.lower().endswith(SUFFIXES):
        return True
    try:
        return holds_image(path)
    except OSError:
        return False


def find_images(root: Path, leave_out: Path | None = None) -> tuple[list[Path], int]:
    """All image files below ``root`` (or ``root`` itself, a file) in sorted order, and the number of other files.

    Hidden files and folders are left out and not counted; links to folders are not followed. ``leave_out`` is a folder
    that is not looked into: an output folder inside the input folder.

    Raises:
        UserError: ``root`` does not exist.
    """
    if root.is_file():
        return [root], 0
    if not root.is_dir():
        raise UserError(f"{root}: there is no such folder; give the folder of the images")
    images, others = [], 0
    for path in _files(root, leave_out.resolve() if leave_out else None):
        if is_image(path):
            images.append(path)
        else:
            others += 1
    return sorted(images), others


def _files(root: Path, leave_out: Path | None) -> Iterator[Path]:
    for folder, folders, files in os.walk(root):
        here = Path(folder)
        folders[:] = sorted(f for f in folders if not f.startswith(".") and (here / f).resolve() != leave_out)
        yield from (here / name for name in files if not name.startswith("."))


def check_output(root: Path, output: Path) -> None:
    """Refuse an output folder that is, or holds, what is to be segmented: masks would be taken for images.

    Raises:
        UserError: it is so.
    """
    inside, around = root.resolve(), output.resolve()
    if inside == around or around in inside.parents:
        raise UserError(
            f"{output}: the images are in this folder, and masks written here would be segmented too; "
            f"give another output folder"
        )


def output_name(meta: Mapping[str, Any], saver: Any) -> dict[str, str]:
    """How ``SaveImaged`` names a mask: by its image's whole file name, so that ``a.dcm`` and ``a.png`` get two.

    Args:
        meta: of the image.
        saver: the transform.
    """
    # it cuts the ending of what it is given: here the dot
    return {"subject": f"{meta['filename_or_obj']}."}


def find_items(
    root: str,
    prompts: str | None = None,
    text: str | None = None,
    laterality: str | None = None,
    output: str | None = None,
) -> list[dict[str, str]]:
    """The data list of ``python -m monai.bundle run inferring``: an item with ``image`` for each image below a folder.

    Args:
        root: the folder.
        prompts: a CSV with the columns ``image``, ``text`` and optionally ``laterality``.
        text: one sentence for all images that the CSV does not name.
        laterality: whose left the sentences mean where the CSV does not say it: ``"patient"`` or ``"image"``.
        output: folder of the masks; it is not looked into.

    Returns:
        Dicts with ``image``, ``source`` and, where there is a sentence, ``text_prompt`` and ``laterality``.

    Raises:
        UserError: no image, prompts that cannot be used, or an output folder that holds the images.
    """
    folder = Path(root)
    if output is not None:
        check_output(folder, Path(output))
    images, _ = find_images(folder, Path(output) if output is not None else None)
    if not images:
        raise UserError(f"{folder}: holds no image (PNG, JPEG, TIFF, NIfTI, DICOM); give another --dataset_dir")
    sentences = Prompts(Path(prompts) if prompts else None, text, laterality).assign(images, folder)
    return [
        {"image": str(path), "source": str(path)}
        | ({} if found is None else {"text_prompt": found.text, "laterality": found.laterality})
        for path, found in sentences.items()
    ]
