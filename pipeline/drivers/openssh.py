"""A machine behind ssh: one login, through which programs run and files go.

The login's session makes a private folder there, and removes it when the connection ends, however it ends; all else
goes through the same connection. OpenSSH does the talking: the user's ssh_config and known_hosts count.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import os
import posixpath
import re
import shlex
import shutil
import signal
import subprocess
import tarfile
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from pipeline.core.errors import BadSpec, DeviceError
from pipeline.core.keeper import KEEPER, scratch_folder
from pipeline.core.printable import printable
from pipeline.core.program import KEPT_BYTES, LONGEST_LINE, Ended, NotEnded, end, run, start, text_of
from pipeline.drivers.benchmark_model import CommandResult
from pipeline.drivers.ssh_words import BATCH, DAMAGED_TAR, SSH_FAILED, for_a_shell, last_line, why

ADDRESS = re.compile(r"(?:(?P<user>.+)@)?(?:\[(?P<six>[^\]]+)\]|(?P<host>[^:@\[\]]+))(?::(?P<port>\d{1,5}))?")
UNSAFE = re.compile(r"^-|[\s\x00-\x1f\x7f'\"`$;&<>|(){}\\]")
"""What OpenSSH itself refuses in names since 9.6 (ssh.c, valid_hostname), for they can come to a shell."""
ALIVE = ("-o", "ServerAliveInterval=5", "-o", "ServerAliveCountMax=3")
"""A dead link ends the connection after 15 s."""
PRIVATE = (
    "-o",
    "StrictHostKeyChecking=yes",
    "-o",
    "ControlPersist=no",
    "-o",
    "ClearAllForwardings=yes",
    "-o",
    "ForwardAgent=no",
    "-o",
    "ForwardX11=no",
    "-o",
    "PermitLocalCommand=no",
    "-o",
    "RemoteCommand=none",
    "-o",
    "LogLevel=INFO",
)
START_SECONDS = 60
"""For the login and the folder."""
PAUSES = (0.5, 2.0)
"""Seconds before a login is tried again."""
NOT_NOW = r"Connection refused|Connection reset|closed by remote host|kex_exchange_identification"
"""What ssh says while sshd starts anew, or takes no more connections at this moment."""
COPIED_BYTES_PER_SECOND = 100_000
"""The least that a copy is granted, so that a slow link is not taken for a dead one."""
PULLED_BYTES = 256 << 20
"""More than a batch of outputs has."""
MARK = "segquant-far "
"""Before an answer: the login there may print what it likes."""
HOLD = (
    'd=$(mktemp -d) || exit 126; end() { for n in 1 2 3; do cat "$d"/*.pid >/dev/null 2>&1 || break; sleep 1; done;'
    ' kill -9 $(cat "$d"/*.pid 2>/dev/null) 2>/dev/null; rm -rf "$d" || { sleep 1; rm -rf "$d"; }; };'
    f' trap end EXIT; trap "exit 130" HUP INT TERM; echo "{MARK}$d"; cat >/dev/null'
)
"""Makes the folder and removes it at the end of input, after the processes in it have had time to end. Like the next
one for ``for_a_shell``."""
START = (
    'exec 3<&0; d=$1; shift; export TMPDIR="$d"; "$@" <&3 3<&- & p=$!; echo $p >"$d/$p.pid"; wait $p; c=$?;'
    ' rm -f "$d/$p.pid"; exit $c'
)
"""$1: the folder, the rest: the program. HOLD ends it where nothing else does."""


@dataclasses.dataclass(frozen=True)
class Address:
    """Where, in ssh's terms; ``host`` may be an alias of ssh_config."""

    host: str
    user: str | None = None
    port: int | None = None

    @property
    def words(self) -> list[str]:
        """Options, and the host after them."""
        user = ["-l", self.user] if self.user else []
        port = ["-p", str(self.port)] if self.port else []
        return [*user, *port, "--", self.host]

    @property
    def typed(self) -> str:
        """The command that a user types to reach it."""
        user, port = f"{self.user}@" if self.user else "", f"-p {self.port} " if self.port else ""
        return f"ssh {port}{shlex.quote(user + self.host)}"


def address(selector: str) -> Address:
    """Reads [USER@]HOST[:PORT], an IPv6 address in brackets; raises BadSpec."""
    match = ADDRESS.fullmatch(selector)
    if match is None:
        raise BadSpec(f"device ssh:{selector}: write ssh:[USER@]HOST[:PORT], an IPv6 address as [ADDRESS].")
    user, host = match["user"], match["six"] or match["host"]
    port = int(match["port"]) if match["port"] else None
    if any(UNSAFE.search(name) for name in (user or "", host)):
        raise BadSpec(f"device ssh:{selector}: the name of a user or machine cannot have such characters: correct it.")
    if port is not None and not 1 <= port <= 65535:
        raise BadSpec(f"device ssh:{selector}: a port is a number from 1 to 65535.")
    return Address(host, user, port)


class NotNow(DeviceError):
    """A server that refuses to talk: it may be starting."""


def linked(where: Address) -> Link:
    """A connection; tried again where the server may be starting. Raises DeviceError as ``Link`` does."""
    for pause_seconds in PAUSES:
        try:
            return Link(where)
        except NotNow:
            time.sleep(pause_seconds)
    return Link(where)


class Link:
    """The connection: a Transport. Raises DeviceError where it cannot be made, and where it is lost.

    Attributes:
      name: the machine as ssh_config resolves it, so that an alias and what it stands for are one machine.
      folder: ours on the far side, gone when the connection is.
    """

    def __init__(self, where: Address) -> None:
        self.address, self.name, self.folder = where, _resolved(where), ""
        self._socket_folder = tempfile.mkdtemp(prefix="sq", dir="/tmp")  # a socket's path has 107 bytes at most
        self._kept = KEEPER.keep("directory", self._socket_folder)
        self._log = tempfile.TemporaryFile()
        socket = f"ControlPath={self._socket_folder}/s"
        # Should the shared connection be gone: fail, and do not log in once more.
        self._through = ["ssh", *BATCH, "-o", "ProxyCommand=exit 1", "-o", socket, "--", where.host]
        options = [*BATCH, *ALIVE, *PRIVATE, "-o", "ControlMaster=yes", "-o", socket]
        self._master = start(
            ["ssh", *options, *where.words, for_a_shell(HOLD)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
        )
        try:
            self.folder = self._entered()
        except BaseException:
            self.close()
            raise

    def _entered(self) -> str:
        assert self._master.stdout
        late = threading.Timer(START_SECONDS, self._master.kill)
        late.start()
        try:
            greeted_bytes = 0
            while greeted_bytes < KEPT_BYTES and (line := self._master.stdout.readline(LONGEST_LINE)):
                greeted_bytes += len(line)
                folder = line.decode("utf-8", "replace").removeprefix(MARK).strip()
                if line.startswith(MARK.encode()) and folder.startswith("/"):
                    return folder
        finally:
            late.cancel()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._master.wait(START_SECONDS)
        raise self.failed(end(self._master, 0), "")

    @property
    def alive(self) -> bool:
        return self._master.poll() is None

    def failed(self, code: int, output: str) -> DeviceError:
        """Why the connection, or what was started through it, ended with ``code``."""
        if code == SSH_FAILED:  # the connection's own words are there when it has ended
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._master.wait(2)
        self._log.seek(max(0, self._log.seek(0, os.SEEK_END) - KEPT_BYTES))
        words = text_of(self._log.read())
        if "No space left on device" in output + words:
            return DeviceError(f"{self.name}: its disk is full where temporary files go: free some space there.")
        if self.alive and code != SSH_FAILED:
            return DeviceError(
                f"{self.name}: the program started there ended with exit code {code}: {last_line(output)}."
            )
        if self.folder:
            return DeviceError(
                f"{self.name}: the connection was lost ({last_line(words or output)}): see that the machine is up and"
                f" reachable (`{self.address.typed}`), and repeat the command."
            )
        if self._master.returncode == -signal.SIGKILL:
            words = f"no shell answered within {START_SECONDS} s"
        kind = NotNow if re.search(NOT_NOW, words) else DeviceError
        return kind(f"{self.name}: {why(words).replace('ssh HOST', self.address.typed)}.")

    def command(self, words: Sequence[str]) -> None:
        """Nothing: the far folder and the processes in it go with the connection."""

    def starting(self, words: Sequence[str]) -> list[str]:
        """What runs a program there, with the near side's pipes."""
        return [*self._through, for_a_shell(START, self.folder, *words)]

    def run(self, words: Sequence[str], timeout_seconds: float = 60) -> CommandResult:
        ended = self._done(["sh", "-c", 'exec "$@" 2>&1', "sh", *words], b"", timeout_seconds)
        if ended.code == SSH_FAILED:
            raise self.failed(ended.code, ended.err)
        return CommandResult(ended.code, ended.out)

    def _done(self, words: Sequence[str], data: bytes, timeout_seconds: float, kept_bytes: int = KEPT_BYTES) -> Ended:
        """What the program prints, without what the login printed before it."""
        marked = ["sh", "-c", f'echo "{MARK}"; exec "$@"', "sh", *words]
        try:
            ended = run(self.starting(marked), timeout_seconds, data=data, kept_bytes=kept_bytes)
        except NotEnded as error:
            raise DeviceError(
                f"{self.name}: a program there {error}: see whether the machine is busy"
                f" (`{self.address.typed} uptime`), and repeat the command."
            ) from None
        return dataclasses.replace(ended, stdout=ended.stdout.partition(f"{MARK}\n".encode())[2])

    def _checked(self, words: Sequence[str], data: bytes = b"", most_bytes: int = 0) -> bytes:
        """Copies ``data`` there, or at most ``most_bytes`` back."""
        seconds = START_SECONDS + (len(data) + most_bytes) / COPIED_BYTES_PER_SECOND
        ended = self._done(words, data, seconds, KEPT_BYTES + 2 * most_bytes)
        if ended.code != 0:
            raise self.failed(ended.code, ended.err)
        return ended.stdout

    def push(self, local: Path, remote: str) -> None:
        if local.is_dir():
            packed = io.BytesIO()
            with tarfile.open(fileobj=packed, mode="w") as archive:
                archive.add(local, ".")
            self._checked(["sh", "-c", 'mkdir "$1" && tar -xf - -C "$1"', "sh", remote], packed.getvalue())
        else:
            self._checked(["sh", "-c", 'cat >"$1"', "sh", remote], local.read_bytes())

    def pull(self, remote: str, local: Path) -> None:
        folder, name = posixpath.split(remote)
        packed = self._checked(["tar", "-cf", "-", "-C", folder or "/", "--", name], most_bytes=PULLED_BYTES)
        with scratch_folder(parent=local.parent) as scratch:
            try:
                with tarfile.open(fileobj=io.BytesIO(packed), mode="r:") as archive:  # compressed it could be any size
                    archive.extractall(scratch, filter="data")
            except DAMAGED_TAR as error:
                raise DeviceError(
                    f"{self.name}: {remote} did not come back as an archive ({printable(str(error))}): see that `tar`"
                    " works there, and repeat the command."
                ) from None
            if not os.path.lexists(scratch / name):
                raise DeviceError(f"{self.name}: the archive of {remote} lacks it: see that `tar` works there.")
            (scratch / name).rename(local)

    def close(self) -> None:
        """The far folder goes with the connection."""
        if self._master.stdin:
            with contextlib.suppress(OSError):
                self._master.stdin.close()
        try:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._master.wait(20)
        finally:
            end(self._master, 0)
            if self._master.stdout:
                self._master.stdout.close()
            self._log.close()
            shutil.rmtree(self._socket_folder, ignore_errors=True)
            KEEPER.release(self._kept)


def _resolved(where: Address) -> str:
    try:
        ended = run(["ssh", "-G", *where.words], START_SECONDS)
    except FileNotFoundError:
        raise DeviceError("ssh is not on this machine: `sudo apt-get install openssh-client` installs it.") from None
    except (NotEnded, OSError) as error:
        raise DeviceError(f"`ssh -G` {error}: correct its configuration.") from None
    configuration = dict(line.partition(" ")[::2] for line in ended.out.splitlines())
    if ended.code != 0 or not {"user", "hostname", "port"} <= set(configuration):
        raise DeviceError(f"ssh cannot start ({last_line(ended.err)}): correct its configuration.")
    return f"ssh:{configuration['user']}@{configuration['hostname']}:{configuration['port']}"
