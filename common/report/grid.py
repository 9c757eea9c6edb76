"""Masks of several runs side by side, a row an image: what each found, missed and marked too much.

Colours are of Okabe and Ito's palette, as in overlays: blue where mask and ground truth agree, yellow (the ground
truth's colour) where lesion was missed, vermilion where the mask is on no lesion.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import binary_dilation, binary_erosion

from common.report.overlay import PREDICTION, TRUTH, as_picture, draw_contour, draw_marker, resize_mask, wrap

EXCESS = (213, 94, 0)
LEGEND = (
    ("found: mask and ground truth", PREDICTION),
    ("missed: ground truth alone", TRUTH),
    ("too much: mask alone", EXCESS),
)
WIDTH = 1600  # px, of the whole, unless so few columns fill less or so many need more
_CELL = (200, 380)  # px: narrowest and widest picture
_TALL = 1.25  # a picture is at most so many times as high as wide
_PAD, _GAP = 28, 10
_FILL = 0.4  # opacity of a coloured region
_PAGE, _TEXT, _SOFT = (17, 17, 17), (238, 238, 238), (170, 170, 170)


@dataclass(frozen=True)
class Row:
    """One image, or one image in one condition.

    Attributes:
        image: (h, w) or (h, w, 3), float in [0, 1]; enlarged or reduced to the masks' aspect.
        truth: ground truth, (H, W), bool or 0/1.
        masks: of each run, (H, W).
        scores: printed on each run's picture, such as ``"Dice 83.4 %"``.
        label: printed on the image, such as ``"low dose, 140"``; "" for none.
        caption: lines below the row, each a text in white and one in grey before it, such as a file's name; none
            where the next row is of the same image.
        marker: of the side at the picture's left; "" for none.
    """

    image: np.ndarray
    truth: np.ndarray
    masks: Sequence[np.ndarray]
    scores: Sequence[str]
    label: str = ""
    caption: tuple[str, str] | None = None
    marker: str = "R"


def grid(title: str, names: Sequence[str], rows: Sequence[Row], notes: Sequence[str] = ()) -> np.ndarray:
    """Draw the rows: image, ground truth, and a picture a run.

    Args:
        title: at the top.
        names: of the runs, above their columns.
        rows: from top to bottom.
        notes: at the bottom.

    Returns:
        (H', W', 3) uint8.

    Raises:
        ValueError: no rows; a row has not one mask and one score a run, or masks of another size than its truth.
    """
    if not rows:
        raise ValueError("a grid needs at least one row")
    for number, row in enumerate(rows):
        if not len(names) == len(row.masks) == len(row.scores):
            raise ValueError(f"row {number}: {len(row.masks)} masks, {len(row.scores)} scores, {len(names)} runs")
        for name, mask in zip(names, row.masks, strict=True):
            if mask.shape != row.truth.shape:
                raise ValueError(f"row {number}: mask of {name} {mask.shape} and truth {row.truth.shape} differ")
    columns = 2 + len(names)
    cell = min(max((WIDTH - 2 * _PAD + _GAP) // columns - _GAP, _CELL[0]), _CELL[1])
    width = 2 * _PAD + columns * (cell + _GAP) - _GAP
    parts = [_head(title, names, cell, width)]
    for row in rows:
        parts.append(_pictures(row, cell, width))
        if row.caption:
            parts.append(_text(row.caption[1], row.caption[0], 20, width))
    parts += [_text(note, "", 17, width, _SOFT) for note in notes]
    sheet = Image.new("RGB", (width, sum(part.height for part in parts) + _PAD), _PAGE)
    y = 0
    for part in parts:
        sheet.paste(part, (0, y))
        y += part.height
    return np.asarray(sheet)


def errors(image: np.ndarray, truth: np.ndarray, mask: np.ndarray, size: tuple[int, int]) -> Image.Image:
    """The picture at (width, height) with what was found, missed and marked too much."""
    paint = np.asarray(as_picture(image).resize(size, Image.Resampling.BICUBIC), np.float32).copy()
    is_lesion, is_marked = resize_mask(truth, size), resize_mask(mask, size)
    regions = (is_lesion & is_marked, is_lesion & ~is_marked, is_marked & ~is_lesion)
    for region, (_, colour) in zip(regions, LEGEND, strict=True):
        paint[region] += _FILL * (np.array(colour, np.float32) - paint[region])
    # lines inside each region, so that none hides another's; a dark one around all sets them off from white lung
    whole = is_lesion | is_marked
    paint[binary_dilation(whole) & ~whole] *= 0.45
    width = max(1, size[0] // 200)
    for region, (_, colour) in zip(regions, LEGEND, strict=True):
        paint[region & ~binary_erosion(region, iterations=width)] = colour
    return Image.fromarray(paint.round().astype(np.uint8))


def _head(title: str, names: Sequence[str], cell: int, width: int) -> Image.Image:
    """Title, legend, names of the columns."""
    big, font, small = (ImageFont.load_default(size) for size in (30, 22, 18))
    heads = [wrap(name, font, cell) for name in ("image", "ground truth", *names)]
    high = 30 * max(map(len, heads))
    titles = wrap(title, big, width - 2 * _PAD)
    part = Image.new("RGB", (width, 24 + 40 * len(titles) + 40 + high + 10), _PAGE)
    draw = ImageDraw.Draw(part)
    y = 20
    for line in titles:
        draw.text((_PAD, y), line, _TEXT, big)
        y += 40
    x = _PAD
    for name, colour in LEGEND:
        draw.rectangle((x, y + 5, x + 18, y + 23), fill=colour)
        draw.text((x + 28, y + 3), name, _SOFT, small)
        x += 28 + round(small.getlength(name)) + 32
    y += 40
    for column, lines in enumerate(heads):
        for number, line in enumerate(lines):
            draw.text((_PAD + column * (cell + _GAP), y + 30 * number + high - 30 * len(lines)), line, _TEXT, font)
    return part


def _pictures(row: Row, cell: int, width: int) -> Image.Image:
    """Image, truth, and each run's mask, with marker, label and scores."""
    height, across = row.truth.shape
    scale = min(cell / across, _TALL * cell / height)
    size = max(1, round(across * scale)), max(1, round(height * scale))
    plain = as_picture(row.image).resize(size, Image.Resampling.BICUBIC)
    paint = np.asarray(plain, np.float32).copy()
    lesion = resize_mask(row.truth, size)
    paint[lesion] += _FILL * (np.array(TRUTH, np.float32) - paint[lesion])
    draw_contour(paint, lesion, TRUTH, max(1, size[0] // 200))
    pictures = [plain, Image.fromarray(paint.round().astype(np.uint8))]
    pictures += [errors(row.image, row.truth, mask, size) for mask in row.masks]
    part = Image.new("RGB", (width, size[1] + _GAP), _PAGE)
    font = ImageFont.load_default(max(15, cell // 15))
    for column, (picture, text) in enumerate(zip(pictures, (row.label, "", *row.scores), strict=True)):
        draw_marker(picture, row.marker)
        at = (cell // 28, size[1] - cell // 28)
        ImageDraw.Draw(picture).text(at, text, "white", font, anchor="ls", stroke_width=2, stroke_fill="black")
        part.paste(picture, (_PAD + column * (cell + _GAP), 0))
    return part


def _text(text: str, lead: str, size: int, width: int, colour: tuple[int, int, int] = _TEXT) -> Image.Image:
    """A text over the whole width, what leads it in grey on a line of its own."""
    font, line = ImageFont.load_default(size), round(1.4 * size)
    lines = [(words, _SOFT) for words in wrap(lead, font, width - 2 * _PAD)]
    lines += [(words, colour) for words in wrap(text, font, width - 2 * _PAD)]
    part = Image.new("RGB", (width, line * len(lines) + (20 if lead else 6)), _PAGE)
    for number, (words, shade) in enumerate(lines):
        ImageDraw.Draw(part).text((_PAD, line * number), words, shade, font)
    return part
