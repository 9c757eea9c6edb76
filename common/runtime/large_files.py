"""Weights that are not in git: what ``large_files.yml`` of a bundle lists, and how it gets to its place.

The format is the MONAI model zoo's, and ``python -m monai.bundle download_large_files`` reads it: ``path`` in the
bundle, ``url``, ``hash_val``, ``hash_type``; beside them ``size`` in bytes. There is no public address, so ``url`` is
empty: MONAI's command then checks what is in place, and can fetch nothing. Here nothing is ever fetched from a network,
but taken from a folder, and nothing is placed that is not, byte for byte, what is listed.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from common.errors import UserError
from common.files import replacing, sha256_of, write_text

LIST = "large_files.yml"
# of a small variant of a bundle, which is in git; never listed
SMALL = "small.pt"
PREVIOUS = "previous_"
_HEAD = """\
# Files of this bundle that are not in git. They have no public address: somebody who has them (a colleague, a share)
# gives a folder, and `python -m tools fetch-weights --from FOLDER` checks them and puts them into their places.
# `url` is empty where there is none; `python -m monai.bundle download_large_files` then checks what is in place.
# Written by `python -m tools fetch-weights --write`, not by hand.
"""
_BLOCK = 2**20
# as `split -b` names the parts of model.pt: model.pt.aa or model.pt.part-aa, or with its option -d model.pt.00
_PART = re.compile(r"(?P<whole>.+?)\.(?P<kind>part[-_.]?)?(?P<number>[a-z]{2,6}|\d{2,6})")


@dataclass(frozen=True)
class Listed:
    """A file of a bundle, as ``large_files.yml`` has it.

    Attributes:
        bundle: its folder.
        path: in the bundle, such as ``models/model.pt``.
        size: bytes; None where the list does not say.
        sha256: 64 hexadecimal digits.
        url: "" where there is none.
    """

    bundle: Path
    path: str
    size: int | None
    sha256: str
    url: str = ""

    @property
    def place(self) -> Path:
        """Where it belongs."""
        return self.bundle / self.path

    @property
    def name(self) -> str:
        """As it is called in messages: bundle and path."""
        return f"{self.bundle.name}/{self.path}"

    def state(self) -> str:
        """``"there"``, ``"missing"``, or ``"another file"`` where something else stands in its place."""
        if not self.place.is_file():
            return "missing"
        if self.size is not None and self.place.stat().st_size != self.size:
            return "another file"
        return "there" if sha256_of(self.place) == self.sha256 else "another file"


@dataclass(frozen=True)
class Outcome:
    """What became of a listed file: whether it is in its place now, and a line that says so."""

    good: bool
    line: str


def read_list(bundle: Path) -> list[Listed]:
    """What a bundle's ``large_files.yml`` lists.

    Raises:
        UserError: it is missing, is no such list, or names a place outside the bundle.
    """
    path = bundle / LIST
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        entries = [_listed(bundle, entry) for entry in content["large_files"]]
    except FileNotFoundError as error:
        raise UserError(f"{path}: is not there; restore it from git") from error
    except (yaml.YAMLError, TypeError, KeyError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path}: is no list of large files ({reason}); restore it from git") from error
    return entries


def _listed(bundle: Path, entry: Mapping[str, Any]) -> Listed:
    path, sha256 = str(entry["path"]), str(entry["hash_val"]).lower()
    if entry.get("hash_type", "sha256") != "sha256" or not re.fullmatch("[0-9a-f]{64}", sha256):
        raise ValueError(f"{path}: its hash is no SHA-256")
    if not Path(os.path.normpath(bundle / path)).is_relative_to(bundle):
        raise ValueError(f"{path}: is outside the bundle")
    size = entry.get("size")
    return Listed(bundle, path, None if size is None else int(size), sha256, str(entry.get("url") or ""))


def text_of(entries: Sequence[Listed]) -> str:
    """``large_files.yml`` of these files."""
    rows = [
        {"path": entry.path, "url": entry.url, "hash_val": entry.sha256, "hash_type": "sha256", "size": entry.size}
        for entry in entries
    ]
    return _HEAD + yaml.safe_dump({"large_files": rows}, sort_keys=False, width=120)


def write_list(bundle: Path) -> list[Listed]:
    """Write into ``large_files.yml`` what lies in the bundle's ``models``: weights, and the sidecar of each.

    Earlier weights (``previous_*``) and the small ones, which are in git, are left out. An address that stood there
    for a path is kept.

    Raises:
        UserError: there are no weights.
    """
    found = sorted(
        path for path in (bundle / "models").glob("*.pt") if path.name != SMALL and not path.name.startswith(PREVIOUS)
    )
    if not found:
        raise UserError(f"{bundle / 'models'}: holds no weights to list; train the bundle or copy its model.pt there")
    known = {entry.path: entry.url for entry in read_list(bundle)}
    entries = []
    for weights in found:
        for path in (weights, weights.with_suffix(".json")):
            if path.is_file():
                name = path.relative_to(bundle).as_posix()
                entries.append(Listed(bundle, name, path.stat().st_size, sha256_of(path), known.get(name, "")))
    write_text(bundle / LIST, text_of(entries))
    return entries


class Source:
    """A folder in which listed files are looked for: by their path, else by their content.

    Args:
        folder: holds ``<bundle>/models/model.pt``, or files of any name; parts that ``split -b`` made are one file.

    Raises:
        UserError: there is no such folder.
    """

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise UserError(f"--from {folder}: there is no such folder; give the folder that holds the weights")
        self.folder = folder
        self.files: dict[Path, list[Path]] = dict(_whole_files(folder))  # name -> the file, or its parts in order
        self._digests: dict[Path, str] = {}

    def named(self, entry: Listed) -> Path | None:
        """What has the place of ``entry`` in the folder, right or not."""
        names = (Path(entry.bundle.name) / entry.path, Path("bundles") / entry.bundle.name / entry.path)
        return next((self.folder / name for name in names if self.folder / name in self.files), None)

    def find(self, entry: Listed) -> Path | None:
        """The file whose content is that of ``entry``; the one that has its name comes first."""
        first = self.named(entry)
        names = sorted(self.files, key=lambda name: (name != first, name))
        return next((name for name in names if not self.misfit(name, entry)), None)

    def misfit(self, name: Path, entry: Listed) -> str:
        """How a file differs from what is listed, in a few words; "" if it does not."""
        size = sum(part.stat().st_size for part in self.files[name])
        if entry.size is not None and size != entry.size:
            return f"expected {entry.size:,} bytes, found {size:,}"
        if name not in self._digests:
            self._digests[name] = _digest(_blocks(self.files[name]))
        if self._digests[name] != entry.sha256:
            return f"expected SHA-256 {entry.sha256[:16]}..., found {self._digests[name][:16]}..."
        return ""


def _whole_files(folder: Path) -> Iterator[tuple[Path, list[Path]]]:
    """All files below a folder, parts of one taken together under the name that they were split from."""
    for top, folders, names in os.walk(folder):
        folders.sort()
        parts: dict[tuple[str, str], list[str]] = {}
        for name in sorted(names):
            if not (Path(top) / name).is_file():
                continue
            if (match := _PART.fullmatch(name)) is not None:
                parts.setdefault((match["whole"], match["kind"] or ""), []).append(name)
            yield Path(top) / name, [Path(top) / name]
        for (whole, kind), found in parts.items():
            first = found[0].removeprefix(f"{whole}.{kind}")
            if whole not in names and set(first) in ({"a"}, {"0"}):  # model.pt is no part of a file "model"
                yield Path(top) / whole, [Path(top) / name for name in found]


def _blocks(parts: Sequence[Path]) -> Iterator[bytes]:
    for part in parts:
        with part.open("rb") as file:
            while block := file.read(_BLOCK):
                yield block


def _digest(blocks: Iterator[bytes]) -> str:
    digest = hashlib.sha256()
    for block in blocks:
        digest.update(block)
    return digest.hexdigest()


def fetch(entries: Sequence[Listed], source: Source, replace: bool = False) -> Iterator[Outcome]:
    """Put listed files into their places, one after the other; a fault of one does not stop the others.

    Args:
        entries: the files.
        source: where they are looked for.
        replace: put them in the place of other files; those are kept as ``previous_*``.
    """
    for entry in entries:
        try:
            yield _fetch(entry, entries, source, replace)
        except UserError as error:
            yield Outcome(False, str(error))
        except OSError as error:
            reason = error.strerror or type(error).__name__
            yield Outcome(False, f"{entry.name}: cannot be read ({reason}); check the folder given by --from")


def _fetch(entry: Listed, entries: Sequence[Listed], source: Source, replace: bool) -> Outcome:
    state = entry.state()
    if state == "there":
        return Outcome(True, f"{entry.name}: already there")
    if state == "another file" and not replace:
        return Outcome(
            False,
            f"{entry.name}: another file is in its place, expected SHA-256 {entry.sha256[:16]}..., found "
            f"{sha256_of(entry.place)[:16]}...; --replace puts the listed one there and keeps the other as "
            f"{PREVIOUS}{entry.place.name}",
        )
    found = source.find(entry)
    if found is None:
        named = source.named(entry)
        if named is not None:
            return Outcome(False, f"{named}: {source.misfit(named, entry)}; ask for the file again, it was not placed")
        digits = entry.sha256[:16]
        return Outcome(
            False, f"{entry.name}: not found in {source.folder}, neither by its path nor by SHA-256 {digits}..."
        )
    kept = _keep_previous(entry, entries) if state == "another file" else []
    with replacing(entry.place) as part:
        with part.open("wb") as file:
            for block in _blocks(source.files[found]):
                file.write(block)
        # of what was written: a disk or a share may give other bytes the second time
        if sha256_of(part) != entry.sha256:
            raise UserError(f"{found}: changed while it was copied; run this command again")
    joined = f", joined of {len(source.files[found])} parts" if len(source.files[found]) > 1 else ""
    before = f"; before: {', '.join(kept)}" if kept else ""
    return Outcome(True, f"{entry.name}: placed, from {found.relative_to(source.folder)}{joined}{before}")


def _keep_previous(entry: Listed, entries: Sequence[Listed]) -> list[str]:
    """Copy what is in the place of ``entry`` to ``previous_*``; of weights the sidecar too, which then goes."""
    weights = entry.place.suffix == ".pt"
    sidecar = entry.place.with_suffix(".json")
    kept = []
    for path in (entry.place, *([sidecar] if weights else [])):
        if path.is_file():
            with replacing(path.with_stem(PREVIOUS + path.stem)) as part:
                shutil.copyfile(path, part)
            kept.append(PREVIOUS + path.name)
    # weights never stand beside a sidecar of others
    if weights and not any(other.place == sidecar and other.state() == "there" for other in entries):
        sidecar.unlink(missing_ok=True)
    return kept
