"""``load_dataset``: a data set on the disk as a MONAI datalist."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from common.datasets import folder, kvasir, mosmed, qata
from common.datasets.listing import LATERALITIES, SPLITS, Listing
from common.datasets.splits import fraction_rows, limit_rows
from common.errors import UserError

_FOUND: dict[str, Callable[[Path], bool]] = {
    "qata": qata.found,
    "mosmed": mosmed.found,
    "kvasir": lambda root: kvasir.found(root, "kvasir"),
    "clinicdb": lambda root: kvasir.found(root, "clinicdb"),
    "csv": folder.found,
}
NAMES = ("auto", *_FOUND)
_DEPTH = 2  # an archive often unpacks into a folder in a folder


def find_dataset(name: str, root: str | Path) -> tuple[str, Path]:
    """The data set at or below ``root``: its name and its own folder.

    ``root`` itself is looked at first, then its folders, then theirs; at the first depth with a data set
    there must be just one. In each folder the layouts are tried in the order qata, mosmed, kvasir, clinicdb,
    csv. A path of a table is a ``csv`` data set.

    Raises:
        UserError: unknown name, no such folder, nothing found, or several.
    """
    if name not in NAMES:
        raise UserError(f"dataset: {name!r} is unknown; use one of {', '.join(NAMES)}")
    root = Path(root).expanduser()
    if not root.exists():
        raise UserError(f"{root}: no such folder; give the folder of the data set")
    if root.is_file():
        if name not in ("auto", "csv"):
            raise UserError(f"{root}: is a file; the data set {name} is a folder")
        return "csv", root
    level = [root]
    for _ in range(_DEPTH + 1):
        hits = []
        for place in level:
            if name in ("kvasir", "clinicdb"):  # named, so the folder need not be called like it
                match = name if folder.found(place) else None
            else:
                match = next((n for n, test in _FOUND.items() if name in ("auto", n) and test(place)), None)
            if match:
                hits.append((match, place))
        if len(hits) > 1:
            names = ", ".join(place.name for _, place in hits)
            raise UserError(f"{root}: holds several data sets ({names}); give the folder of one of them")
        if hits:
            return hits[0]
        level = [entry for place in level for entry in sorted(place.iterdir()) if entry.is_dir()]
    what = "no data set in a known layout" if name == "auto" else f"no data set {name}"
    raise UserError(
        f"{root}: holds {what}; give the folder of one as downloaded, or one with a CSV of image, mask and text"
    )


def list_dataset(name: str, root: str | Path, laterality: str | None = None, splits: str = "published") -> Listing:
    """All pairs and faults of the data set at or below ``root``.

    Args:
        name: ``"auto"``, ``"qata"``, ``"mosmed"``, ``"kvasir"``, ``"clinicdb"`` or ``"csv"``.
        root: its folder, one above it, or (``csv``) the table.
        laterality: for a ``csv`` table without that column. The published sets declare ``"image"`` themselves, and
            another value is refused.
        splits: ``"published"``, as the data set has them; for ``mosmed`` also ``"volume_disjoint"``, where each scan
            stands in one split alone (:func:`common.datasets.mosmed.volume_disjoint`).
    """
    name, place = find_dataset(name, root)
    if splits not in mosmed.POLICIES:
        raise UserError(f"splits: {splits!r} is unknown; use one of {', '.join(mosmed.POLICIES)}")
    if splits != "published" and name != "mosmed":
        raise UserError(f"splits: {splits!r} is of MosMedData+ alone, and this is {name}; leave splits out")
    if name == "csv":
        return folder.read(place, laterality)
    if laterality not in (None, "image"):
        if laterality not in LATERALITIES:
            raise UserError(f"laterality: {laterality!r} is unknown; use 'image' or 'patient'")
        raise UserError(f"laterality: the sentences of {name} name the sides of the picture; leave laterality out")
    if name in ("kvasir", "clinicdb"):
        return kvasir.read(place, name)
    return qata.read(place) if name == "qata" else mosmed.read(place, splits)


def load_dataset(
    name: str,
    root: str | Path,
    split: str,
    *,
    fraction: float = 1.0,
    seed: int = 0,
    limit: int | None = None,
    laterality: str | None = None,
    draw: str = "rounded",
    splits: str = "published",
) -> list[dict[str, str]]:
    """A split of a data set, for MONAI's ``Dataset(data=...)``.

    Args:
        name: see :func:`list_dataset`; ``"auto"`` tells the layout by itself.
        root: folder of the data set, or one above it.
        split: ``"train"``, ``"validation"``, ``"test"`` or ``"trainval"`` (the first two together).
        fraction: labelled part of the rows (of those that ``limit`` leaves), 1.0 for all.
        seed: of the draws of ``fraction`` and ``limit``.
        limit: at most so many rows, drawn before ``fraction``; the order of the sheet is kept.
        laterality: ``"image"`` or ``"patient"``, for a ``csv`` table that has no such column.
        draw: how ``fraction`` is drawn, see :func:`common.datasets.splits.fraction_rows`.
        splits: which rows are whose, see :func:`list_dataset`.

    Returns:
        Dictionaries of strings: ``image`` and ``label`` (paths), ``text_prompt`` (the raw sentence),
        ``laterality``, ``subject``, ``source`` (the data set's name), ``kind`` (of image, as
        :mod:`common.prompts.zones` names it).

    Raises:
        UserError: nothing found, rows with faults in this split (the first three and their number), an empty
        split.
    """
    if split not in (*SPLITS, "trainval"):
        raise UserError(f"split: {split!r} is unknown; use train, validation, test or trainval")
    listing = list_dataset(name, root, laterality, splits)
    parts = ("train", "validation") if split == "trainval" else (split,)
    faults = [fault.line for fault in listing.faults if fault.split in parts]
    if faults:
        more = f" and {len(faults) - 3} more" if len(faults) > 3 else ""
        raise UserError(
            f"{listing.root}: {len(faults)} faults in split {split}: {'; '.join(faults[:3])}{more}; "
            "run 'python -m tools check-data' on it for all"
        )
    pairs = [pair for pair in listing.pairs if pair.split in parts]
    if not pairs:
        have = ", ".join(f"{s} ({n})" for s in SPLITS if (n := sum(p.split == s for p in listing.pairs)))
        raise UserError(f"{listing.root}: has no rows of split {split}; it has {have or 'none'}")
    pairs = [pairs[row] for row in limit_rows(len(pairs), limit, seed)]
    pairs = [pairs[row] for row in fraction_rows([p.image.name for p in pairs], fraction, seed, draw)]
    return [
        {
            "image": str(pair.image),
            "label": str(pair.mask),
            "text_prompt": pair.text,
            "laterality": pair.laterality,
            "subject": pair.subject,
            "source": listing.name,
            "kind": listing.kind,
        }
        for pair in pairs
    ]


def load_training(name: str, root: str | Path, *, train_split: str, **options: Any) -> list[dict[str, str]]:
    """The rows that a network learns from.

    Args:
        name: see :func:`list_dataset`.
        root: folder of the data set, or one above it.
        train_split: ``"train"``, or ``"trainval"``: the validation rows too, for a fixed number of epochs as papers
            have it that hold nothing out; validation then says nothing of unseen images.
        options: of :func:`load_dataset`.

    Raises:
        UserError: another split; as ``load_dataset``.
    """
    if train_split not in ("train", "trainval"):
        raise UserError(f"train_split: {train_split!r} is nothing to learn from; use 'train' or 'trainval'")
    return load_dataset(name, root, train_split, **options)


def by_dataset(name: str, root: str | Path, values: Mapping[str, Any], default: Any) -> Any:
    """The value in ``values`` of the data set at or below ``root``, else ``default``: a setting a data set.

    Args:
        name: see :func:`list_dataset`; ``"auto"`` tells the layout by itself.
        root: folder of the data set, or one above it.
        values: a name as of :data:`NAMES` -> its value.
        default: of all other data sets, and where none is found (what loads the rows says so; a label server gives
            rows and no folder).
    """
    if name == "auto" and root:
        try:
            name, _ = find_dataset(name, root)
        except UserError:
            return default
    return values.get(name, default)
