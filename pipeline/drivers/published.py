"""benchmark_model as its makers publish it, fetched once into the user's cache.

The place and the names of the files: ai.google.dev/edge/litert/models/measurement, "Native benchmark binary".
It is a nightly build: the sha256 of what came is recorded, and held against the file each time that it is used.
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

PLACE = "https://storage.googleapis.com/tensorflow-nightly-public/prod/tensorflow/release/lite/tools/nightly/latest"
TRIES = 3
SILENCE_SECONDS = 30
PAUSE_SECONDS = 1
RANGE_NOT_SATISFIABLE = 416
CHUNK_BYTES = 1 << 18


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
    """``file``, downloaded from ``url`` where it is not there yet; an interrupted download goes on where it stopped.

    Raises DeviceError where it cannot be had, or where the file is no longer what was downloaded.
    """
    record = file.with_name(f"{file.name}.json")
    if file.is_file() and record.is_file():
        if _recorded(record) != sha256(file):
            raise DeviceError(
                f"{file} is not what was downloaded (its sha256 is not the one in {record.name}): delete it, and it"
                " is downloaded again."
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
                _go_on(url, part)
                break
            except (OSError, http.client.HTTPException) as error:
                code = error.code if isinstance(error, urllib.error.HTTPError) else None
                if not left or (code and code < 500 and code != RANGE_NOT_SATISFIABLE):
                    raise _cannot(url, part, error) from None
                if code == RANGE_NOT_SATISFIABLE:
                    os.truncate(part, 0)
                time.sleep(PAUSE_SECONDS)
        with open(part, "rb") as made:
            if made.read(4) != b"\x7fELF":
                os.truncate(part, 0)
                raise _cannot(url, part, ValueError("the download is not a program, perhaps a login page"))
        facts = {"url": url, "sha256": sha256(part), "fetched": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
        write_atomically(record, (json.dumps(facts, indent=2) + "\n").encode())
        os.replace(part, file)
        _etag(part).unlink(missing_ok=True)
    return file


def _recorded(record: Path) -> str | None:
    try:
        return str(json.loads(record.read_text())["sha256"])
    except (ValueError, KeyError, TypeError):
        return None


def _etag(part: Path) -> Path:
    return part.with_name(f"{part.name}.etag")


def _go_on(url: str, part: Path) -> None:
    """Fetches what ``part`` lacks, or all of it where the server has another file by now, or knows no ranges."""
    have = part.stat().st_size
    etag = _etag(part).read_text() if _etag(part).is_file() else ""
    request = urllib.request.Request(url)
    if have and etag:
        request.add_header("Range", f"bytes={have}-")
        request.add_header("If-Range", etag)
    with urllib.request.urlopen(request, timeout=SILENCE_SECONDS) as answer:
        if answer.status != 206:
            have = 0
            os.truncate(part, 0)
            write_atomically(_etag(part), (answer.headers.get("ETag") or "").encode())
        length = answer.headers.get("Content-Length")
        whole = have + int(length) if length else None
        with open(part, "ab") as file:
            while data := answer.read(CHUNK_BYTES):
                file.write(data)
                have += len(data)
                _show(url, have, whole)
    if whole is not None and have != whole:
        raise ConnectionError(f"the connection ended after {have} of {whole} bytes")


def _show(url: str, have: int, whole: int | None) -> None:
    if sys.stderr.isatty():
        share = f"{100 * have / whole:.0f} %" if whole else f"{have >> 20} MiB"
        end = "\n" if have == whole else ""
        print(f"\rfetching {url.rpartition('/')[2]}: {share}", end=end, file=sys.stderr, flush=True)


def _cannot(url: str, part: Path, error: Exception) -> DeviceError:
    why, kept = str(getattr(error, "reason", "") or error), part.stat().st_size
    return DeviceError(
        f"benchmark_model cannot be fetched ({why}){f'; {kept} bytes are kept for the next try' if kept else ''}:"
        f" repeat the command where there is a network, or fetch {url} elsewhere and give it with --benchmark-binary."
    )
