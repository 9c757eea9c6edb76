"""What ``python -m monai.bundle run inferring`` asks of this room: a data list, and names of masks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common.errors import UserError

from .find import check_output, find
from .prompts import Prompts


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

    Files that cannot be read are in it: MONAI's run ends at the first with the reason. ``python -m tools segment``
    goes on.

    Args:
        root: the folder.
        prompts: a CSV as :class:`Prompts` takes it.
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
    found = find(folder, None, leave_out=Path(output) if output is not None else None).found
    images = [item for item in found if not item.path.is_dir()]
    if not images:
        raise UserError(f"{folder}: holds no image (PNG, JPEG, TIFF, NIfTI, DICOM); give another --dataset_dir")
    sentences = Prompts(Path(prompts) if prompts else None, text, laterality).assign(images)
    items = []
    for item in images:
        prompt = sentences[item.name]
        given = {} if prompt is None else {"text_prompt": prompt.text, "laterality": prompt.laterality}
        items.append({"image": str(item.path), "source": str(item.path)} | given)
    return items
