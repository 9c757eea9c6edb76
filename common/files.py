"""Files that are there whole or not at all: every writer of this project goes through here."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from common.errors import UserError


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A name beside ``path`` to write to; it takes the place of ``path`` if the block ends well, and is gone if not.

    A reader, a kill or a power cut finds the old content or the new. The name is always the same for one ``path``, so
    that what a kill leaves behind is overwritten by the next attempt and never piles up; two processes must not
    write one file at a time. It keeps the ending, by which some libraries choose the format, and is short, so that
    the longest name that a file system takes can be written. The folder is made if missing.

    Raises:
        UserError: The operating system refuses (folder, permission, space).
    """
    path = Path(path)
    ending = next((x for x in (".nii.gz", path.suffix.lower()) if path.name.lower().endswith(x)), "")
    part = path.with_name(f".partial-{hashlib.sha1(os.fsencode(path.name)).hexdigest()[:16]}{ending}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        reason = " ".join((error.strerror or str(error) or type(error).__name__).split())
        raise UserError(f"{path}: cannot be written ({reason}); free space or name another folder") from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text with its line ends as they are, as :func:`replacing` does; what UTF-8 cannot hold is a "?"."""
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8", errors="replace", newline="")


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
