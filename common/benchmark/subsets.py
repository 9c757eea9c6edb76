"""Parts of the evaluated images: sentences that training had or had not, subjects, views, sizes and numbers of lesions.

A mean over all images hides what a method lives on. What a part is, is told by the images' own data (sentence, mask,
name of the file), whatever sentence a control put in its place and whatever a method predicted: the parts are the same
for all methods and evaluations of the same images.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from common.errors import UserError
from common.images import read_image
from common.prompts import parse
from common.prompts.zones import count_of_mask, table

_VIEWS = {"ap": "frontal", "pa": "frontal", "ll": "lateral"}
# flag -> the name of the part for each of its values, in the order of the reports; None: the data do not tell
PARTS: dict[str, dict[Any, str]] = {
    "sentence": {True: "sentence seen in training", False: "sentence not seen in training"},
    "canonical": {True: "canonical sentence seen in training", False: "canonical sentence not seen in training"},
    "subject": {True: "subject also in training", False: "subject not in training", None: "subject not told"},
    "view": {"frontal": "frontal view", "lateral": "lateral view", None: "view not told"},
    "size": {"small": "small lesions", "medium": "medium lesions", "large": "large lesions", "none": "no lesion"},
    "lesions": {1: "one lesion", 2: "two lesions", 3: "three or more lesions"},
}


def split_rows(
    rows: Sequence[Mapping[str, Any]], items: Sequence[Mapping[str, Any]], training_items: Sequence[Mapping[str, Any]]
) -> dict[str, list[Mapping[str, Any]]]:
    """The rows of each part of the images.

    Args:
        rows: of ``scores.csv`` (:func:`common.metrics.read_scores`), of one seed or of several behind one another.
        items: what was evaluated, as :func:`common.datasets.load_dataset` gives it.
        training_items: what the network learned from, as ``load_dataset`` gives it.

    Returns:
        name of the part, of :data:`PARTS` -> its rows in their order. Parts without rows are left out, and so is
        "not told" where nothing is told of any image. A row is in one part of each kind at most.

    Raises:
        UserError: as :func:`flags`.
    """
    found = flags(rows, items, training_items)
    parts: dict[str, list[Mapping[str, Any]]] = {}
    for flag, names in PARTS.items():
        if all(values[flag] is None for values in found):
            continue
        for value, name in names.items():
            own = [row for row, values in zip(rows, found, strict=True) if values[flag] == value]
            if own:
                parts[name] = own
    return parts


def flags(
    rows: Sequence[Mapping[str, Any]], items: Sequence[Mapping[str, Any]], training_items: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """What is known of the image of each row, under the keys of :data:`PARTS`; None where the data do not tell.

    ``sentence``: the raw sentence, without regard to case and white space, is one of training (of the same laterality).
    ``canonical``: the same of the canonical sentence; None for one that is not understood.
    ``subject``: the subject has images in training; None where the subject is no more than the image's own name.
    ``view``: of QaTa-COV19, whose names tell it (``vp-ap`` and ``vp-pa`` are frontal, ``vp-ll`` lateral).
    ``size``: terciles of the lesion's share of the picture, over the distinct images with a lesion.
    ``lesions``: 8-connected components of the mask, specks not counted; 3 stands for more, too. None for no lesion.

    Args:
        rows: see :func:`split_rows`.
        items: see there.
        training_items: see there.

    Raises:
        UserError: a row's image is none of the items'.
    """
    known = {_raw(item) for item in training_items}
    canonical = _captions(known)
    subjects = {item["subject"] for item in training_items}
    matched = _matched(rows, items)
    shares = {
        row["image"]: (row["tp"] + row["fn"]) / (row["height"] * row["width"]) for row in rows if not row["empty_truth"]
    }
    cuts = np.quantile(list(shares.values()), (1 / 3, 2 / 3)) if shares else ()
    captions = _captions({_raw(item) for item in items})
    of_training = set(canonical.values())
    found = []
    for row, item in zip(rows, matched, strict=True):
        raw = _raw(item)
        caption = captions.get(raw)
        share = shares.get(row["image"])
        found.append(
            {
                "sentence": raw in known if raw[0] else None,
                "canonical": None if caption is None else caption in of_training,
                "subject": None if _nameless(item) else item["subject"] in subjects,
                "view": view(item),
                "size": "none" if share is None else ("small", "medium", "large")[int(np.searchsorted(cuts, share))],
                "lesions": min(_lesions(item["label"]), 3) or None,
            }
        )
    return found


def view(item: Mapping[str, Any]) -> str | None:
    """``"frontal"`` or ``"lateral"`` of a QaTa-COV19 image whose name tells it, else None."""
    match = re.search(r"_vp-([a-z]+)", Path(item["image"]).stem.lower())
    return _VIEWS.get(match.group(1)) if match and item["source"] == "qata" else None


def _raw(item: Mapping[str, Any]) -> tuple[str, str, str]:
    """A sentence as typed, but for case and white space; whose left it means; its grammar."""
    return (
        " ".join((item.get("text_prompt") or "").lower().split()),
        item.get("laterality") or "image",
        table(item["kind"]).grammar,
    )


def _captions(sentences: set[tuple[str, str, str]]) -> dict[tuple[str, str, str], str]:
    """The canonical sentence, in picture sides, of each that is understood."""
    found = {}
    for sentence in sentences:
        if sentence[0]:
            findings = parse(*sentence)
            if findings.understood:
                found[sentence] = findings.caption()
    return found


@cache
def _lesions(path: str) -> int:
    """Read once: the same images are asked about for every method and evaluation."""
    return count_of_mask(read_image(path)[0] >= 0.5)


def _nameless(item: Mapping[str, Any]) -> bool:
    """Whether the subject is the image's own name, for want of a better one."""
    return not item["subject"] or item["subject"].lower() == Path(item["image"]).stem.lower()


def _matched(rows: Sequence[Mapping[str, Any]], items: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The item of each row: that of the same file, else (scores of another machine) of the same file name.

    Rows of an image with several sentences follow one another as the items do, for each seed anew.
    """
    for key in (str, lambda path: Path(path).name):
        of: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
        files: dict[str, set[str]] = defaultdict(set)
        for item in items:
            of[key(item["image"])].append(item)
            files[key(item["image"])].add(item["image"])
        absent = [row["image"] for row in rows if len(files.get(key(row["image"]), ())) != 1]
        if not absent:
            seen: Counter[str] = Counter()
            found = []
            for row in rows:
                name = key(row["image"])
                found.append(of[name][seen[name] % len(of[name])])
                seen[name] += 1
            return found
    raise UserError(
        f"{absent[0]}: is scored but is none of the {len(items)} rows of the data; "
        f"give the data set, split and limit that were scored"
    )
