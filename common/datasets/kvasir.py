"""Kvasir-SEG and CVC-ClinicDB: colonoscopy images with polyp masks, and a table of captions.

Layout: the folder as downloaded (``images`` and ``masks``, or CVC-ClinicDB's ``Original`` and ``Ground
Truth``, also below ``PNG``) with a ``captions.csv`` of columns ``split, image, mask, text`` beside it. The
sentences name positions in the *picture*.

Subjects. CVC-ClinicDB's 612 frames come from 29 sequences of video, each a run of frame numbers (:func:`sequence`):
the sequence is the subject. Kvasir-SEG's files name no patients, so each image is its own subject: frames of one
examination are not kept together. A column ``subject`` in the table is taken before either.

Validation. The published parts are train and test alone (550 and 62 frames, 900 and 100 images). Where a table has no
validation rows, about a tenth of its train rows are held out for early stopping, always the same ones and never test
rows: of CVC-ClinicDB the sequences :data:`HELD_OUT` (61 of the 612 frames; a sequence of the published random parts
has frames in train and in test, and the test rows stay where they are), of Kvasir-SEG a tenth of the subjects, drawn
with a seed of their own. CVC-ClinicDB images that are not called by their frame number stay in train. The part
``"trainval"`` is then all of the published train.

Source of the sequences: the frame table published with CVC-ClinicDB (Bernal et al., Computerized Medical Imaging and
Graphics 43, 2015), as the copies of it in public code list it; they agree on all 612 frames. The original was not at
hand.
"""

from __future__ import annotations

import random
import re
from bisect import bisect_right
from functools import partial
from pathlib import Path

from common.datasets import folder
from common.datasets.listing import Listing

_NAMES = {"kvasir": ("kvasir",), "clinicdb": ("clinicdb", "cvc")}
# first frame of each of CVC-ClinicDB's sequences 1 to 29, and the last frame of all
_FIRST_FRAMES = (
    1, 26, 51, 68, 79, 104, 127, 152, 178, 200, 206, 228, 253, 278, 298, 318, 343, 364, 384, 409, 429, 448, 467, 479,
    504, 529, 547, 572, 592,
)  # fmt: skip
_LAST_FRAME = 612
HELD_OUT = (3, 10, 15, 26)  # CVC-ClinicDB's sequences for validation, of 17, 6, 20 and 18 frames
_SHARE = 0.1  # of Kvasir-SEG's subjects
_SEED = 0  # of that draw, whatever the seed of the training


def found(root: Path, name: str) -> bool:
    """Whether ``root`` is called like the data set ``name`` and holds a table of captions."""
    return any(word in root.resolve().name.lower() for word in _NAMES[name]) and folder.found(root)


def read(root: Path, name: str) -> Listing:
    """All pairs of ``"kvasir"`` or ``"clinicdb"`` at ``root``; UserError as for any folder with a table."""
    return folder.read(root, "image", name=name, grammar="polyp", edit=partial(_complete, name))


def sequence(name: str) -> int | None:
    """The sequence, 1 to 29, of a CVC-ClinicDB image called by its frame number, such as ``"68.png"``; else None."""
    stem = Path(name).stem
    if not re.fullmatch("[0-9]+", stem) or not 1 <= int(stem) <= _LAST_FRAME:
        return None
    return bisect_right(_FIRST_FRAMES, int(stem))


def _complete(name: str, rows: list[dict[str, str]]) -> None:
    """Write subjects and, where no row is for validation, the held-out part into a table's rows."""
    for row in rows:
        number = sequence(row["image"]) if name == "clinicdb" else None
        default = Path(row["image"]).stem.lower() if number is None else f"sequence_{number:02d}"
        row["subject"] = row.get("subject") or default
    if any(folder.split_of(row) == "validation" for row in rows):
        return
    train = [row for row in rows if folder.split_of(row) == "train"]
    if name == "clinicdb":
        held_out = [row for row in train if sequence(row["image"]) in HELD_OUT]
    else:
        subjects = sorted({row["subject"] for row in train})
        drawn = set(random.Random(_SEED).sample(subjects, round(_SHARE * len(subjects))))
        held_out = [row for row in train if row["subject"] in drawn]
    for row in held_out:
        row["split"] = "validation"
