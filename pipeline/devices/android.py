"""A phone, a tablet or a board with Android, over adb; LiteRT's benchmark_model times and runs the file there."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from pipeline.core.device import Device, DeviceOptions, RunnerOptions
from pipeline.core.errors import DeviceError
from pipeline.core.files import sha256
from pipeline.drivers import adb, survey
from pipeline.drivers.benchmark_model import BenchmarkRunner, Installed
from pipeline.drivers.published import benchmark_model

PUBLISHED = {"arm64-v8a": "android_aarch64", "armeabi-v7a": "android_arm"}
"""ABI → which of the published builds runs there."""


class Android:
    """One device. Close it: its folder there is removed."""

    def __init__(self, phone: adb.Phone, settings: DeviceOptions) -> None:
        self.identity = phone.name
        self._phone, self._settings = phone, settings
        self._survey = survey.survey(phone)
        self._installed: Installed | None = None
        self._binary: Path | None = None

    def describe(self) -> dict[str, Any]:
        runtime = f"benchmark_model, sha256 {sha256(self._binary)[:16]}" if self._binary else None
        return {"device": self.identity, **self._survey.describe(), **self.state(), "runtime": runtime}

    def state(self) -> dict[str, Any]:
        return survey.state(self._phone)

    def open(self, file: Path, options: RunnerOptions) -> BenchmarkRunner:
        if self._installed is None:
            abis = self._survey.abis()
            self._binary = self._settings.benchmark_binary or self._published(abis)
            self._installed = Installed(self._phone, self._binary, abis, self._settings.delegate_library)
        return self._installed.open(file, options, self._survey.cores())

    def _published(self, abis: tuple[str, ...]) -> Path:
        for abi in abis:
            if abi in PUBLISHED:
                return benchmark_model(PUBLISHED[abi])
        raise DeviceError(
            f"no benchmark_model is published for {self.identity} ({', '.join(abis) or 'it tells no ABI'}): build"
            " LiteRT's tflite/tools/benchmark for it and give it with --benchmark-binary."
        )

    def close(self) -> None:
        try:
            if self._installed:
                self._installed.close()
        finally:
            with contextlib.suppress(DeviceError):
                self._phone.close()


def connect(selector: str, settings: DeviceOptions) -> Android:
    phone = adb.Phone(selector)
    try:
        return Android(phone, settings)
    except BaseException:
        phone.close()
        raise


def usable() -> list[adb.Attached]:
    return [phone for phone in adb.attached() if phone.problem() is None] if adb.may_be_attached() else []


def find() -> str | None:
    try:
        return ", ".join(f"{phone.model or 'Android'} ({phone.serial})" for phone in usable()) or None
    except DeviceError:
        return None


def missing() -> str:
    try:
        problems = [phone.problem() for phone in adb.attached()] if adb.may_be_attached() else []
    except DeviceError as error:
        return str(error).rstrip(".")
    if problems and problems[0]:
        return problems[0]
    return adb.TO_ATTACH if adb.program() else f"adb is not on PATH, {adb.INSTALL}"


ANDROID = Device(
    name="android",
    aliases=("phone", "pixel", "adb", "nnapi"),
    title="an Android device over adb, LiteRT's benchmark_model",
    rank=2,
    selector_help="[:SERIAL]",
    takes=("benchmark_binary", "delegate_library"),
    find=find,
    missing=missing,
    connect=connect,
)
