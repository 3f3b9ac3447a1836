"""Serves this folder's page on this machine: http://localhost:8000/browser/

python serve.py [PORT]
"""

from __future__ import annotations

import functools
import http.server
import sys
from pathlib import Path


class Handler(http.server.SimpleHTTPRequestHandler):
    extensions_map = {  # noqa: RUF012  # as the base class has it
        ".html": "text/html",
        ".js": "text/javascript",
        ".json": "application/json",
        ".wasm": "application/wasm",
        ".png": "image/png",
        "": "application/octet-stream",
    }

    def end_headers(self) -> None:
        # Isolates the page, without which a browser gives it no shared memory for threads.
        self.send_header("Cross-Origin-Opener-Policy", "same-origin")
        self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
        super().end_headers()


def main(port: int) -> None:
    home = Path(__file__).resolve().parent.parent
    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), functools.partial(Handler, directory=str(home)))
    print(f"http://localhost:{server.server_port}/browser/", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 8000)
