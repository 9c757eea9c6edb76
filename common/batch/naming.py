"""Names in the output folder, and pseudonyms of what identifies a patient."""

from __future__ import annotations

import hmac
import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from common.errors import UserError

_LEAST = 16  # bytes of a secret
HEX = 20  # characters of a pseudonym: 80 bits, so that two of a million files hardly ever share one


def read_key(path: Path) -> bytes:
    """The secret in a file, without the white space around it.

    Raises:
        UserError: it cannot be read, or is too short to keep anything secret.
    """
    try:
        key = path.read_bytes().strip()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); give a file with a secret") from error
    if len(key) < _LEAST:
        raise UserError(f"{path}: holds {len(key)} bytes, a secret at least {_LEAST}; openssl rand -hex 32 > {path}")
    return key


class Pseudonyms:
    """Identifiers replaced by hashes keyed with a secret: the same key gives the same hashes in every run.

    Args:
        key: the secret; None keeps identifiers as they are.
    """

    def __init__(self, key: bytes | None) -> None:
        self.key = key

    def identifier(self, value: str) -> str:
        """A UID, number or hash; "" stays ""."""
        if self.key is None or not value:
            return value
        return hmac.digest(self.key, value.encode("utf-8", "surrogateescape"), "sha256").hex()[:HEX]

    def name(self, name: str) -> str:
        """A file's path below the input folder; its ending stays, its folders do not."""
        if self.key is None:
            return name
        return self.identifier(name) + _ending(name)


def nameless(reason: str) -> str:
    """What is said of a file, without what may be a name or a sentence."""
    reason = re.sub(
        r"SOPInstanceUID is that of (.*(?=, a slice stands once)|.*)", "SOPInstanceUID is another's", reason
    )
    # the words of an exception that nobody foresaw
    reason = re.sub(r"^(\w+(?:Error|Exception|Warning)): .*", r"\1", reason)
    return re.sub(r"^named by .*, not there", "named by a DICOMDIR, not there", reason)


def _ending(name: str) -> str:
    lower = name.lower()
    known = (".nii.gz", ".nii", ".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp", ".dcm")
    return next((ending for ending in known if lower.endswith(ending)), "")


def target_of(name: str) -> str:
    """The name of an image's mask below ``masks/``: that of the image, and ``.png`` behind others.

    ``a/1.png`` stays, ``a/1.dcm`` becomes ``a/1.dcm.png``, ``a/1.nii.gz`` becomes ``a/1.mask.nii.gz``. The ending that
    is added keeps two images apart that differ only in theirs; :func:`targets_of` sees to the rest.
    """
    path, lower = PurePosixPath(name), name.lower()
    if lower.endswith((".nii", ".nii.gz")):
        cut = path.name[: path.name.lower().rindex(".nii")]
        return path.with_name(cut + ".mask.nii.gz").as_posix()
    return name if lower.endswith(".png") else path.with_name(path.name + ".png").as_posix()


def places(target: str) -> dict[str, str]:
    """Where all that an image may become is written, below the output folder: column of its row -> path.

    Args:
        target: the name of its mask, as :func:`targets_of` gives it.
    """
    base = target[:-4] if target.lower().endswith(".png") else target
    return {
        "mask": f"masks/{target}", "overlay": f"overlays/{base}.jpg", "seg": f"seg/{base}.seg.dcm",
        "secondary_capture": f"captures/{base}.sc.dcm",
    }  # fmt: skip


def targets_of(names: list[str], pseudonyms: Pseudonyms, before: Iterable[str] = ()) -> dict[str, str]:
    """The target of each image, such that no two meet in any of their :func:`places`, nor a file and a folder.

    Where two would, also in a file system without capitals, the later is numbered.

    Args:
        names: of the images, in order.
        pseudonyms: of the run.
        before: targets of earlier runs in the same folder.
    """
    wanted = {name: target_of(pseudonyms.name(name)) for name in names}
    before = list(before)
    taken = {name for target in before for name in _names(target)}
    taken |= {
        str(folder).casefold() for target in (*before, *wanted.values()) for folder in PurePosixPath(target).parents
    }
    targets = {}
    for name, target in wanted.items():
        path, number = PurePosixPath(target), 2
        while not taken.isdisjoint(_names(target)):
            stem, dot, ending = path.name.partition(".")
            target, number = path.with_name(f"{stem}-{number}{dot}{ending}").as_posix(), number + 1
        taken |= _names(target)
        targets[name] = target
    return targets


def _names(target: str) -> set[str]:
    return {path.partition("/")[2].casefold() for path in places(target).values()}
