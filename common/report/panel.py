"""One picture of what a network made of an image and a sentence: what it got, maps over the picture, the mask.

All pictures are as displayed, at their own aspect, with R at the patient's right. Maps are in matplotlib's *inferno*,
whose lightness only grows, so that it reads with any colour vision and in grey; masks as in overlays (blue contour,
ground truth yellow).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from common.report.overlay import PREDICTION, TRUTH, as_picture, draw_contour, draw_marker, resize_mask, wrap

WIDTH = 1600  # px, of the whole
_PAD, _GAP, _BAR = 28, 16, 92  # px: margin, between pictures, for a colour bar
_COLUMNS = 6  # maps in a row
_TALL = 1.25  # a picture is at most so many times as high as its place is wide
_PAGE, _TEXT, _SOFT = (17, 17, 17), (238, 238, 238), (170, 170, 170)


@dataclass(frozen=True)
class Maps:
    """Maps over the picture on one scale, such as the attention of words.

    Attributes:
        heading: what they show.
        captions: of each map: what stands before its word in the sentence, the word, what stands behind it.
        values: (N, H, W), not negative.
        least_top: the scale ends at the largest value but not below this: noise must look like noise.
        unit: behind the numbers at the colour bar.
        outline: (H, W) bool, outlined in white in every map; None outlines nothing.
    """

    heading: str
    captions: Sequence[tuple[str, str, str]]
    values: np.ndarray
    least_top: float = 1.0
    unit: str = ""
    outline: np.ndarray | None = None


def panel(
    image: np.ndarray,
    probability: np.ndarray,
    mask: np.ndarray,
    truth: np.ndarray | None = None,
    *,
    title: str,
    lines: Sequence[tuple[str, str]] = (),
    maps: Sequence[Maps] = (),
    notes: Sequence[str] = (),
    marker: str = "R",
) -> np.ndarray:
    """Draw image, probability and mask side by side, and rows of maps below.

    Args:
        image: (H, W) or (H, W, 3), float in [0, 1].
        probability: (H, W), 0 to 1.
        mask: (H, W), bool or 0/1.
        truth: ground truth, (H, W), if there is one.
        title: at the top.
        lines: below the title, each a label and its text, such as the sentence as given.
        maps: groups of maps.
        notes: at the bottom.
        marker: of the side at the picture's left; "" for none.

    Returns:
        (H', 1600, 3) uint8.

    Raises:
        ValueError: the arrays differ in height and width, or captions and maps in number.
    """
    arrays = [("probability", probability), ("mask", mask), ("truth", mask if truth is None else truth)]
    for group in maps:
        if len(group.captions) != len(group.values):
            raise ValueError(f"{group.heading}: {len(group.captions)} captions and {len(group.values)} maps")
        if group.outline is not None:
            arrays.append((f"{group.heading}: outline", group.outline))
        arrays += [(f"map of {word}", array) for (_, word, _), array in zip(group.captions, group.values, strict=True)]
    for name, array in arrays:
        if array.shape != image.shape[:2]:
            raise ValueError(f"{name} {array.shape} and image {image.shape[:2]} differ in size")

    rows = [_head(title, lines), _first_row(image, probability, mask, truth, marker)]
    for group in maps:
        if len(group.values):
            rows.append(_text_row([(group.heading, _TEXT)], 24))
            rows += _map_rows(image, mask, group, marker)
    rows.append(_text_row([(note, _SOFT) for note in notes], 18))
    sheet = Image.new("RGB", (WIDTH, sum(row.height for row in rows)), _PAGE)
    y = 0
    for row in rows:
        sheet.paste(row, (0, y))
        y += row.height
    return np.asarray(sheet)


def _head(title: str, lines: Sequence[tuple[str, str]]) -> Image.Image:
    """Title, and below it labels with their texts, at most three lines each."""
    big, font = ImageFont.load_default(32), ImageFont.load_default(22)
    indent = _PAD + round(max((font.getlength(label) for label, _ in lines), default=0)) + 22
    texts = [wrap(text, font, WIDTH - indent - _PAD) or [""] for _, text in lines]
    row = Image.new("RGB", (WIDTH, 84 + 31 * sum(map(len, texts))), _PAGE)
    draw = ImageDraw.Draw(row)
    draw.text((_PAD, 22), " ".join(wrap(title, big, WIDTH - 2 * _PAD)[:1]), _TEXT, big)
    y = 72
    for (label, _), text in zip(lines, texts, strict=True):
        draw.text((_PAD, y), label, _SOFT, font)
        for line in text:
            draw.text((indent, y), line, _TEXT, font)
            y += 31
    return row


def _text_row(texts: Sequence[tuple[str, tuple[int, int, int]]], size: int) -> Image.Image:
    """Lines of text over the whole width."""
    font = ImageFont.load_default(size)
    lines = [(line, colour) for text, colour in texts for line in wrap(text, font, WIDTH - 2 * _PAD)]
    row = Image.new("RGB", (WIDTH, 24 + round(1.4 * size) * len(lines)), _PAGE)
    for number, (line, colour) in enumerate(lines):
        ImageDraw.Draw(row).text((_PAD, 16 + round(1.4 * size) * number), line, colour, font)
    return row


def _first_row(
    image: np.ndarray, probability: np.ndarray, mask: np.ndarray, truth: np.ndarray | None, marker: str
) -> Image.Image:
    """Image, probability with its colour bar, mask."""
    width = (WIDTH - 2 * _PAD - 2 * _GAP - _BAR) // 3
    size = _fit(image, width)
    plain = as_picture(image).resize(size, Image.Resampling.BICUBIC)
    colours = Image.fromarray(_colours(_resize(probability, size)))
    paint = np.asarray(plain, np.float32).copy()
    line = max(2, size[0] // 200)
    draw_contour(paint, resize_mask(mask, size), PREDICTION, line)
    legend = [("mask", PREDICTION)]
    if truth is not None:
        draw_contour(paint, resize_mask(truth, size), TRUTH, line)
        legend.append(("ground truth", TRUTH))
    lined = Image.fromarray(paint.round().astype(np.uint8))

    row = Image.new("RGB", (WIDTH, 62 + size[1]), _PAGE)
    draw, font = ImageDraw.Draw(row), ImageFont.load_default(22)
    left = [_PAD, _PAD + width + _GAP, _PAD + 2 * (width + _GAP) + _BAR]
    for x, picture in zip(left, (plain, colours, lined), strict=True):
        draw_marker(picture, marker)
        row.paste(picture, (x, 54))
    draw.text((left[0], 18), "image", _TEXT, font)
    draw.text((left[1], 18), "probability of lesion", _TEXT, font)
    x = left[2]
    for name, colour in legend:
        draw.rectangle((x, 23, x + 18, 41), outline=colour, width=4)
        draw.text((x + 28, 18), name, _TEXT, font)
        x += 28 + round(font.getlength(name)) + 28
    _draw_bar(row, (left[1] + size[0] + 10, 54, size[1]), [(0.0, "0"), (0.5, "0.5"), (1.0, "1")])
    return row


def _map_rows(image: np.ndarray, mask: np.ndarray, group: Maps, marker: str) -> list[Image.Image]:
    """The maps of a group, each over the picture with the mask's contour, its word above."""
    columns = -(-len(group.values) // -(-len(group.values) // _COLUMNS))
    width = (WIDTH - 2 * _PAD - _BAR) // max(columns, 4) - _GAP
    size = _fit(image, width)
    font = ImageFont.load_default(19)
    plain = np.asarray(as_picture(image).resize(size, Image.Resampling.BICUBIC), np.float32)
    outline = resize_mask(mask, size)
    top = max(group.least_top, float(group.values.max()))
    rows = []
    for start in range(0, len(group.values), columns):
        row = Image.new("RGB", (WIDTH, 44 + size[1]), _PAGE)
        for column in range(min(columns, len(group.values) - start)):
            share = _resize(group.values[start + column] / top, size)
            opacity = (0.1 + 0.75 * share)[..., None]
            paint = plain * (1 - opacity) + _colours(share) * opacity
            draw_contour(paint, outline, PREDICTION, 1)
            if group.outline is not None:
                draw_contour(paint, resize_mask(group.outline, size), _TEXT, 1)
            picture = Image.fromarray(paint.round().astype(np.uint8))
            draw_marker(picture, marker)
            x = _PAD + column * (width + _GAP)
            row.paste(picture, (x, 38))
            _draw_caption(row, (x, 8), group.captions[start + column], font, width)
        if start == 0:
            marks = [(share, f"{share * top:.2g}{group.unit}") for share in (0.0, 0.5, 1.0)]
            _draw_bar(row, (_PAD + columns * (width + _GAP), 38, size[1]), marks)
        rows.append(row)
    return rows


def _draw_caption(
    row: Image.Image, at: tuple[int, int], caption: tuple[str, str, str], font: ImageFont.FreeTypeFont, width: int
) -> None:
    """The word, between the words beside it as far as there is room."""
    before, word, after = caption
    while (before or after) and font.getlength(" ".join(filter(None, caption))) > width:
        # the word farther away goes first
        if len(before.split()) > len(after.split()):
            before = " ".join(before.split()[1:])
        else:
            after = " ".join(after.split()[:-1])
        caption = (before, word, after)
    x = float(at[0])
    for text, colour in ((before, _SOFT), (word, _TEXT), (after, _SOFT)):
        if text:
            ImageDraw.Draw(row).text((x, at[1]), text, colour, font)
            if text is word:
                end = x + font.getlength(text)
                ImageDraw.Draw(row).line((x, at[1] + 26, end, at[1] + 26), _TEXT, 2)
            x += font.getlength(text + " ")


def _draw_bar(row: Image.Image, at: tuple[int, int, int], marks: Sequence[tuple[float, str]]) -> None:
    """A colour bar at (x, y, height), with numbers at their shares of the height."""
    x, y, height = at
    font = ImageFont.load_default(18)
    shares = np.linspace(1, 0, height)[:, None].repeat(18, axis=1)
    row.paste(Image.fromarray(_colours(shares)), (x, y))
    draw = ImageDraw.Draw(row)
    draw.rectangle((x, y, x + 17, y + height - 1), outline=_SOFT)
    for share, text in marks:
        middle = y + (1 - share) * (height - 1)
        draw.line((x + 18, middle, x + 23, middle), _SOFT, 2)
        draw.text((x + 28, min(max(middle, y + 8), y + height - 8)), text, _TEXT, font, anchor="lm")


def _fit(image: np.ndarray, width: int) -> tuple[int, int]:
    """Size (width, height) of the picture in a place so wide, at its own aspect."""
    rows, columns = image.shape[:2]
    scale = min(width / columns, _TALL * width / rows)
    return max(1, round(columns * scale)), max(1, round(rows * scale))


def _resize(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(H, W) to the size (width, height), in 0..1."""
    picture = Image.fromarray(np.asarray(values, np.float32))
    return np.clip(np.asarray(picture.resize(size, Image.Resampling.BILINEAR)), 0, 1)


@lru_cache(maxsize=1)
def _table() -> np.ndarray:
    from matplotlib import colormaps

    return (colormaps["inferno"](np.linspace(0, 1, 256))[:, :3] * 255).round().astype(np.uint8)


def _colours(shares: np.ndarray) -> np.ndarray:
    """Shares 0..1 of any shape to RGB, (..., 3) uint8."""
    return _table()[(np.clip(shares, 0, 1) * 255).round().astype(np.uint8)]
