"""What a running program prints on a pipe: read as it comes, so that it never blocks, and bounded."""

from __future__ import annotations

import os
import select
import threading
import time
from typing import IO

from pipeline.core.program import CHUNK_BYTES, KEPT_BYTES, Bounded, text_of

POLL_SECONDS = 0.2
CATCH_UP_SECONDS = 1.0


class Printed:
    """Close it when the program has ended."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream, self._kept = stream, Bounded(KEPT_BYTES)
        self._lock, self._closed = threading.Lock(), False
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        while not self._closed:
            if self._readable(POLL_SECONDS):
                with self._lock:
                    data = os.read(self._stream.fileno(), CHUNK_BYTES)
                    self._kept.add(data)
                if not data:
                    return

    def text(self) -> str:
        """All of it so far, without its middle where it is long."""
        until = time.monotonic() + CATCH_UP_SECONDS
        while self._thread.is_alive() and time.monotonic() < until and self._waits():
            time.sleep(0.005)
        with self._lock:
            return text_of(bytes(self._kept))

    def _waits(self) -> bool:
        """Whether something was printed that is not read yet."""
        with self._lock:
            return self._readable(0)

    def _readable(self, seconds: float) -> bool:
        poll = select.poll()  # select() takes no descriptor above 1023, which a machine of many cores comes to
        poll.register(self._stream.fileno(), select.POLLIN)
        return bool(poll.poll(1000 * seconds))

    def close(self) -> None:
        self._closed = True
        self._thread.join()
        self._stream.close()
