"""A headless Chromium driven through a pipe (the DevTools protocol): looks, types and listens as a person would."""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.compilers.browser import FLAGS, browser

SECONDS = 60
KEYS = {"Tab": 9, "Enter": 13, " ": 32, "End": 35, "Home": 36, "ArrowLeft": 37, "ArrowRight": 39, "ArrowDown": 40}


class Page:
    """A tab. ``problems``: every error and warning that it reported since it was opened."""

    def __init__(self, write: int, read: int) -> None:
        self._write, self._read, self._buffer, self._number = write, read, b"", 0
        self.problems: list[str] = []
        self.requests: list[str] = []
        target = self._send("Target.createTarget", {"url": "about:blank"}, in_tab=False)["targetId"]
        attached = self._send("Target.attachToTarget", {"targetId": target, "flatten": True}, in_tab=False)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self._send(f"{domain}.enable")

    def _send(self, method: str, parameters: dict[str, Any] | None = None, in_tab: bool = True) -> dict[str, Any]:
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters or {}}
        if in_tab:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            more = os.read(self._read, 1 << 20)
            assert more, "the browser ended"
            self._buffer += more
        message, _, self._buffer = self._buffer.partition(b"\0")
        event = json.loads(message)
        about = event.get("params", {})
        if event.get("method") == "Runtime.exceptionThrown":
            self.problems.append(json.dumps(about["exceptionDetails"]))
        elif event.get("method") == "Runtime.consoleAPICalled" and about["type"] in ("error", "warning", "assert"):
            self.problems.append(json.dumps(about["args"]))
        elif event.get("method") == "Log.entryAdded" and about["entry"]["level"] in ("error", "warning"):
            self.problems.append(about["entry"]["text"])
        elif event.get("method") == "Network.requestWillBeSent":
            self.requests.append(about["request"]["url"][:200])
        return event

    def open(self, file: Path, width: int = 1200, dark: bool = False) -> None:
        """At this many CSS pixels across, in light or in dark."""
        metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
        self._send("Emulation.setDeviceMetricsOverride", metrics)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._send("Emulation.setEmulatedMedia", {"media": "", "features": [scheme]})
        self._send("Page.navigate", {"url": file.resolve().as_uri()})
        until = time.monotonic() + SECONDS
        while self("document.readyState") != "complete":
            assert time.monotonic() < until, "the page does not end to load"
            time.sleep(0.05)

    def __call__(self, expression: str) -> Any:
        """The value of a JavaScript expression; a promise is waited for."""
        asked = {"expression": expression, "returnByValue": True, "awaitPromise": True}
        answer = self._send("Runtime.evaluate", asked)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def press(self, key: str, times: int = 1) -> None:
        for _ in range(times):
            about = {"key": key, "code": "Space" if key == " " else key, "windowsVirtualKeyCode": KEYS[key]}
            typed = {"text": {" ": " ", "Enter": "\r"}[key]} if key in (" ", "Enter") else {}
            self._send("Input.dispatchKeyEvent", {"type": "keyDown", **about, **typed})
            self._send("Input.dispatchKeyEvent", {"type": "keyUp", **about})

    def print(self, file: Path) -> None:
        """As a PDF."""
        answer = self._send("Page.printToPDF", {"printBackground": False, "preferCSSPageSize": False})
        file.write_bytes(base64.b64decode(answer["data"]))

    def picture(self, file: Path) -> None:
        """The whole page as a PNG."""
        answer = self._send("Page.captureScreenshot", {"captureBeyondViewport": True})
        size = self._send("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        answer = self._send("Page.captureScreenshot", {"captureBeyondViewport": True, "clip": clip})
        file.write_bytes(base64.b64decode(answer["data"]))


def _higher(end: int) -> int:
    """The same end of a pipe under a number that is neither of the two that the browser wants."""
    duplicate = fcntl.fcntl(end, fcntl.F_DUPFD, 10)
    os.close(end)
    return duplicate


@contextlib.contextmanager
def chromium() -> Iterator[Page]:
    """A browser of its own, which goes with it."""
    to_browser, ours = os.pipe()
    from_browser, theirs = os.pipe()
    to_browser, theirs = (_higher(end) for end in (to_browser, theirs))
    with tempfile.TemporaryDirectory(prefix="browser-", ignore_cleanup_errors=True) as profile:
        command = [browser() or "chromium", *FLAGS, f"--user-data-dir={profile}", "--remote-debugging-pipe"]
        process = subprocess.Popen(
            ["bash", "-c", f'exec "$@" 3<&{to_browser} 4>&{theirs}', "bash", *command],
            pass_fds=(to_browser, theirs),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(to_browser)
        os.close(theirs)
        try:
            yield Page(ours, from_browser)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, 9)  # its group: it starts processes of its own
            process.wait()
            os.close(ours)
            os.close(from_browser)
