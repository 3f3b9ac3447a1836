"""Reads a run directory: what is in it, but for times, and which of its files are not whole."""

from __future__ import annotations

import hashlib
import io
import json
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
from PIL import Image

State = dict[str, tuple[str, ...]]
"""A run's files: name → the digests of all files of that name; names and contents are without times and process ids."""

TIMES = {"created", "seconds", "step_seconds", "judge_seconds", "machine"}
MEASURED = ("target", "split", "images", "drop_points", "agreement_percent", "per_image", "shown")
"""Of a measurement, and of each of its files' ``OF_A_FILE``: what is the same every time."""
OF_A_FILE = ("file", "sha256", "size_bytes", "score", "confusion")
NAMES = [
    (re.compile(r"events\.out\.tfevents\.\S+"), "events"),
    (re.compile(r"^(measurements/[a-z]+-[\w-]+-)\d{8}T\d{6}(-\d+)?\.json$"), r"\1TIME.json"),
    (re.compile(r"^(report\.(?:html|md))\.\d+$"), r"\1"),
    (re.compile(r"\.replaced-[\d-]+"), ".replaced-TIME"),
    (re.compile(r"(^|/)(\.[a-z-]*?[-.])?\d+-[\w]+(/|\.part|$)"), r"\1\2PROCESS\3"),
    (re.compile(r"\.\d+-\d+\.part$"), ".PROCESS.part"),
]
WRITTEN = re.compile(rb"written \d{4}-\d\d-\d\d \d\d:\d\d UTC")
SECONDS_TENSOR = "training/0003/"
"""In a training's checkpoint: the time trained so far."""


def of(run: Path) -> State:
    """All files, hidden ones included; folders that hold none end with a slash."""
    found: dict[str, set[str]] = {}
    for path in sorted(run.rglob("*")):
        name = named(str(path.relative_to(run)))
        if path.is_dir():
            if not any(path.iterdir()):
                found.setdefault(f"{name}/", set()).add("")
        else:
            found.setdefault(name, set()).add(_digest(path, name))
    return {name: tuple(sorted(digests)) for name, digests in found.items()}


def named(name: str) -> str:
    for pattern, replacement in NAMES:
        name = pattern.sub(replacement, name)
    return name


def digest_of(state: State) -> str:
    return hashlib.sha256(json.dumps(sorted(state.items())).encode()).hexdigest()


def differences(wanted: State, found: State) -> list[str]:
    lines = [f"{name} is missing" for name in wanted if name not in found]
    lines += [f"{name} is left over" for name in found if name not in wanted]
    return lines + [f"{name} differs" for name in wanted if name in found and found[name] != wanted[name]]


def _digest(path: Path, name: str) -> str:
    data = path.read_bytes()
    try:
        if name.endswith("events") or path.name == ".lock":
            data = b""
        elif path.parent.name == "measurements":
            data = json.dumps(_measured(json.loads(data)), sort_keys=True).encode()
        elif path.suffix == ".json":
            data = json.dumps(_untimed(json.loads(data)), sort_keys=True).encode()
        elif path.suffix == ".jsonl":
            data = b"".join(json.dumps(_untimed(json.loads(line))).encode() for line in data.splitlines())
        elif path.suffix == ".safetensors":
            data = _untimed_tensors(data)
        elif path.name.startswith("report."):
            data = WRITTEN.sub(b"written", data)
    except (ValueError, KeyError, TypeError, struct.error):
        data = b"not whole: " + data
    return hashlib.sha256(data).hexdigest()[:16]


def _untimed(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _untimed(each) for key, each in value.items() if key not in TIMES}
    return [_untimed(each) for each in value] if isinstance(value, list) else value


def _measured(data: dict[str, Any]) -> dict[str, Any]:
    files = {name: {key: data[name][key] for key in OF_A_FILE} for name in ("parent", "artifact")}
    return {**{key: data[key] for key in MEASURED}, **files}


def _tensors(data: bytes) -> tuple[dict[str, Any], bytes]:
    """(entries by name, metadata included; the bytes of all)"""
    (length,) = struct.unpack_from("<Q", data)
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def _untimed_tensors(data: bytes) -> bytes:
    entries, body = _tensors(data)
    entries.pop("__metadata__")  # it has the digest of all
    pieces = []
    for name, entry in entries.items():
        if not name.startswith(SECONDS_TENSOR):
            begin, end = entry["data_offsets"]
            pieces += [json.dumps([name, entry]).encode(), body[begin:end]]
    return b"".join(pieces)


def _json(data: bytes, path: Path) -> None:
    json.loads(data)


def _lines(data: bytes, path: Path) -> None:
    for line in data.splitlines():
        json.loads(line)


def _tflite(data: bytes, path: Path) -> None:
    from pipeline.tflite.read import read

    read(data)
    beside = path.with_suffix(".json")
    if beside.is_file() and json.loads(beside.read_bytes())["sha256"] != hashlib.sha256(data).hexdigest():
        raise ValueError("its record is of another file")


def _hdf5(data: bytes, path: Path) -> None:
    with h5py.File(io.BytesIO(data)) as file:
        file.visititems(lambda _, found: found[()] if isinstance(found, h5py.Dataset) else None)


def _checkpoint(data: bytes, path: Path) -> None:
    entries, body = _tensors(data)
    length = max(entry["data_offsets"][1] for name, entry in entries.items() if name != "__metadata__")
    if len(body) != length:
        raise ValueError(f"it has {len(body)} bytes of tensors, not {length}")


def _html(data: bytes, path: Path) -> None:
    if not data.rstrip().endswith(b"</html>"):
        raise ValueError("it has no end")


def _picture(data: bytes, path: Path) -> None:
    Image.open(io.BytesIO(data)).load()


READERS: dict[str, Callable[[bytes, Path], None]] = {
    ".json": _json,
    ".jsonl": _lines,
    ".tflite": _tflite,
    ".h5": _hdf5,
    ".safetensors": _checkpoint,
    ".html": _html,
    ".png": _picture,
    ".jpg": _picture,
}


def broken(run: Path) -> list[str]:
    """The files under a final name that are not whole, and why."""
    found = []
    for path in sorted(run.rglob("*")):
        name = path.relative_to(run)
        if path.is_dir() or any(part.startswith(".") for part in name.parts):
            continue
        suffix = path.suffix if not path.suffix[1:].isdecimal() else Path(path.stem).suffix
        if suffix not in READERS:
            continue
        try:
            READERS[suffix](path.read_bytes(), path)
        except Exception as error:  # whatever a reader makes of half a file
            if not (suffix == ".tflite" and any(path.parent.glob(".ready-*"))):  # the next command moves the rest
                found.append(f"{name} is not whole: {error}")
    return found
