"""Folders for what requests and tasks write on the way, patients' pictures among it: gone when they are answered.

MONAI Label, ITK's writer and the conversions here make temporary files by names that they forget when something goes
wrong. Python's :mod:`tempfile` asks :func:`tempfile.gettempdir` where: here that is the request's own folder, which is
removed once the answer is sent, whatever the answer is. Training, batch inference and scoring run in processes of their
own, each with a folder that it removes when it ends; what a killed one leaves, the next one and the next server remove.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from contextvars import ContextVar
from pathlib import Path
from typing import Any

_OWN: ContextVar[str | None] = ContextVar("folder of the request", default=None)
_TASK = "task-"


def use(folder: Path) -> None:
    """Let temporary files of this process be in ``folder``, those of a request in its own below; it is emptied."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    os.environ["TMPDIR"] = tempfile.tempdir = str(folder)
    tempfile.gettempdir = lambda: _OWN.get() or str(folder)


def clear() -> None:
    """Empty the folder of this process, before any request: MONAI Label leaves the settings of its logs there."""
    use(Path(tempfile.gettempdir()))


def use_of_task() -> None:
    """A folder for this process, below that of the server that started it."""
    base = Path(tempfile.gettempdir())
    for old in base.glob(f"{_TASK}*"):
        if not _alive(old.name.removeprefix(_TASK)):
            shutil.rmtree(old, ignore_errors=True)
    own, pid = base / f"{_TASK}{os.getpid()}", os.getpid()
    own.mkdir(exist_ok=True)
    os.environ["TMPDIR"] = tempfile.tempdir = str(own)

    def remove() -> None:
        # a fork is not its parent
        if os.getpid() == pid:
            shutil.rmtree(own, ignore_errors=True)

    atexit.register(remove)


def _alive(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except (ValueError, ProcessLookupError):
        return False
    except PermissionError:
        pass
    return True


class Scratch:
    """ASGI middleware: a folder for each request, removed when its answer is sent.

    Args:
        app: what answers.
    """

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        folder = tempfile.mkdtemp(prefix="request-")
        token = _OWN.set(folder)
        try:
            await self.app(scope, receive, send)
        finally:
            _OWN.reset(token)
            shutil.rmtree(folder, ignore_errors=True)
