"""New images of an Orthanc are segmented, and the segmentations are stored beside them.

It asks Orthanc's REST interface for changes, waits until a series is stable (Orthanc's ``StableAge``, 60 s), fetches
its instances and the structured reports of its study, runs a command on them, and stores every DICOM Segmentation and
Secondary Capture that the command wrote. Those are of other modalities, so that it never works on its own results.

Nothing is lost or done by halves: the place in the list of changes is saved only when all of a page is stored. After a
kill the page is done again, and equal objects of equal UIDs change nothing in Orthanc. What is printed names series by
Orthanc's identifiers, never a patient.
"""

from __future__ import annotations

import base64
import http.client
import json
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from common.errors import UserError
from common.files import replacing, write_text

_PAGE = 100
_DERIVED = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.7")  # Segmentation, Secondary Capture
_DONE, _SOME_REFUSED, _NOTHING_USABLE, _STOPPED = 0, 1, 2, 3  # exit codes of `python -m tools segment`


class Unreachable(UserError):
    """The server does not answer; it may later."""


class Orthanc:
    """Orthanc's REST interface, as far as it is needed here.

    Args:
        url: Such as ``http://127.0.0.1:8042``.
        user: Empty if it asks for none.
        password: Of the user.
    """

    def __init__(self, url: str, user: str = "", password: str = "") -> None:
        if not url.startswith(("http://", "https://")):
            raise UserError(f"{url}: no address of an Orthanc; write http://HOST:PORT")
        self.url = url.rstrip("/")
        token = base64.b64encode(f"{user}:{password}".encode()).decode()
        self._headers = {"Authorization": f"Basic {token}"} if user else {}

    def get(self, path: str) -> Any:
        """The JSON at ``path``; None if there is no such thing (any more).

        Raises:
            UserError: It refuses, or is no Orthanc; :class:`Unreachable` if it does not answer.
        """
        data = self._ask(path)
        try:
            return None if data is None else json.loads(data)
        except ValueError as error:
            raise UserError(f"{self.url}{path}: no answer of an Orthanc; check the address") from error

    def fetch(self, instance: str, path: Path) -> bool:
        """Write an instance's file; False if it is not there any more."""
        data = self._ask(f"/instances/{instance}/file")
        if data is not None:
            with replacing(path) as part:
                part.write_bytes(data)
        return data is not None

    def store(self, path: Path) -> str:
        """Store a DICOM file; ``Success`` or ``AlreadyStored``.

        Raises:
            UserError: Orthanc does not take it.
        """
        answer = json.loads(self._ask("/instances", path.read_bytes()) or b"{}")
        status = str(answer.get("Status", "") if isinstance(answer, dict) else "")
        if status not in ("Success", "AlreadyStored"):
            raise UserError(f"{path}: not stored by {self.url} ({status or 'no status'}); see Orthanc's log")
        return status

    def _ask(self, path: str, body: bytes | None = None) -> bytes | None:
        kind = {"Content-Type": "application/dicom"} if body is not None else {}
        request = urllib.request.Request(self.url + path, data=body, headers=self._headers | kind)
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                return answer.read()
        except urllib.error.HTTPError as error:
            if error.code == 404 and body is None:
                return None
            if error.code in (401, 403):
                raise UserError(f"{self.url}: refuses the user or the password ({error.code}); check both") from error
            kind_of_error = Unreachable if error.code >= 500 else UserError
            raise kind_of_error(f"{self.url}: answers {error.code} to {path}; see Orthanc's log") from error
        except (OSError, http.client.HTTPException) as error:
            raise Unreachable(f"{self.url}: does not answer ({type(error).__name__}); is Orthanc running?") from error


@dataclass(frozen=True)
class Watch:
    """What to do with new series.

    Attributes:
        orthanc: Where they come from and go back to.
        folder: For the state and, while they are worked on, the images.
        command: Makes the command line from an input and an output folder.
        modalities: Of series that are segmented.
        say: Gets each line of progress.
        failed: Series on which the command broke, in the saved state until somebody deletes them.
    """

    orthanc: Orthanc
    folder: Path
    command: Callable[[Path, Path], Sequence[str]]
    modalities: frozenset[str] = frozenset({"CR", "DX"})
    say: Callable[[str], None] = print
    failed: list[str] = field(default_factory=list)

    def begin(self, from_start: bool) -> int:
        """Where to go on in the list of changes: as saved, else at its end, or at its start.

        Raises:
            UserError: The saved state cannot be read.
        """
        last = int((self.orthanc.get("/changes?last") or {}).get("Last", 0))
        if self._state.exists():
            try:
                state = json.loads(self._state.read_text(encoding="utf-8"))
                since, self.failed[:] = int(state["since"]), state["failed"]
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise UserError(f"{self._state}: no state of this command; delete it to begin anew") from error
            if self.failed:
                self.say(f"{len(self.failed)} series failed before; {self._state} names them")
            if since <= last:
                return since
            self.say("the list of changes is shorter than before, so it is another database: begun at its start")
            return 0
        return 0 if from_start else last

    def page(self, since: int) -> tuple[int, bool]:
        """Work on the changes after ``since``: (where to go on, whether that was all for now).

        Raises:
            UserError: The command was stopped, or Orthanc does not take a file or does not answer; the page stays
                to be done.
        """
        answer = self.orthanc.get(f"/changes?since={since}&limit={_PAGE}") or {}
        changes = [change for change in answer.get("Changes", []) if change.get("ChangeType") == "StableSeries"]
        work = self.folder / f"work-{since}"
        series = [name for name in dict.fromkeys(change["ID"] for change in changes) if self._fetch(name, work / "in")]
        if series:
            self._segment(series, work)
        shutil.rmtree(work, ignore_errors=True)
        since = int(answer.get("Last", since))
        write_text(self._state, json.dumps({"since": since, "failed": self.failed}) + "\n")
        return since, bool(answer.get("Done", True))

    @property
    def _state(self) -> Path:
        return self.folder / "state.json"

    def _fetch(self, series: str, folder: Path) -> bool:
        """Fetch a series and its study's reports into a folder of its own; False if it is not to be segmented."""
        found = self.orthanc.get(f"/series/{series}")
        if found is None or found["MainDicomTags"].get("Modality", "").strip().upper() not in self.modalities:
            return False
        beside = self.orthanc.get(f"/studies/{found['ParentStudy']}/series") or []
        reports = [other for other in beside if other["MainDicomTags"].get("Modality", "").strip() == "SR"]
        instances = [name for other in (found, *reports) for name in other["Instances"]]
        fetched = [self.orthanc.fetch(name, folder / series / f"{name}.dcm") for name in instances]
        return any(fetched)

    def _segment(self, series: list[str], work: Path) -> None:
        """One run for all; if that breaks, one for each, so that one series does not hold up the others."""
        code = self._run(work / "in", work / "out")
        if code in (_DONE, _SOME_REFUSED, _NOTHING_USABLE):
            self._store(series, code, work / "out")
            return
        for name in series:
            code = self._run(work / "in" / name, work / f"out-{name}")
            self._store([name], code, work / f"out-{name}")

    def _run(self, images: Path, output: Path) -> int:
        code = subprocess.run(self.command(images, output), check=False).returncode
        # a wrong option ends with 2 as well, and then there is no table of results
        if code in (_STOPPED, 130) or (code == _NOTHING_USABLE and not (output / "results.csv").exists()):
            raise UserError(f"{output}: segmenting was stopped; mend what its last line says and start this again")
        return code

    def _store(self, series: list[str], code: int, output: Path) -> None:
        stored = [self.orthanc.store(path) for path in derived_files(output)]
        what = {_DONE: "done", _SOME_REFUSED: "some images refused", _NOTHING_USABLE: "no usable image"}
        if code not in what:
            self.failed.extend(series)
        outcome = what.get(code, f"FAILED with exit code {code}: segment this series by hand")
        self.say(f"series {' '.join(series)}: {outcome}, {len(stored)} objects stored, {stored.count('Success')} new")


def derived_files(folder: Path) -> Iterator[Path]:
    """The DICOM Segmentations and Secondary Captures below a folder, by content."""
    import pydicom

    for path in sorted(folder.rglob("*.dcm")):
        header = pydicom.dcmread(path, force=True, specific_tags=["SOPClassUID"], stop_before_pixels=True)
        if header.get("SOPClassUID") in _DERIVED:
            yield path


def watch(task: Watch, *, from_start: bool, once: bool, seconds: float) -> None:
    """Work on new series until stopped, or with ``once`` until there are no more.

    Args:
        task: What to do.
        from_start: Begin with all that Orthanc holds, if there is no saved state.
        once: Do not wait for more, and do not wait for an Orthanc that does not answer.
        seconds: Between two questions.

    Raises:
        UserError: As :meth:`Watch.page`.
    """
    since, silent = None, ""
    while True:
        done = True
        try:
            since = task.begin(from_start) if since is None else since
            since, done = task.page(since)
            silent = ""
        except Unreachable as error:
            if once:
                raise
            if str(error) != silent:
                task.say(f"waiting: {error}")
            silent = str(error)
        if done and once:
            return
        if done:
            time.sleep(seconds)
