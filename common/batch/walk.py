"""Every file below a folder: none opened, none lost, whatever its name, links and permissions."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_LITERAL_ESCAPE = re.compile(rb"\\(?=x[0-9a-fA-F]{2})")


@dataclass(frozen=True, slots=True)
class Entry:
    """A file, or what stands for files that cannot be reached.

    Attributes:
        path: the file.
        name: its path below the root, as :func:`name_of` writes it.
        trouble: why what lies there cannot be reached; ``""`` for a regular file.
        folder: it stands for a folder.
        ignored: a hidden file, one in a hidden folder, or no regular file (a pipe, a device).
    """

    path: Path
    name: str
    trouble: str = ""
    folder: bool = False
    ignored: bool = False


def name_of(path: str) -> str:
    r"""A path below the root as text: bytes that are no UTF-8 become ``\xNN``.

    The bytes come back by replacing each ``\xNN``; a backslash of the name before ``xNN`` is written ``\x5c``.
    """
    return _LITERAL_ESCAPE.sub(rb"\\x5c", os.fsencode(path)).decode("utf-8", "backslashreplace")


def walk(root: Path, leave_out: Path | None = None) -> Iterator[Entry]:
    """Every regular file below ``root``, in no order; links to files are followed, links to folders are not.

    A folder that cannot be opened is an entry with its trouble, and so is a link that leads nowhere, out of ``root``
    or around it; a link to another folder of ``root`` is none: its files are found where they are.

    Args:
        root: a folder.
        leave_out: a folder that is not looked into, resolved.
    """
    real_root = os.path.realpath(root)
    stack = [(os.fspath(root), "", False)]
    while stack:
        folder, below, hidden = stack.pop()
        try:
            with os.scandir(folder) as entries:
                listed = list(entries)
        except OSError as error:
            if not hidden:
                yield Entry(Path(folder), name_of(below or "."), _closed(error), folder=True)
            continue
        for entry in listed:
            inner = f"{below}/{entry.name}" if below else entry.name
            path, ignored = Path(folder, entry.name), hidden or entry.name.startswith(".")
            try:
                if entry.is_dir(follow_symlinks=False):
                    if leave_out is None or Path(os.path.realpath(path)) != leave_out:
                        stack.append((os.fspath(path), inner, ignored))
                elif entry.is_file():
                    yield Entry(path, name_of(inner), ignored=ignored)
                elif entry.is_dir():
                    trouble = _linked(path, real_root)
                    if trouble:
                        yield Entry(path, name_of(inner), trouble, folder=True, ignored=ignored)
                elif entry.is_symlink() and not path.exists():
                    yield Entry(path, name_of(inner), "a link that leads nowhere; remove or mend it", ignored=ignored)
                else:
                    yield Entry(path, name_of(inner), ignored=True)
            except OSError as error:
                loop = error.errno == errno.ELOOP
                reason = "a link that leads to itself; remove it" if loop else f"cannot be reached ({error.strerror})"
                yield Entry(path, name_of(inner), reason, ignored=ignored)


def _closed(error: OSError) -> str:
    if isinstance(error, PermissionError):
        return "a folder that this user may not open; change its permissions"
    return f"a folder that cannot be opened ({error.strerror}); check the disk"


def _linked(link: Path, real_root: str) -> str:
    """What is lost by a link to a folder that is not followed; ``""`` if its files are found where they are."""
    target = os.path.realpath(link).rstrip("/") + "/"
    if f"{os.path.realpath(link.parent)}/".startswith(target):
        return "a link to a folder that it lies in, a loop; remove it"
    if target.startswith(f"{real_root.rstrip('/')}/"):
        return ""
    return "a link to a folder elsewhere, which is not followed; give that folder as input"
