"""What a DICOMDIR names and is not there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from .walk import name_of

# ReferencedFileID (0004,1500) in the little-endian coding that PS3.10 8.6 asks for; then length and value
_FILE_ID = b"\x04\x00\x00\x15CS"
# a directory of a million files is smaller
_MOST = 2**29
_CHUNK = 2**20


def missing(directory: Path, root: Path, names: set[str]) -> list[tuple[Path, str]]:
    """Path and name of each file that a DICOMDIR names and that is not among ``names``, whatever their case.

    The file is scanned, not parsed: it may be damaged, and it may name a hundred thousand files.

    Args:
        directory: the DICOMDIR.
        root: the folder that the names are below.
        names: of the files found, in lower case.
    """
    found: dict[str, Path] = {}
    for parts in _file_ids(directory):
        path = directory.parent.joinpath(*parts)
        name = name_of(os.path.relpath(path, root))
        if name not in found and name.lower() not in names and not os.path.lexists(path):
            found[name] = path
    return [(path, name) for name, path in found.items()]


def _file_ids(directory: Path) -> Iterator[tuple[str, ...]]:
    """The components of each file that is named, below the folder of the DICOMDIR."""
    with directory.open("rb") as file:
        rest, left = b"", _MOST
        while left > 0 and (chunk := file.read(_CHUNK)):
            left -= len(chunk)
            data = rest + chunk
            place = data.find(_FILE_ID)
            while place >= 0:
                start = place + len(_FILE_ID) + 2
                end = start + int.from_bytes(data[start - 2 : start], "little")
                if end > len(data):
                    break
                parts = tuple(os.fsdecode(part.strip(b" \0")) for part in data[start:end].split(b"\\"))
                # eight components of sixteen characters (PS3.10 8.2), twice that for who does not care
                if 0 < len(parts) <= 16 and all(0 < len(p) <= 64 and "/" not in p and p != ".." for p in parts):
                    yield parts
                place = data.find(_FILE_ID, end)
            rest = data[place:][: 2**17] if place >= 0 else data[-len(_FILE_ID) - 1 :]
