"""Images below a folder, found by content and by name."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from common.errors import UserError

from .prompts import Prompts

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".nii", ".nii.gz", ".dcm", ".dicom", ".dic", ".ima")
MAGIC = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"II*\x00", b"MM\x00*")
# A DICOM file without preamble begins with an element of group 0002 or 0008 and its explicit VR or a short length.
GROUPS = (b"\x02\x00", b"\x08\x00")


def is_image(path: Path) -> bool:
    """Whether the file says by its first bytes or its name that it is an image; an unreadable one counts by name."""
    if path.name.lower().endswith(SUFFIXES):
        return True
    try:
        with path.open("rb") as file:
            head = file.read(352)
    except OSError:
        return False
    if head.startswith(MAGIC) or head[128:132] == b"DICM" or head[344:348] in (b"n+1\x00", b"ni1\x00"):
        return True
    explicit = head[4:6].isalpha() and head[4:6].isupper()
    return head[:2] in GROUPS and len(head) > 132 and (explicit or head[5:8] == b"\x00\x00\x00")


def find_images(root: Path) -> tuple[list[Path], int]:
    """All image files below ``root`` (or ``root`` itself, a file) in sorted order, and the number of other files.

    Hidden files and folders are left out and not counted; links to folders are not followed.

    Raises:
        UserError: ``root`` does not exist.
    """
    if root.is_file():
        return [root], 0
    if not root.is_dir():
        raise UserError(f"{root}: there is no such folder; give the folder of the images")
    images, others = [], 0
    for path in _files(root):
        if is_image(path):
            images.append(path)
        else:
            others += 1
    return sorted(images), others


def _files(root: Path) -> Iterator[Path]:
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(folder) / name for name in files if not name.startswith("."))


def find_items(
    root: str, prompts: str | None = None, text: str | None = None, laterality: str | None = None
) -> list[dict[str, str]]:
    """The data list of ``python -m monai.bundle run inferring``: an item with ``image`` for each image below a folder.

    Args:
        root: the folder.
        prompts: a CSV with the columns ``image``, ``text`` and optionally ``laterality``.
        text: one sentence for all images that the CSV does not name.
        laterality: whose left the sentences mean where the CSV does not say it: ``"patient"`` or ``"image"``.

    Returns:
        Dicts with ``image``, ``source`` and, where there is a sentence, ``text_prompt`` and ``laterality``.

    Raises:
        UserError: no image, or prompts that cannot be used.
    """
    folder = Path(root)
    images, _ = find_images(folder)
    if not images:
        raise UserError(f"{folder}: holds no image (PNG, JPEG, TIFF, NIfTI, DICOM); give another --dataset_dir")
    sentences = Prompts(Path(prompts) if prompts else None, text, laterality).assign(images, folder)
    return [
        {"image": str(path), "source": str(path)}
        | ({} if found is None else {"text_prompt": found.text, "laterality": found.laterality})
        for path, found in sentences.items()
    ]
