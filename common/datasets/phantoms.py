"""Phantom chest radiographs with lesions, masks and sentences, for the demonstration and the tests.

Each phantom holds soft opacities in the lungs. The mask and the sentence name some of them; half of the
phantoms also hold opacities of the same look, in other zones, that neither names. So neither the picture
alone (which opacity is meant?) nor the sentence alone (where exactly, how big, what shape?) suffices. Side,
zones and count of the sentence are true of the mask by the rule of :mod:`common.prompts.zones`; size, shape
and texture are not in the sentence.

Everything follows from ``seed``: the same arguments give the same bytes, and the first phantoms of a longer
series are those of a shorter one.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.ndimage import binary_dilation, gaussian_filter, label

from common.datasets import anatomy
from common.errors import UserError
from common.prompts.findings import Findings
from common.prompts.zones import ZONES, table

_PLAN = 112  # side of the grid on which opacities are placed, whatever the picture's size
_GAP = 4  # pixels of that grid between two opacities
_PRESENT, _ABSENT = (
    1.5,
    0.4,
)  # share of the rule's least area in a zone that an opacity fills, and that it may touch
_SHAPES = {  # zones of one opacity (upper, middle, lower) and how often
    (1, 0, 0): 0.24,
    (0, 1, 0): 0.16,
    (0, 0, 1): 0.28,
    (1, 1, 0): 0.10,
    (0, 1, 1): 0.14,
    (1, 1, 1): 0.08,
}
# of the inbox: photometric interpretation and PatientOrientation (where stored rows and columns run to)
_STORED = (
    ("MONOCHROME2", ("L", "F")),
    ("MONOCHROME1", ("L", "F")),
    ("MONOCHROME2", ("R", "F")),
    ("MONOCHROME1", ("F", "L")),
    (None, None),
    ("MONOCHROME2", ("L", "H")),
)
SPLITS = {"train": 0.75, "validation": 0.10, "test": 0.15}


_RADIOGRAPH = table("radiograph")


@dataclass(frozen=True)
class Phantom:
    """One phantom, as displayed."""

    image: np.ndarray  # (H, W) uint8
    mask: np.ndarray  # (H, W) bool, what the sentence names
    others: np.ndarray  # (H, W) bool, opacities of the same look that it does not name
    findings: Findings  # of the sentence; zones in image sides
    unnamed: tuple[int, ...]  # zone bits of the others, image sides


@dataclass(frozen=True)
class _Opacity:
    """A star-shaped blob: centre (row, column) and half axes in picture sides, harmonics of its outline."""

    bits: tuple[int, ...]
    row: float
    column: float
    tall: float
    wide: float
    cosines: np.ndarray  # (K,)
    sines: np.ndarray  # (K,)
    strength: float

    def field(self, size: int) -> np.ndarray:
        """Signed field (size, size): 1 in the centre, 0 on the outline, negative outside."""
        axis = (np.arange(size) + 0.5) / size
        dx, dy = np.meshgrid((axis - self.column) / self.wide, (axis - self.row) / self.tall)
        angle = np.arctan2(dy, dx)
        outline = np.ones((size, size))
        for k, (c, s) in enumerate(zip(self.cosines, self.sines, strict=True), start=2):
            outline += c * np.cos(k * angle) + s * np.sin(k * angle)
        return 1 - np.hypot(dx, dy) / np.maximum(outline, 0.35)


def _opacity(rng: np.random.Generator, bits: tuple[int, ...]) -> _Opacity:
    """An opacity meant for the adjacent zones ``bits`` of one side."""
    named = [zone for zone, bit in enumerate(bits) if bit]
    rows = [_RADIOGRAPH.cells[zone][0] for zone in named]
    edges = (0.13, *_RADIOGRAPH.row_cuts, 0.69)  # the lungs' tip and base
    top, bottom = edges[min(rows)], edges[max(rows) + 1]
    if len(named) == 1:
        row = rng.uniform(top + 0.2 * (bottom - top), bottom - 0.2 * (bottom - top))
        tall = rng.uniform(0.045, 0.06 if rows[0] == 1 else 0.10)
    else:
        row = rng.normal((top + bottom) / 2, 0.1 * (bottom - top))
        tall = (bottom - top) * rng.uniform(0.30, 0.52)
    column = np.mean([_RADIOGRAPH.centres[zone][1] for zone in named])
    return _Opacity(
        bits=bits,
        row=row,
        column=rng.normal(column, 0.8 * _RADIOGRAPH.sigmas[1]),
        tall=tall,
        wide=rng.uniform(0.04, 0.105),
        cosines=rng.normal(0, 0.13, 4) / np.arange(1, 5) ** 0.9,
        sines=rng.normal(0, 0.13, 4) / np.arange(1, 5) ** 0.9,
        strength=rng.uniform(0.6, 0.95),
    )


def _areas(mask: np.ndarray) -> np.ndarray:
    """Area of a mask (H, W) in each zone, in units of the least area that makes a zone count."""
    rows = [0, *(round(cut * mask.shape[0]) for cut in _RADIOGRAPH.row_cuts), mask.shape[0]]
    half = mask.shape[1] // 2
    columns = [0, half, mask.shape[1]]
    areas = [mask[rows[r] : rows[r + 1], columns[c] : columns[c + 1]].sum() for r, c in _RADIOGRAPH.cells]
    return np.array(areas) / (_RADIOGRAPH.min_area * mask.size)


def _wanted(rng: np.random.Generator, crowded: bool) -> tuple[list[tuple[int, ...]], int]:
    """Zone bits of each opacity of a phantom, and how many of them, from the first, the sentence names."""

    def draw(side: int) -> tuple[int, ...]:
        shape = list(_SHAPES)[rng.choice(len(_SHAPES), p=list(_SHAPES.values()))]
        return (*shape, 0, 0, 0) if side == 0 else (0, 0, 0, *shape)

    total = 1 + crowded + int(rng.random() < (0.55 if crowded else 0.2))
    side = int(rng.integers(2))
    bits = [draw(side)]
    if total > 1:  # the second: the mirror image of the first, or anywhere
        mirror = (*bits[0][3:], *bits[0][:3])
        bits.append(mirror if rng.random() < 0.5 else draw(int(rng.random() < 0.5)))
    if total > 2:
        bits.append(draw(int(rng.integers(2))))
    bits = [bits[k] for k in rng.permutation(total)]
    named = total if not crowded else 1 if total == 2 else 1 + int(rng.random() < 0.35)
    return bits, named


def _place(rng: np.random.Generator, who: anatomy.Patient, crowded: bool) -> tuple[list[_Opacity], int]:
    """Opacities that keep clear of each other and are in their zones and in no other; how many are named."""
    lung = anatomy.clear_lung(who, _PLAN)
    while True:
        wanted, named = _wanted(rng, crowded)
        if np.max(np.sum(wanted, axis=0)) > 1:
            continue  # two in one zone: the sentence could not tell them apart
        placed: list[_Opacity] = []
        taken = np.zeros_like(lung)
        for bits in wanted:
            for _ in range(25):
                one = _opacity(rng, bits)
                mask = (one.field(_PLAN) > 0) & lung
                areas = _areas(mask)
                fills = all(a >= _PRESENT if bit else a <= _ABSENT for a, bit in zip(areas, bits, strict=True))
                if fills and label(mask, np.ones((3, 3)))[1] == 1 and not (mask & taken).any():
                    placed.append(one)
                    taken |= binary_dilation(mask, np.ones((3, 3)), iterations=_GAP)
                    break
        if len(placed) == len(wanted):
            return placed, named


def draw(index: int, size: int = 128, seed: int = 0) -> Phantom:
    """Phantom ``index`` of the series ``seed``, (size, size) pixels; odd ones hold opacities not named."""
    rng = np.random.default_rng([seed, index])
    who = anatomy.patient(rng)
    opacities, named = _place(rng, who, crowded=index % 2 == 1)
    cloud = 1 + 0.22 * anatomy.texture(rng, size, 24)
    lung = anatomy.clear_lung(who, size)
    seen = gaussian_filter(lung.astype(float), 0.008 * size)  # disease stops at the lung's wall, softly
    density = np.zeros((size, size))
    masks = [np.zeros((size, size), dtype=bool) for _ in range(2)]
    for number, one in enumerate(opacities):
        field = one.field(size)
        density = np.maximum(density, one.strength / (1 + np.exp(-np.clip(field / 0.10, -40, 40))))
        masks[number >= named] |= (field > 0) & lung
    zones, unnamed = (
        tuple(int(bit) for bit in np.sum([[0] * 6, *(one.bits for one in part)], axis=0))
        for part in (opacities[:named], opacities[named:])
    )
    return Phantom(
        image=anatomy.draw(who, size, density * np.clip(cloud, 0.4, 1.3) * seen),
        mask=masks[0],
        others=masks[1],
        findings=Findings(grammar="chest", zones=zones, count=named),
        unnamed=unnamed,
    )


def write(root: str | Path, *, count: int = 600, size: int = 128, seed: int = 0, inbox: int = 12) -> Path:
    """Write a data set of phantoms below ``root``, and an inbox to run a trained bundle on.

    The data set: ``images/*.png``, ``masks/*.png`` (0 and 255) and ``captions.csv`` with columns ``split,
    image, mask, text, laterality, subject, unnamed`` (the zones of opacities that the sentence leaves out).
    Each split keeps the proportion of phantoms with such opacities. Every fifth sentence is a clinician's,
    with the patient's sides.

    The inbox (:func:`write_inbox`): ``inbox/`` with radiographs that are in no split, DICOM
    and PNG.

    Args:
        root: folder, made if missing; files of the same names are replaced.
        count: number of images in ``captions.csv``.
        size: height and width in pixels, at least 64.
        seed: any number; the same arguments give the same bytes.
        inbox: number of images in the inbox; 0 for none.

    Returns:
        The path of ``captions.csv``.

    Raises:
        UserError: for sizes below 64 or fewer than 20 images, which leave a split without a phantom of either
        sort.
    """
    if size < 64:
        raise UserError(f"size: {size} pixels are too few to draw a chest; use 64 or more")
    if count < 20:
        raise UserError(f"count: {count} phantoms leave a split empty; use 20 or more")
    root = Path(root)
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    bounds = np.cumsum([round(share * count / 2) * 2 for share in SPLITS.values()])
    rows = []
    for index in range(count):
        phantom = draw(index, size, seed)
        name = f"phantom-{index:05d}.png"
        Image.fromarray(phantom.image).save(root / "images" / name)
        Image.fromarray(phantom.mask.astype(np.uint8) * 255).save(root / "masks" / name)
        laterality = "patient" if index % 5 == 2 else "image"
        rows.append(
            {
                "split": list(SPLITS)[min(int(np.searchsorted(bounds, index, side="right")), len(SPLITS) - 1)],
                "image": name,
                "mask": name,
                "text": phantom.findings.caption(laterality),
                "laterality": laterality,
                "subject": f"phantom-{index:05d}",
                "unnamed": " ".join(n for n, bit in zip(ZONES["chest"], phantom.unnamed, strict=True) if bit),
            }
        )
    _write_rows(root / "captions.csv", rows)
    if inbox:
        write_inbox(root / "inbox", [draw(count + k, size, seed) for k in range(inbox)])
    return root / "captions.csv"


def write_inbox(root: str | Path, phantoms: list[Phantom]) -> Path:
    """Write phantoms as a hospital would send them: DICOM, stored in various ways, and a few PNG.

    ``images/``, ``prompts.csv`` (``image, text, laterality``: clinicians' sentences with the patient's sides,
    but for every fourth), and ``masks/*.png``, which nobody would send: the truth to compare with, in the stored grid
    of its image (turned or flipped where the pixels of the DICOM file are), as every mask here.

    Returns:
        The path of ``prompts.csv``.
    """
    from common.images import to_stored, write_radiograph
    from common.images.orientation import AS_STORED, display_map

    root = Path(root)
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    rows = []
    for index, phantom in enumerate(phantoms):
        stem = f"inbox-{index:02d}"
        photometric, stored = _STORED[index % len(_STORED)]
        name = f"{stem}.dcm" if stored else f"{stem}.png"
        if stored:
            write_radiograph(root / "images" / name, phantom.image, photometric=photometric, patient_orientation=stored)
        else:
            Image.fromarray(phantom.image).save(root / "images" / name)
        mask = to_stored(phantom.mask.astype(np.uint8) * 255, display_map(*stored) if stored else AS_STORED)
        Image.fromarray(mask.T).save(root / "masks" / f"{stem}.png")
        laterality = "image" if index % 4 == 3 else "patient"
        rows.append({"image": name, "text": phantom.findings.caption(laterality), "laterality": laterality})
    _write_rows(root / "prompts.csv", rows)
    return root / "prompts.csv"


def _write_rows(path: Path, rows: list[dict[str, str]]) -> None:
    """Write dictionaries with the same keys as a CSV."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
