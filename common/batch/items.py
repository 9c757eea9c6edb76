"""What ``python -m monai.bundle run inferring`` asks of this room: a data list, and names of masks."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common.bundle import running_config
from common.errors import UserError
from common.images.meta import shown

from .find import check_output, find
from .prompts import Prompts

# A sentence is data: as a value of the configuration MONAI would evaluate it. These are what a user may try.
_NO_IDS = ("text", "text_prompt", "prompt", "sentence")


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
    laterality: str | None = None,
    output: str | None = None,
) -> list[dict[str, str]]:
    """The data list of ``python -m monai.bundle run inferring``: an item with ``image`` for each image below a folder.

    Files that cannot be read are in it: MONAI's run ends at the first with the reason. ``python -m tools segment``
    goes on. How many images have no sentence, and which rows of a table have no image, is logged.

    Args:
        root: the folder.
        prompts: a CSV as :class:`Prompts` takes it; or a ``.txt`` with one sentence for all images.
        laterality: whose left the sentences mean where the CSV does not say it: ``"patient"`` or ``"image"``.
        output: folder of the masks; it is not looked into.

    Returns:
        Dicts with ``image``, ``source`` and, where there is a sentence, ``text_prompt`` and ``laterality``.

    Raises:
        UserError: no image, prompts that cannot be used, an output folder that holds the images, or a sentence given
            as an id of the running configuration.
    """
    for key in running_config().keys() & set(_NO_IDS):
        raise UserError(
            f"--{key}: a sentence is not taken from the configuration, which would run what stands in it; write it to "
            f"a file and give --prompts FILE: a .txt with one sentence for all images, or a CSV with image,text"
        )
    folder = Path(root)
    if output is not None:
        check_output(folder, Path(output))
    found = find(folder, None, leave_out=Path(output) if output is not None else None).found
    images = [item for item in found if not item.path.is_dir()]
    if not images:
        raise UserError(f"{folder}: holds no image (PNG, JPEG, TIFF, NIfTI, DICOM); give another --dataset_dir")
    told = _prompts(Path(prompts) if prompts else None, laterality)
    sentences = told.assign(images)
    log = logging.getLogger("prompt")
    if none := sum(prompt is None for prompt in sentences.values()):
        log.warning(
            "%d of %d images have no sentence: a network that takes one gets the default, which asserts disease "
            "everywhere", none, len(images),
        )  # fmt: skip
    if unused := told.unused():
        log.warning("%s: rows that belong to no image: %d, such as %s", prompts, len(unused), shown(unused[0]))
    items = []
    for item in images:
        prompt = sentences[item.name]
        given = {} if prompt is None else {"text_prompt": prompt.text, "laterality": prompt.laterality}
        items.append({"image": str(item.path), "source": str(item.path)} | given)
    return items


def _prompts(path: Path | None, laterality: str | None) -> Prompts:
    """The sentences of a table, or the one of a text file."""
    if path is None or path.suffix.lower() != ".txt":
        return Prompts(path, None, laterality)
    try:
        text = " ".join(path.read_text(encoding="utf-8-sig").split())
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as text ({error}); give a file with one sentence") from error
    if not text:
        raise UserError(f"{path}: is empty; write the sentence of all images into it")
    return Prompts(None, text, laterality)
