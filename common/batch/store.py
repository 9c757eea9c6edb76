"""What a run planned and what it has done, in ``.work`` of the output folder, so that the same command goes on.

A batch is done when its file is there, and that is written last; a kill in between costs the batch, which is then
redone whole. The batches are fixed in the plan: the same images go through the network together in every attempt, and
what is written is the same to the last byte.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from common.errors import UserError
from common.files import write_text
from common.images.meta import shown

FOLDER = ".work"
_WRITTEN = (
    "masks",
    "overlays",
    "seg",
    "captures",
    "results.csv",
    "results.json",
    "timing.csv",
    "report.html",
    "report",
)


class Entry(NamedTuple):
    """A file as the plan knows it: what changed since is another file.

    Attributes:
        key: its name, or the pseudonym of it.
        size: bytes.
        changed: nanoseconds.
        target: its name in the output folder.
        refused: it goes into no batch of the network.
    """

    key: str
    size: int
    changed: int
    target: str
    refused: bool


class Store:
    """Plan and progress of the run in one output folder.

    Args:
        output: the folder; made if missing.

    Raises:
        UserError: another run is at work in it, or it cannot be written to.
    """

    def __init__(self, output: Path) -> None:
        self.folder = output / FOLDER
        try:
            (self.folder / "done").mkdir(parents=True, exist_ok=True)
            self._lock = (self.folder / "lock").open("w")
        except OSError as error:
            raise UserError(f"{shown(output)}: cannot be written to ({error.strerror}); name another folder") from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            raise UserError(f"{shown(output)}: another run is writing here; wait for it or name another one") from None
        self.parts: list[list[list[Entry]]] = [self._part(path) for path in sorted(self.folder.glob("plan-*.json"))]

    def close(self) -> None:
        """Let others in."""
        self._lock.close()

    def lost(self) -> bool:
        """Whether the folder was taken away since, or another put in its place."""
        try:
            return not os.path.samestat(os.fstat(self._lock.fileno()), (self.folder / "lock").stat())
        except OSError:
            return True

    def claim(self, command: dict[str, Any]) -> bool:
        """Say what is run here; True if it was begun already.

        Raises:
            UserError: the folder holds what another command made.
        """
        path = self.folder / "command.json"
        output = self.folder.parent
        if path.exists():
            before = json.loads(path.read_text())
            other = [key for key in sorted(command.keys() | before.keys()) if command.get(key) != before.get(key)]
            if not other:
                return True
            if any((self.folder / "done").iterdir()):
                raise UserError(
                    f"{shown(output)}: holds the results of another command ({', '.join(other)} differ); give another "
                    f"--output, or --restart to begin anew"
                )
            # it ended before anything was done: a slip that was mended
            self.clear()
        elif there := [name for name in _WRITTEN if (output / name).exists()]:
            raise UserError(
                f"{shown(output)}: holds {', '.join(there)}, which no run wrote that is known here, and would be "
                f"written over; give another --output"
            )
        write_text(path, json.dumps(command, indent=4) + "\n")
        return False

    def clear(self) -> None:
        """Forget all that an earlier run planned and did, and remove what it wrote; nothing if there was none."""
        command = self.folder / "command.json"
        if not command.exists():
            return
        # what is done first, the command last: a kill in between leaves nothing that seems to be done, and no doubt
        # about whose files these are
        for path in [self.folder / "done", *self.folder.glob("plan-*.json"), self.folder / "fractional"]:
            _remove(path)
        for name in _WRITTEN:
            _remove(self.folder.parent / name)
        (self.folder / "done").mkdir()
        command.unlink()
        self.parts = []

    def plan(self, entries: Sequence[Entry], size: int) -> None:
        """Put entries, in order, into batches of at most ``size`` images for the network, behind those planned."""
        batches: list[list[Entry]] = [[]]
        wanted = 0
        for entry in entries:
            # refused files stand where they come; many in a row make batches too, so that none grows without end
            if wanted == size or len(batches[-1]) == 8 * size:
                batches.append([])
                wanted = 0
            batches[-1].append(entry)
            wanted += not entry.refused
        text = json.dumps(batches, separators=(",", ":"))
        write_text(self.folder / f"plan-{len(self.parts):06d}.json", text)
        self.parts.append(batches)

    def _part(self, path: Path) -> list[list[Entry]]:
        return [[Entry(*entry) for entry in batch] for batch in json.loads(path.read_text())]

    def batches(self) -> Iterator[tuple[int, list[Entry]]]:
        """All batches planned, with their numbers."""
        number = 0
        for part in self.parts:
            for batch in part:
                yield number, batch
                number += 1

    def known(self) -> dict[str, Entry]:
        """The newest entry of each key."""
        return {entry.key: entry for _, batch in self.batches() for entry in batch}

    def newest(self) -> dict[str, int]:
        """The last batch of each key."""
        return {entry.key: number for number, batch in self.batches() for entry in batch}

    def is_done(self, number: int) -> bool:
        """Whether a batch's results are there."""
        return self._file(number).exists()

    def finish(self, number: int, rows: list[dict[str, Any]], seconds: list[dict[str, float]]) -> None:
        """Keep a batch's rows; all it wrote is in place before."""
        write_text(self._file(number), json.dumps({"rows": rows, "seconds": seconds}, separators=(",", ":")))

    def done(self, number: int) -> tuple[list[dict[str, Any]], list[dict[str, float]]]:
        """Rows of a batch, and the seconds that each took; none if it is not done."""
        path = self._file(number)
        if not path.exists():
            return [], []
        kept = json.loads(path.read_text())
        return kept["rows"], kept["seconds"]

    def rows(self) -> Iterator[tuple[dict[str, Any], dict[str, float]]]:
        """All rows done, in the plan's order, the newest of each source, with seconds."""
        newest = self.newest()
        for number, _ in self.batches():
            for row, seconds in zip(*self.done(number), strict=True):
                if newest[row["source"]] == number:
                    yield row, seconds

    def _file(self, number: int) -> Path:
        return self.folder / "done" / f"{number:08d}.json"

    def note(self, name: str, facts: dict[str, Any]) -> None:
        """Keep facts under a name, such as those of a series."""
        write_text(self.folder / "done" / f"{name}.json", json.dumps(facts))

    def noted(self, name: str) -> dict[str, Any]:
        """The facts kept under a name; {} if none."""
        path = self.folder / "done" / f"{name}.json"
        return json.loads(path.read_text()) if path.exists() else {}


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
