"""benchmark_model as its makers publish it, fetched once into the user's cache.

The place and the names of the files: ai.google.dev/edge/litert/models/measurement, "Native benchmark binary".
It is a nightly build: its sha256 is recorded at the download and checked each time that the file is used.
"""

from __future__ import annotations

import fcntl
import http.client
import json
import os
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from pipeline.core.errors import DeviceError
from pipeline.core.files import sha256, write_atomically
from pipeline.core.json_file import BadJson, load_as
from pipeline.drivers.answers import whole_number

PLACE = "https://storage.googleapis.com/tensorflow-nightly-public/prod/tensorflow/release/lite/tools/nightly/latest"
TRUSTED = ("https://", "http://127.0.0.1:")
"""What addresses begin with: of others, anybody on the way could change the program."""
TRIES = 3
SILENCE_SECONDS = 30
PAUSE_SECONDS = 1
CHUNK_BYTES = 1 << 18
MOST_BYTES = 1 << 30
"""Many times what any build has."""


def cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "segquant"


def benchmark_model(build: str, place: str = PLACE, folder: Path | None = None) -> Path:
    """The file of a build, as PLACE calls them ('android_aarch64', 'android_arm', 'linux_aarch64', 'linux_arm',
    'linux_x86-64'); raises DeviceError.
    """
    file = (folder or cache()) / f"{build}_benchmark_model"
    try:
        return fetch(f"{place}/{file.name}", file)
    except OSError as error:
        raise DeviceError(
            f"{file} cannot be written or read ({error.strerror}): name another cache in XDG_CACHE_HOME, or give"
            " benchmark_model with --benchmark-binary."
        ) from None


def fetch(url: str, file: Path) -> Path:
    """``file``, downloaded from ``url`` where it is not there yet.

    Raises DeviceError where it cannot be had, or where the file is no longer what was downloaded.
    """
    if not url.startswith(TRUSTED):
        raise DeviceError(f"{url} is not fetched, for its way here is not protected: give an address with https.")
    record = file.with_name(f"{file.name}.json")
    if file.is_file() and record.is_file():
        if _recorded(record) != sha256(file):
            raise DeviceError(
                f"{file} is not what was downloaded (its sha256 is not the one in {record.name}): delete it; the"
                " next command downloads it again."
            )
        return file
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f"{file.name}.part")
    with open(part, "ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another command may be fetching it
        if file.is_file() and record.is_file():
            return file
        for left in reversed(range(TRIES)):
            try:
                _download(url, part)
                break
            except (OSError, http.client.HTTPException, ValueError) as error:
                refused = isinstance(error, urllib.error.HTTPError) and error.code < 500
                if not left or refused or isinstance(error, ValueError):  # asking again would not help
                    os.truncate(part, 0)
                    raise _cannot(url, error) from None
                time.sleep(PAUSE_SECONDS)
        with open(part, "rb") as program:
            if program.read(4) != b"\x7fELF":
                os.truncate(part, 0)
                raise _cannot(url, ValueError("the download is not a program, perhaps a login page"))
        facts = {"url": url, "sha256": sha256(part), "fetched": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
        write_atomically(record, (json.dumps(facts, indent=2) + "\n").encode())
        os.replace(part, file)
    return file


def _recorded(record: Path) -> str | None:
    try:
        return load_as(record, lambda data: str(data["sha256"]))
    except BadJson:
        return None


def _download(url: str, part: Path) -> None:
    """Writes all of it into ``part``; raises OSError and HTTPException where it does not come whole.

    Raises ValueError where it is not to be taken.
    """
    with urllib.request.urlopen(url, timeout=SILENCE_SECONDS) as answer, open(part, "r+b") as file:
        if not answer.url.startswith(TRUSTED):
            raise ValueError(f"the server leads to {answer.url}, and the way there is not protected")
        length_bytes, received = whole_number(answer.headers.get("Content-Length") or "", 0), 0
        file.truncate()
        while data := answer.read(CHUNK_BYTES):
            file.write(data)
            received += len(data)
            if received > MOST_BYTES:
                raise ValueError(f"the download is larger than {MOST_BYTES >> 20} MiB")
            _show(url, received, length_bytes)
    if length_bytes is not None and received != length_bytes:
        raise ConnectionError(f"the connection ended after {received} of {length_bytes} bytes")


def _show(url: str, received: int, length_bytes: int | None) -> None:
    if sys.stderr.isatty():
        share = f"{100 * received / length_bytes:.0f} %" if length_bytes else f"{received >> 20} MiB"
        end = "\n" if received == length_bytes else ""
        print(f"\rfetching {url.rpartition('/')[2]}: {share}", end=end, file=sys.stderr, flush=True)


def _cannot(url: str, error: Exception) -> DeviceError:
    return DeviceError(
        f"benchmark_model cannot be fetched ({getattr(error, 'reason', '') or error!s}): repeat the command where"
        f" there is a network, or fetch {url} elsewhere and give it with --benchmark-binary."
    )
