"""Drives `adb`, the Android Debug Bridge: which devices are attached, and programs and files on one of them.

Its texts: packages/modules/adb of the Android Open Source Project, client/commandline.cpp, client/adb_client.cpp and
client/transport_local.cpp.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

from pipeline.core.errors import DeviceError
from pipeline.core.files import sha256
from pipeline.core.program import NotEnded, run
from pipeline.drivers.answers import whole_number
from pipeline.drivers.benchmark_model import CommandResult
from pipeline.drivers.benchmark_report import last_words

INSTALL = "run `apt-get install adb`, or install Android's SDK Platform-Tools"
STATES = {
    "unauthorized": "does not trust this computer yet: unlock it and accept the key that it shows",
    "authorizing": "is asking whether to trust this computer: unlock it and accept the key that it shows",
    "connecting": "is just connecting: wait some seconds",
    "offline": "does not answer (offline): unplug it and plug it in again, or `adb reconnect offline`",
    "no permissions": "may not be opened by this user: `apt-get install android-sdk-platform-tools-common` brings the"
    " rules for its USB port, `adb kill-server` and plugging it in again apply them",
}
"""State → what it means and what to do; the words are those of `adb devices`. All others but 'device': not booted."""
USB = Path("/sys/bus/usb/devices")
ADB_INTERFACE = ("ff", "42", "01")
"""USB class, subclass and protocol of adb (adb.h of the same sources)."""
PUSHED_BYTES_PER_SECOND = 250_000
"""The least that a transfer is granted, so that a slow network is not taken for a dead one."""
END = "segquant-ended-with-"
PULLED_BYTES = 1 << 28
TRIES, RETURN_SECONDS = 3, 10.0
"""How often something is tried, and how long a device that went away is waited for."""
LOST = r"failed to read copy response|error: closed|protocol fault|connection reset|device .*(not found|offline)"
"""What adb says where the server or the device went away in the middle (client/file_sync_client.cpp)."""
SUMS = 'if command -v sha256sum >/dev/null; then c=sha256sum; else c="wc -c"; fi; find "$1" -type f -exec $c {} ";"'
SUMS_SECONDS = 600
SHA256_DIGITS = 64
Result = TypeVar("Result")


class ServerDown(DeviceError):
    """adb's server does not answer; the next call starts another."""


class Away(Exception):
    """The device, or the way to it, was lost in the middle of something."""


class Attached(NamedTuple):
    """A line of `adb devices -l`."""

    serial: str
    state: str
    model: str

    def problem(self) -> str | None:
        """Why it cannot be used, and what to do; None where it can."""
        if self.state == "device":
            return None
        advice = STATES.get(self.state, f"is in the state {self.state!r}: boot Android on it")
        return f"android:{self.serial} {advice}"


def program() -> str | None:
    return shutil.which("adb")


def adb(words: Sequence[str], timeout_seconds: float = 60) -> CommandResult:
    """Runs adb; raises DeviceError where it is missing, hangs, or has no server."""
    path = program()
    if path is None:
        raise DeviceError(f"adb is not on PATH: {INSTALL}.")
    try:
        completed = run([path, *words], timeout_seconds, joined=True, daemon_stays=True)
    except NotEnded as error:
        raise DeviceError(
            f"`adb {words[0]} ...` {error}: unplug the device and plug it in again, or `adb kill-server`."
        ) from None
    except OSError as error:
        raise DeviceError(f"{path} cannot be started ({error.strerror or error}): {INSTALL}.") from None
    output = completed.out
    broken = re.search(
        r"^.*(cannot connect to daemon|failed to start daemon|didn't ACK|protocol fault).*$", output, re.M
    )
    if completed.code and broken:
        reason = re.search(r"adb server version \((\d+)\) doesn't match this client \((\d+)\)", output)
        why = f"an adb server of another version ({reason[1]}, this adb is {reason[2]}) is in its way" if reason else ""
        raise ServerDown(
            f"the adb server does not work: {why or broken[0].strip()}. `adb kill-server` ends it; use one adb only"
            f" (this one is {path})."
        )
    return CommandResult(completed.code, output)


def attached() -> list[Attached]:
    """All devices that adb lists, usable or not."""
    devices = []
    for line in adb(["devices", "-l"], 20).output.splitlines():
        fields = re.match(r"^(\S+)\s+(no permissions|\S+)(.*)$", line)
        if (
            fields
            and fields[1] != "(no"
            and not line.startswith(("*", "List of devices", "adb server", "adb:", "error:"))
        ):
            model = re.search(r"\bmodel:(\S+)", fields[3])
            devices.append(Attached(fields[1], fields[2], model[1].replace("_", " ") if model else ""))
    return devices


def may_be_attached() -> bool:
    """Whether it is worth asking adb, which starts a server that stays even where no device is attached."""
    if program() is None:
        return False
    if sys.platform != "linux" or os.environ.get("ADB_SERVER_SOCKET") or os.environ.get("ANDROID_SERIAL"):
        return True
    try:
        port = int(os.environ.get("ANDROID_ADB_SERVER_PORT", "5037"))
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
        return True
    except (OSError, ValueError, OverflowError):
        return any(_is_adb(place) for place in USB.glob("*:*"))


def _is_adb(interface: Path) -> bool:
    names = ("bInterfaceClass", "bInterfaceSubClass", "bInterfaceProtocol")
    try:
        return tuple((interface / name).read_text().strip() for name in names) == ADB_INTERFACE
    except OSError:
        return False


class Phone:
    """One device behind adb: a Transport. Closing it ends the network connection that it opened, if any."""

    def __init__(self, serial: str) -> None:
        """``serial``: a serial, HOST:PORT, or '' for the only one attached. Raises DeviceError."""
        serial, known = serial or os.environ.get("ANDROID_SERIAL", ""), attached()
        self.serial, self._connected, self._closed, self._lost = serial, False, False, False
        if ":" in serial and serial not in [device.serial for device in known]:
            output = adb(["connect", serial]).output
            if not re.search(r"^connected to |^failed to authenticate to ", output, re.MULTILINE):  # it exits 0 anyway
                raise DeviceError(f"adb cannot connect to {serial}{last_words(output)}: is it there, and listening?")
            self._connected = True
            known = attached()
        try:
            self.serial = _chosen(serial, known).serial
        except DeviceError:
            self.close()
            raise
        self.name = f"android:{self.serial}"

    def run(self, words: Sequence[str], timeout_seconds: float = 60) -> CommandResult:
        """Runs it again, for it may have been cut off, where the device or adb's server went away and is back."""
        # adb ends with 0 where the device goes away meanwhile, and old ones with 0 always: the code comes in the text.
        # Joined there: adb brings standard output and error on two ways, and the one can overtake the other.
        # adbd tells the shell alone that nobody listens any more (SIGHUP): the shell ends the program.
        line = f"{{ {shlex.join(words)}; }} 2>&1 & trap 'kill -9 0' HUP; wait $!; code=$?; echo; echo {END}$code"

        def once() -> CommandResult:
            output, mark, code = self._adb(["shell", line], timeout_seconds).output.rpartition(f"\n{END}")
            number = whole_number(code.partition("\n")[0], 0, 255)  # a shell says behind it that a program crashed
            if not mark or number is None:
                raise Away
            return CommandResult(number, output)

        return self._persistently("a program ran on it", once)

    def command(self, words: Sequence[str]) -> list[str]:
        return [program() or "adb", "-s", self.serial, "shell", shlex.join(words)]

    def push(self, local: Path, remote: str) -> None:
        files = _files(local)
        expected = {name: sha256(path) for name, path in files.items()}
        size = sum(path.stat().st_size for path in files.values())

        def once() -> None:
            self._copy(["push", str(local.absolute()), remote], size)
            self._check(expected, self._sums(remote))

        self._persistently("files were copied", once, lambda: self._remove(remote))

    def pull(self, remote: str, local: Path) -> None:
        def once() -> None:
            expected = self._sums(remote)
            self._copy(["pull", remote, str(local.absolute())], PULLED_BYTES)
            self._check(expected, {name: sha256(path) for name, path in _files(local).items()})

        self._persistently("files were copied", once, lambda: _remove_here(local))

    def _sums(self, remote: str) -> dict[str, str]:
        """Path below ``remote`` → sha256 of the file there; its size where the device has no sha256sum."""
        lines = self.run(["sh", "-c", SUMS, "sh", remote], SUMS_SECONDS).output.splitlines()
        pairs = [line.split(maxsplit=1) for line in lines]
        return {pair[1].removeprefix(remote).lstrip("/"): pair[0] for pair in pairs if len(pair) == 2}

    def _check(self, expected: Mapping[str, str], arrived: Mapping[str, str]) -> None:
        """Raises Away where a file is missing, or is not what was sent."""
        if set(expected) != set(arrived):
            raise Away
        both = [(expected[name], arrived[name]) for name in expected]
        if any(a != b for a, b in both if len(a) == len(b) == SHA256_DIGITS):
            raise Away

    def _remove(self, remote: str) -> None:
        self._adb(["shell", shlex.join(["rm", "-rf", remote])], 60)

    def _persistently(self, when: str, once: Callable[[], Result], clean: Callable[[], None] = lambda: None) -> Result:
        """Tries again where the device is back within RETURN_SECONDS; raises DeviceError where it is not."""
        left = TRIES
        while True:
            if self._closed:
                raise DeviceError(f"{self.name} is not used any more.")
            try:
                return once()
            except (Away, ServerDown) as error:
                left -= 1
                if not left or not self._is_back():
                    raise (error if isinstance(error, ServerDown) else self._gone(when)) from None
                clean()

    def _is_back(self) -> bool:
        until = time.monotonic() + (0 if self._lost else RETURN_SECONDS)
        while not self._closed:
            with contextlib.suppress(DeviceError):
                if any(device.serial == self.serial and device.state == "device" for device in attached()):
                    return True
                if ":" in self.serial:  # over the network: a server that was started anew does not know of it
                    adb(["connect", self.serial], RETURN_SECONDS)
            if time.monotonic() > until:
                self._lost = True  # it is not waited for again
                return False
            time.sleep(min(1.0, RETURN_SECONDS / 5))
        return False

    def _copy(self, words: Sequence[str], size: int) -> None:
        ran = self._adb(words, 60 + size / PUSHED_BYTES_PER_SECOND)
        if not ran.code:
            return
        if "No space left on device" in ran.output:
            side = "the disk of " + self.name if words[0] == "push" else "this machine's disk"
            raise DeviceError(f"{side} is full: free some space there and repeat the command.")
        if not any(device.serial == self.serial and device.state == "device" for device in attached()):
            raise Away
        if re.search(LOST, ran.output):
            raise Away
        raise DeviceError(f"adb cannot {words[0]} {words[1]} to {words[2]}{last_words(ran.output)}.")

    def _adb(self, words: Sequence[str], timeout_seconds: float) -> CommandResult:
        return adb(["-s", self.serial, *words], timeout_seconds)

    def _gone(self, when: str) -> DeviceError:
        return DeviceError(
            f"{self.name} went away while {when}: plug it in again, see that it stays awake, and repeat the command."
        )

    def close(self) -> None:
        self._closed = True
        if self._connected:
            adb(["disconnect", self.serial])


def _files(path: Path) -> dict[str, Path]:
    """Path below ``path`` → the regular file; '' where that is a file itself. A link could lead anywhere."""
    if not path.is_dir():
        return {"": path} if path.is_file() and not path.is_symlink() else {}
    files = (file for file in path.rglob("*") if file.is_file() and not file.is_symlink())
    return {str(file.relative_to(path)): file for file in files}


def _remove_here(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _chosen(serial: str, known: Sequence[Attached]) -> Attached:
    usable = [device for device in known if device.problem() is None]
    if serial:
        named = [device for device in known if device.serial == serial]
        if not named:
            listed = ", ".join(f"android:{device.serial}" for device in known) or "none"
            raise DeviceError(f"no device has the serial {serial}; attached: {listed}.")
        chosen = named[0]
    elif len(usable) > 1:
        names = ", ".join(
            f"android:{device.serial}" + (f" ({device.model})" if device.model else "") for device in usable
        )
        raise DeviceError(f"{len(usable)} Android devices are attached: name one of {names}.")
    elif not known:
        raise DeviceError(f"no Android device is attached: {TO_ATTACH}.")
    else:
        chosen = (usable or known)[0]
    if problem := chosen.problem():
        raise DeviceError(f"{problem}.")
    return chosen


TO_ATTACH = "plug one in that has USB debugging switched on (its developer options), or name it as android:HOST:PORT"
