"""Drives LiteRT.js in a headless Chromium: a page of ours takes files from a local server and reports back to it.

The server isolates the page (COOP and COEP), without which a browser gives it no shared memory. WebGPU runs on
SwiftShader, in software: which ops it takes does not depend on that, its speed does.
"""

from __future__ import annotations

import contextlib
import dataclasses
import http.server
import json
import queue
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from pipeline.core.errors import CompilerError
from pipeline.core.keeper import scratch_folder
from pipeline.core.program import begun

HOME = Path(__file__).resolve().parents[2] / "web"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
INSTALL_BROWSER = "sudo apt-get install --no-install-recommends chromium"
INSTALL_NPM = "pip install -r requirements-web.txt"
INSTALL_PACKAGE = "npm ci --prefix web"
TIMEOUT_SECONDS = 180
"""For one file; software WebGPU needs about 10 s for the networks here."""
FLAGS = (
    "--headless=new",
    "--no-sandbox",  # which needs user namespaces or setuid; the browser loads nothing but our own page
    "--disable-dev-shm-usage",
    "--enable-unsafe-webgpu",
    "--enable-features=Vulkan",
    "--use-webgpu-adapter=swiftshader",
)
TYPES = {".html": "text/html", ".js": "text/javascript", ".wasm": "application/wasm", "": "application/octet-stream"}
Backend = Literal["wasm", "webgpu"]


class Server(http.server.ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that was killed leaves broken connections; they are not reported."""


@dataclasses.dataclass(frozen=True)
class BrowserReply:
    """What LiteRT.js did with one file.

    Attributes:
      error: empty where it compiled, and ran if it was to.
      log: its messages, a line each.
      output: of a run.
    """

    error: str
    log: str
    output: np.ndarray | None = None


def browser() -> str | None:
    return next((path for name in BROWSERS if (path := shutil.which(name))), None)


def missing() -> str | None:
    if browser() is None:
        return INSTALL_BROWSER
    if (HOME / "node_modules/@litertjs/core/package.json").is_file():
        return None
    if shutil.which("npm"):
        return INSTALL_PACKAGE
    beside = Path(sys.executable).with_name("npm")
    return f"{beside.parent}/{INSTALL_PACKAGE}" if beside.is_file() else f"{INSTALL_NPM} && {INSTALL_PACKAGE}"


def version() -> str:
    """Of LiteRT.js, as installed."""
    package = HOME / "node_modules/@litertjs/core/package.json"
    return f"LiteRT.js {json.loads(package.read_text())['version']}"


def ask_files(files: Sequence[Path], on: Backend, image: np.ndarray | None = None) -> list[BrowserReply]:
    """Compiles each file with LiteRT.js; with ``image``, an input that fits all of them, runs them too.

    Raises CompilerError where the browser or the package is missing, or the browser does not start.
    """
    needed = missing()
    if needed:
        raise CompilerError(f"LiteRT.js is not ready on this machine: run `{needed}`.")
    replies: list[BrowserReply] = []
    while len(replies) < len(files):  # once, but for a file that ends the tab
        replies += _session(files[len(replies) :], on, image)
    return replies


def _session(files: Sequence[Path], on: Backend, image: np.ndarray | None) -> list[BrowserReply]:
    """One browser: replies up to the first file that it does not answer."""
    messages: queue.Queue[tuple[int, dict[str, Any]]] = queue.Queue()
    outputs: dict[int, bytes] = {}
    jobs = iter([{"id": i, "on": on, "run": image is not None} for i in range(len(files))])

    class Handler(http.server.SimpleHTTPRequestHandler):
        extensions_map = TYPES

        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments, directory=str(HOME))

        def end_headers(self) -> None:
            self.send_header("Cross-Origin-Opener-Policy", "same-origin")
            self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
            self.send_header("Cache-Control", "no-store")
            super().end_headers()

        def log_message(self, format: str, *arguments: Any) -> None:
            pass

        def send(self, data: bytes, status: int = 200) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def do_GET(self) -> None:
            _, kind, *rest = self.path.split("/")
            if kind == "job":
                job = next(jobs, None)
                self.send(json.dumps(job).encode() if job else b"", 200 if job else 204)
            elif kind == "model":
                self.send(files[int(rest[0])].read_bytes())
            elif kind == "input" and image is not None:
                self.send(np.ascontiguousarray(image).tobytes())
            else:
                super().do_GET()

        def do_POST(self) -> None:
            _, kind, number = self.path.split("/")
            data = self.rfile.read(int(self.headers["Content-Length"]))
            if kind == "output":
                outputs[int(number)] = data
            else:
                messages.put((int(number), json.loads(data)))
            self.send(b"", 204)  # then only: what the page sends next comes in another thread

    with Server(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with _opened(f"http://127.0.0.1:{server.server_port}/page.html") as process:
            replies = _collected(len(files), messages, outputs, process)
        server.shutdown()
    return replies


def _collected(
    count: int,
    messages: queue.Queue[tuple[int, dict[str, Any]]],
    outputs: Mapping[int, bytes],
    process: subprocess.Popen[bytes],
) -> list[BrowserReply]:
    """The replies to ``count`` jobs, up to the first that does not come; raises CompilerError where none can."""
    replies: list[BrowserReply] = []
    for _ in range(count):
        try:
            number, message = messages.get(timeout=TIMEOUT_SECONDS)
        except queue.Empty:
            if process.poll() is not None and not replies:
                raise CompilerError(f"{browser()} ended at once (exit code {process.returncode}).") from None
            replies.append(BrowserReply(f"no answer in {TIMEOUT_SECONDS} s", ""))
            break
        output = np.frombuffer(outputs[number], message["dtype"]) if number in outputs else None
        replies.append(BrowserReply(message.get("error", ""), "\n".join(message["said"]), output))
    return replies


@contextlib.contextmanager
def _opened(address: str) -> Iterator[subprocess.Popen[bytes]]:
    """A browser with a profile of its own, which goes with it."""
    nowhere = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with scratch_folder("browser-") as profile:
        command = [browser() or BROWSERS[0], *FLAGS, f"--user-data-dir={profile}", address]
        with begun(command, grace_seconds=0, **nowhere) as process:
            yield process
