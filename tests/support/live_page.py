"""Serves a bundle to a headless Chromium, with a page that does what a user does; collects what it reports."""

from __future__ import annotations

import contextlib
import json
import queue
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.bundle.parts.browser import serve
from pipeline.compilers import browser

DRIVER = Path(__file__).with_name("page_driver.html")
TIMEOUT_SECONDS = 600
CAMERA = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")


def driven(bundle: Path, images: Mapping[str, bytes], monkeypatch: Any) -> dict[str, bytes]:
    """What the page reports, by name; the last is 'end', a list of errors. ``images``: PNG files, dropped in turn."""
    reports: dict[str, bytes] = {}
    ended: queue.Queue[None] = queue.Queue()
    answers = {"/images": json.dumps(list(images)).encode(), "/driver.html": DRIVER.read_bytes()}
    answers |= {f"/image/{name}": data for name, data in images.items()}

    class Handler(serve.Handler):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments, directory=str(bundle))

        def log_message(self, format: str, *arguments: Any) -> None:
            pass

        def do_GET(self) -> None:
            if self.path not in answers:
                super().do_GET()
                return
            self.send_response(200)
            self.send_header("Content-Type", self.guess_type(self.path))
            self.send_header("Content-Length", str(len(answers[self.path])))
            self.end_headers()
            self.wfile.write(answers[self.path])

        def do_POST(self) -> None:
            name = self.path.removeprefix("/report/")
            reports[name] = self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(204)
            self.end_headers()
            if name == "end":
                ended.put(None)

    monkeypatch.setattr(browser, "FLAGS", (*browser.FLAGS, *CAMERA))
    with browser.Server(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with browser._opened(f"http://localhost:{server.server_port}/driver.html"), contextlib.suppress(queue.Empty):
            ended.get(timeout=TIMEOUT_SECONDS)
        server.shutdown()
    assert "end" in reports, f"no end in {TIMEOUT_SECONDS} s; reports: {sorted(reports)} {reports.get('golden')!r}"
    return reports
