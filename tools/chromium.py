"""A headless Chromium driven over its debugging pipe, to measure and to test pages; the standard library is enough."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from common.errors import UserError


def _high_pipe() -> list[int]:
    """A pipe whose descriptors (read, write) are none of the single digits that a shell redirects."""
    ends = []
    for low in os.pipe():
        ends.append(fcntl.fcntl(low, fcntl.F_DUPFD_CLOEXEC, 10))
        os.close(low)
    return ends


class Chromium:
    """One page of a browser without a window; ends with its ``with`` block.

    Args:
        width: of the window, px.
        height: of the window, px.
        dark: the colours that the page is asked for.

    Raises:
        UserError: there is no Chromium.
    """

    def __init__(self, width: int = 1280, height: int = 900, dark: bool = False) -> None:
        program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
        if program is None:
            raise UserError("chromium: is not installed; apt-get install chromium, or measure on another machine")
        self._profile = tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True)
        read, self._write = _high_pipe()
        self._read, write = _high_pipe()
        # the browser reads commands from descriptor 3 and writes answers to 4; as root it has no sandbox
        command = f'exec "$0" "$@" 3<&{read} 4>&{write}'
        options = [
            "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--remote-debugging-pipe",
            "--no-first-run", "--hide-scrollbars", f"--user-data-dir={self._profile.name}",
            f"--window-size={width},{height}", "about:blank",
        ]  # fmt: skip
        self._process = subprocess.Popen(
            ["bash", "-c", command, program, *options], pass_fds=(read, write), stderr=subprocess.DEVNULL
        )
        os.close(read)
        os.close(write)
        self._number, self._left, self._session = 0, b"", None
        target = next(t for t in self.call("Target.getTargets")["targetInfos"] if t["type"] == "page")
        attached = self.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self._session = attached["sessionId"]
        self.errors: list[str] = []
        self.call("Page.enable")
        self.call("Runtime.enable")
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def __enter__(self) -> Chromium:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()
        os.close(self._read)
        os.close(self._write)
        self._profile.cleanup()

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command of the DevTools protocol; what pages throw meanwhile is kept in ``errors``.

        Raises:
            RuntimeError: the browser ended or refused the command.
        """
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self._write, data) :]
        while True:
            while b"\0" not in self._left:
                more = os.read(self._read, 1 << 20)
                if not more:
                    raise RuntimeError("chromium ended")
                self._left += more
            line, _, self._left = self._left.partition(b"\0")
            answer = json.loads(line)
            if answer.get("method") == "Runtime.exceptionThrown":
                self.errors.append(json.dumps(answer["params"]["exceptionDetails"]))
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]

    def evaluate(self, script: str) -> Any:
        """The value of a JavaScript expression, awaited if it is a promise."""
        found = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in found:
            raise RuntimeError(json.dumps(found["exceptionDetails"]))
        return found["result"].get("value")

    def wait(self, script: str, seconds: float = 60) -> None:
        """Wait until a JavaScript expression is true.

        Raises:
            RuntimeError: it is not after ``seconds``.
        """
        end = time.monotonic() + seconds
        while not self.evaluate(f"Boolean({script})"):
            if time.monotonic() > end:
                raise RuntimeError(f"still not: {script}")
            time.sleep(0.01)

    def open(self, path: Path, fragment: str = "") -> None:
        """Go to a file; returns at once."""
        self.call("Page.navigate", url=path.resolve().as_uri() + fragment)

    def key(self, key: str, text: str = "") -> None:
        """Press and release a key, such as "ArrowRight"; ``text`` is what it types."""
        self.call("Input.dispatchKeyEvent", type="keyDown", key=key, code=key, text=text)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key, code=key)

    def screenshot(self, path: Path) -> None:
        """Write what is seen as PNG."""
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))
