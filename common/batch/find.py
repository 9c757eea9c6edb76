"""The images below a folder, found by content: which are segmented, in which order, and why others are not."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from common.errors import UserError
from common.images.reader import format_of

from .dicomdir import missing
from .header import NO_HEADER, Header, Slice, bare, scan
from .refuse import Scope, check_words, judge, modality_of
from .walk import Entry, walk

SUFFIXES = (
    ".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp", ".nii", ".nii.gz", ".hdr", ".dcm", ".dicom", ".dic",
    ".ima",
)  # fmt: skip
_CONTROL = bytes(range(9))


@dataclass(frozen=True, slots=True)
class Found:
    r"""A file that is an image, or that should be one.

    Attributes:
        path: the file.
        name: its path below the root, with ``/``; unique. Bytes that are no UTF-8 are written ``\xNN``.
        format: ``dicom``, ``raster``, ``nifti``; ``""`` if nobody can tell.
        header: of a DICOM file.
        series: SeriesInstanceUID of CT slices that become one segmentation object, else ``""``.
        position: which slice of the series, along its normal.
        refused: why it is not segmented, one line; ``""`` if it is.
        overridden: why it would not have been, if ``--include`` did not let it through.
        note: what whoever uses the mask should know.
    """

    path: Path
    name: str
    format: str = ""
    header: Header = NO_HEADER
    series: str = ""
    position: int = 0
    refused: str = ""
    overridden: str = ""
    note: str = ""


@dataclass(frozen=True)
class Search:
    """What lies below a folder.

    Attributes:
        found: images, and files that should be; by name, the slices of a series together at its first name's place.
        others: how many files are no images: texts, tables, DICOMDIR, hidden ones.
    """

    found: list[Found]
    others: int


def find(
    root: Path,
    metadata: Mapping[str, Any] | None,
    *,
    include: frozenset[str] = frozenset(),
    leave_out: Path | None = None,
) -> Search:
    """Find the images below a folder; of each file no more than its header is read.

    Every regular file is in ``found`` or counted in ``others``. A file is found by its content; one that cannot be
    read is found (and refused) if its name is that of an image or has no ending. Links to folders are not followed.

    Args:
        root: a folder, or one file.
        metadata: of the bundle; None judges only whether a file can be read.
        include: words of :data:`common.batch.refuse.WORDS`: refusals that are overridden.
        leave_out: a folder below ``root`` that is not looked into, such as the output.

    Raises:
        UserError: ``root`` does not exist, or a word of ``include`` is unknown.
    """
    check_words(include)
    scope = Scope.of(metadata)
    if root.is_dir():
        entries = walk(root, leave_out.resolve() if leave_out else None)
    elif root.is_file():
        entries = iter([Entry(root, root.name)])
    else:
        raise UserError(f"{root}: there is no such folder; give the folder of the images")
    found: list[Found] = []
    slices: dict[str, Slice] = {}
    directories: list[Entry] = []
    others = 0
    for entry in entries:
        item, place = _look(entry, scope, include, directories, always=entry.path == root)
        if item is None:
            others += 1
        else:
            found.append(item)
            if place is not None:
                slices[item.name] = place
    if root.is_dir():
        found += _not_there(directories, root, found)
    found.sort(key=lambda item: item.name)
    return Search(_in_series(_duplicates(found, include), slices), others)


def check_output(root: Path, output: Path) -> None:
    """Refuse an output folder that is, or holds, what is to be segmented: masks would be taken for images.

    Raises:
        UserError: it is so.
    """
    inside, around = root.resolve(), output.resolve()
    if inside == around or around in inside.parents:
        raise UserError(
            f"{output}: the images are in this folder, and masks written here would be segmented too; "
            f"give another output folder"
        )


def _look(
    entry: Entry, scope: Scope, include: frozenset[str], directories: list[Entry], always: bool
) -> tuple[Found | None, Slice | None]:
    """What a file is: None for no image; and where it lies in a CT series."""
    path, name = entry.path, entry.name
    if entry.ignored:
        return None, None
    if entry.trouble:
        image = always or entry.folder or _may_be_image(path, unreadable=True)
        return (Found(path, name, refused=entry.trouble) if image else None), None
    try:
        kind = format_of(path)
    except UserError as error:
        image = always or _may_be_image(path, unreadable=False)
        return (Found(path, name, refused=bare(path, error)) if image else None), None
    if kind != "dicom":
        return Found(path, name, kind), None
    seen = scan(path)
    if seen.directory:
        directories.append(entry)
        return None, None
    refused, overridden = judge(seen, scope, include)
    note = ""
    if not refused and seen.raw:
        note = "FOR PROCESSING: raw values of the detector, not the picture that is shown"
    item = Found(path, name, kind, seen.header, refused=refused, overridden=overridden, note=note)
    stacked = not refused and modality_of(seen) == "CT" and "LOCALIZER" not in seen.image_type
    return item, seen.slice if stacked else None


def _may_be_image(path: Path, unreadable: bool) -> bool:
    """Whether what cannot be read should be an image: by its name, or without ending and no text."""
    if path.name.lower().endswith(SUFFIXES):
        return True
    # the last number of a UID is no ending
    if path.suffix and not path.suffix[1:].isdigit():
        return False
    if unreadable:
        return True
    try:
        with path.open("rb") as file:
            start = file.read(544)
    except OSError:
        return True
    return not start or bool(start.translate(None, _CONTROL) != start)


def _not_there(directories: list[Entry], root: Path, found: list[Found]) -> list[Found]:
    """A row for each file that a DICOMDIR names in vain."""
    known = {item.name.lower() for item in found}
    rows: dict[str, Found] = {}
    for entry in directories:
        try:
            for path, name in missing(entry.path, root, known):
                rows[name] = Found(path, name, refused=f"named by {entry.name}, not there; copy it again")
        except OSError:
            rows[entry.name] = Found(entry.path, entry.name, "dicom", refused="a DICOMDIR that cannot be read")
    return list(rows.values())


def _duplicates(found: list[Found], include: frozenset[str]) -> list[Found]:
    """Say of images whose SOPInstanceUID is another's that it is; of CT slices only the first is segmented."""
    count = Counter(item.header.sop_instance for item in found if not item.refused)
    first: dict[str, str] = {}
    out = []
    for item in found:
        uid = item.header.sop_instance
        if uid and not item.refused and count[uid] > 1:
            if uid not in first:
                first[uid] = item.name
            elif item.header.modality == "CT" and "duplicate" not in include:
                what = f"its SOPInstanceUID is that of {first[uid]}, a slice stands once in a series"
                item = replace(item, refused=f"{what}; --include duplicate segments it")
            else:
                what = f"its SOPInstanceUID is that of {first[uid]}"
                key = "overridden" if item.header.modality == "CT" else "note"
                before = getattr(item, key)
                item = replace(item, **{key: f"{before}; {what}" if before else what})
        out.append(item)
    return out


def _in_series(found: list[Found], slices: dict[str, Slice]) -> list[Found]:
    """Put the slices of each CT series together and in order.

    A series is what one segmentation object can hold: slices that are parallel, of one grid, each at a place of its
    own. The most of them that are alike keep the series; others (another orientation, a second slice at a place) are
    images of their own.
    """
    stacks: dict[str, dict[tuple, list[Found]]] = defaultdict(lambda: defaultdict(list))
    for item in found:
        place = slices.get(item.name)
        if place is not None and not item.refused and item.header.series:
            stacks[item.header.series][place.stack].append(item)
    ordered: dict[str, list[Found]] = {}
    for series, alike in stacks.items():
        # the largest; of equals the one with the first name
        most = max(alike.values(), key=len)
        taken: dict[float, Found] = {}
        for item in most:
            taken.setdefault(round(slices[item.name].place, 2), item)
        ordered[series] = [
            replace(taken[place], series=series, position=number) for number, place in enumerate(sorted(taken))
        ]
    first = {min(item.name for item in items): items for items in ordered.values()}
    members = {item.name for items in ordered.values() for item in items}
    out: list[Found] = []
    for item in found:
        if item.name in first:
            out += first[item.name]
        elif item.name not in members:
            out.append(item)
    return out
