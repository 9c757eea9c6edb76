"""Faults of the user: one line that names the file or key, the fault and the fix."""

from __future__ import annotations

import os
import sys
from types import TracebackType


class UserError(Exception):
    """A fault the user can mend. The message is one line: file or config key, fault, fix."""


def user_error(error: BaseException | None) -> UserError | None:
    """The first :class:`UserError` in the chain of causes of ``error``, if there is one.

    MONAI wraps what a transform or a component raises in a ``RuntimeError``; the user's line is the cause below.
    """
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, UserError):
            return error
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return None


def install_excepthook() -> None:
    """Print a :class:`UserError` as its one line, and nothing else, when it ends the program.

    ``CHEST_REFSEG_DEBUG=1`` (or ``--debug`` of ``python -m tools``) keeps the traceback.
    """
    if getattr(sys.excepthook, "_chest_refseg", False):
        return
    previous = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        found = user_error(error)
        if found is None or os.environ.get("CHEST_REFSEG_DEBUG"):
            previous(kind, error, trace)
        else:
            print(f"error: {found}", file=sys.stderr)

    hook._chest_refseg = True  # type: ignore[attr-defined]
    sys.excepthook = hook
