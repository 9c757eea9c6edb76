"""Faults of the user: one line that names the file or key, the fault and the fix."""

from __future__ import annotations

import os
import re
import sys
from types import TracebackType


class UserError(Exception):
    """A fault the user can mend. The message is one line: file or config key, fault, fix."""


# A data loader's worker hands its exception over as text, the traceback included.
_IN_TEXT = re.compile(r"^(?:common\.errors\.)?UserError: (.+)$", re.MULTILINE)


def user_error(error: BaseException | None) -> UserError | None:
    """The :class:`UserError` that caused ``error``, if one did.

    MONAI wraps what a transform or a component raises in a ``RuntimeError``; the user's line is the cause below, or
    stands in the text that came out of a data loader's worker. What was raised while a UserError was handled is no
    fault of the user.
    """
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if "\n" in str(error) and (line := _IN_TEXT.search(str(error))):
            return UserError(line.group(1))
        if isinstance(error, UserError):
            return error
        seen.add(id(error))
        error = error.__cause__
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
