"""``ToDisplayd``: the picture a radiologist sees, invertible."""

from __future__ import annotations

from collections.abc import Hashable, Mapping

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import InvertibleTransform, MapTransform
from monai.utils import TraceKeys

from common.errors import UserError
from common.images.meta import check_mask_size
from common.images.orientation import display_of, index_map, mask_display


class ToDisplayd(MapTransform, InvertibleTransform):
    """Turn ``(C, W, H)`` as stored into ``(C, rows, columns)`` as a radiologist sees it.

    That is: head or front up, patient's right at the left. The way is in the meta that ``ChestReader`` made. A
    later key whose file knows no orientation (a PNG mask) lies in the stored grid of the first key's image, as
    every mask that this project writes, and goes the first key's way. ``Invertd`` undoes it exactly, also for
    channels that the network made.

    Args:
        keys: The image first, then what lies in its grid.
        allow_missing_keys: Pass over keys that the item lacks.
    """

    def __init__(self, keys: KeysCollection, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)

    def __call__(self, data: Mapping[Hashable, torch.Tensor]) -> dict[Hashable, torch.Tensor]:
        """Turn every key.

        Raises:
            UserError: The image was not read by ``ChestReader``, or a mask has another grid than its image.
        """
        d = dict(data)
        first = None
        for key in self.key_iterator(d):
            image = d[key]
            if not isinstance(image, MetaTensor):
                raise UserError(f"{key}: no meta, so no way to display; load it with common.images.ChestReader")
            if first is None:
                d[key] = first = self._turn(image, display_of(image.meta))
            else:
                d[key] = self._turn(image, mask_display(image.meta, first.meta))
                check_mask_size(image.meta["filename_or_obj"], d[key].shape[-2:], first.shape[-2:])
        return d

    def inverse(self, data: Mapping[Hashable, torch.Tensor]) -> dict[Hashable, torch.Tensor]:
        """Turn every key back to ``(C, W, H)``, with the affine it had."""
        d = dict(data)
        for key in self.key_iterator(d):
            info = self.pop_transform(d[key])[TraceKeys.EXTRA_INFO]
            transpose, rows, columns = info["display"]
            out = d[key]
            flips = [axis for axis, flip in ((-2, rows), (-1, columns)) if flip]
            out = torch.flip(out, flips) if flips else out
            out = out if transpose else out.swapaxes(-1, -2)
            out.affine = torch.tensor(info["affine"], dtype=torch.float64).reshape(4, 4)
            d[key] = out.contiguous()
        return d

    def _turn(self, image: MetaTensor, way: tuple[int, int, int]) -> MetaTensor:
        transpose, rows, columns = way
        affine = image.affine.to(torch.float64)
        out = image if transpose else image.swapaxes(-1, -2)
        flips = [axis for axis, flip in ((-2, rows), (-1, columns)) if flip]
        out = (torch.flip(out, flips) if flips else out).contiguous()
        out.affine = affine @ torch.from_numpy(index_map(way, tuple(out.shape[-2:])))
        info = {"display": list(way), "affine": affine.reshape(-1).tolist()}
        self.push_transform(out, orig_size=tuple(image.shape[1:]), extra_info=info)
        return out
