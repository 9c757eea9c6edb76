"""A picture with its predicted mask, and many pictures on one sheet.

Colours are of Okabe and Ito's palette, told apart by people with any colour vision and on red tissue as on
grey lung: sky blue for the prediction (fill and contour), yellow for the ground truth (contour only).
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import binary_dilation, binary_erosion

PREDICTION = (86, 180, 233)
TRUTH = (240, 228, 66)
LONGEST, SHORTEST = 1024, 512  # px: the result is at most this, a smaller picture is enlarged to this
_FILL = 0.28  # opacity of the prediction's fill
_LINES = 3  # of a sentence; what is longer ends in an ellipsis
_PAD = 10


def overlay(
    image: np.ndarray,
    mask: np.ndarray,
    truth: np.ndarray | None = None,
    *,
    sentence: str | None = None,
    marker: str = "R",
) -> np.ndarray:
    """Draw a mask on its picture, with the sentence and a legend below.

    Args:
        image: as displayed, (H, W) or (H, W, 3), float in [0, 1] (what is outside is clipped).
        mask: predicted mask, (H, W), bool or 0/1.
        truth: ground truth, (H, W); its contour is drawn in the second colour.
        sentence: printed below the picture, at most three lines.
        marker: printed at the left of the picture, the patient's right on a chest image; "" for none.

    Returns:
        (H', W', 3) uint8, longest side at most 1,024.

    Raises:
        ValueError: image and masks differ in size.
    """
    for name, array in (("mask", mask), ("truth", truth)):
        if array is not None and array.shape != image.shape[:2]:
            raise ValueError(f"{name} {array.shape} and image {image.shape[:2]} differ in size")
    footer = sentence is not None or truth is not None
    font = ImageFont.load_default(18)
    line = 24
    room = LONGEST - (2 * _PAD + (_LINES + 1) * line if footer else 0)
    picture = _resize(image, room)
    size = picture.size
    paint = np.asarray(picture, np.float32)
    shown = resize_mask(mask, size)
    paint[shown] += _FILL * (np.array(PREDICTION, np.float32) - paint[shown])
    width = max(1, round(max(size) / 300))
    for contour, colour in ((shown, PREDICTION), (truth, TRUTH)):
        if contour is not None:
            draw_contour(paint, contour if contour is shown else resize_mask(contour, size), colour, width)
    canvas = Image.fromarray(paint.round().astype(np.uint8))
    draw_marker(canvas, marker)
    if not footer:
        return np.asarray(canvas)

    lines = wrap(sentence or "", font, size[0] - 2 * _PAD)
    sheet = Image.new("RGB", (size[0], size[1] + 2 * _PAD + (len(lines) + 1) * line), (17, 17, 17))
    sheet.paste(canvas, (0, 0))
    draw = ImageDraw.Draw(sheet)
    x, y = _PAD, size[1] + _PAD
    for text in lines:
        draw.text((x, y), text, (238, 238, 238), font)
        y += line
    for name, colour in [("prediction", PREDICTION), ("ground truth", TRUTH)][: 2 if truth is not None else 1]:
        draw.rectangle((x, y + 5, x + 14, y + 17), outline=colour, width=3)
        draw.text((x + 22, y), name, (170, 170, 170), font)
        x += 22 + round(font.getlength(name)) + 24
    return np.asarray(sheet)


def contact_sheet(
    images: Sequence[np.ndarray], captions: Sequence[str], columns: int = 4, *, cell: int = 256
) -> np.ndarray:
    """Pictures in a grid, each with its caption below.

    Args:
        images: (H, W) or (H, W, 3), float in [0, 1] or uint8; sizes may differ.
        captions: one a picture; cut after three lines.
        columns: of the grid.
        cell: px, the side of the square that each picture is fitted into.

    Returns:
        (H', W', 3) uint8.

    Raises:
        ValueError: no pictures, or not one caption a picture.
    """
    if not images or len(images) != len(captions):
        raise ValueError(f"{len(images)} pictures and {len(captions)} captions: one caption a picture is needed")
    font = ImageFont.load_default(13)
    line, gap = 17, 8
    texts = [wrap(caption, font, cell) for caption in captions]
    columns = min(columns, len(images))
    high = cell + gap + line * max(len(text) for text in texts) + gap
    rows = -(-len(images) // columns)
    sheet = Image.new("RGB", (columns * (cell + gap) + gap, rows * high + gap), (17, 17, 17))
    draw = ImageDraw.Draw(sheet)
    for i, (image, text) in enumerate(zip(images, texts, strict=True)):
        x, y = gap + i % columns * (cell + gap), gap + i // columns * high
        picture = as_picture(image)
        picture.thumbnail((cell, cell), Image.Resampling.LANCZOS)
        sheet.paste(picture, (x + (cell - picture.width) // 2, y + (cell - picture.height) // 2))
        for k, words in enumerate(text):
            draw.text((x, y + cell + 4 + k * line), words, (238, 238, 238), font)
    return np.asarray(sheet)


def as_picture(image: np.ndarray) -> Image.Image:
    """An RGB picture of (H, W) or (H, W, 3), float in [0, 1] or uint8."""
    if image.dtype != np.uint8:
        image = (np.clip(np.nan_to_num(image), 0, 1) * 255).round().astype(np.uint8)
    return Image.fromarray(image).convert("RGB")


def _resize(image: np.ndarray, room: int) -> Image.Image:
    """The picture, at most LONGEST wide and ``room`` high; a small one enlarged to SHORTEST."""
    picture = as_picture(image)
    longest = max(picture.size)
    scale = min(LONGEST / picture.width, room / picture.height, max(1.0, SHORTEST / longest))
    if scale == 1:
        return picture
    size = tuple(max(1, round(side * scale)) for side in picture.size)
    return picture.resize(size, Image.Resampling.LANCZOS if scale < 1 else Image.Resampling.BICUBIC)


def resize_mask(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The mask at (width, height), bool, with smooth outlines where it is enlarged."""
    grey = Image.fromarray((np.asarray(mask) > 0).astype(np.uint8) * 255)
    return np.asarray(grey.resize(size, Image.Resampling.BILINEAR)) >= 128


def draw_marker(canvas: Image.Image, marker: str) -> None:
    """Print the marker of a side at the top left of a picture; "" prints none."""
    big = max(18, canvas.height // 16)
    font = ImageFont.load_default(big)
    ImageDraw.Draw(canvas).text((big // 2, big // 3), marker, "white", font, stroke_width=2, stroke_fill="black")


def draw_contour(paint: np.ndarray, mask: np.ndarray, colour: tuple[int, int, int], width: int) -> None:
    """Draw the inner contour of a mask, ``width`` px; a dark line beside it sets it off from white lung."""
    line = mask & ~binary_erosion(mask, iterations=width)
    paint[binary_dilation(line) & ~line] *= 0.45
    paint[line] = colour


def wrap(text: str, font: ImageFont.FreeTypeFont, width: int) -> list[str]:
    """The text in lines no longer than ``width`` px, at most ``_LINES``; too long a word is broken."""
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    lines: list[str] = []
    while text and len(lines) < _LINES:
        # the longest start that fits: found by halving, for a report can be pasted as a sentence
        end = bisect(range(1, min(len(text), width) + 1), width, key=lambda n: font.getlength(text[:n])) or 1
        blank = text.rfind(" ", 0, end + 1)
        if end < len(text) and blank > 0:
            end = blank
        lines.append(text[:end])
        text = text[end:].lstrip()
    if text:
        last = lines[-1]
        while last and font.getlength(last + "…") > width:
            last = last[:-1]
        lines[-1] = last + "…"
    return lines
