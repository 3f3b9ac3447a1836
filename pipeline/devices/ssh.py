"""Another machine over ssh, an ARM64 board say: LiteRT in Python there, with nothing of ours installed.

One login. Its session makes a private folder on the far side, and removes it when the connection ends, however it ends;
all else goes through the same connection. OpenSSH does the talking: the user's ssh_config and known_hosts count.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
import shlex
import shutil
import signal
import subprocess
import tempfile
import threading
from pathlib import Path
from typing import Any

from pipeline.devices import edgetpu
from pipeline.devices.host import WORKER
from pipeline.devices.worker import WorkerRunner, check_readable
from pipeline.nouns.device import Device, How, Settings
from pipeline.nouns.errors import ArtifactError, BadSpec, DeviceError, SegquantError
from pipeline.nouns.ssh import BATCH, SSH_FAILED, last_line, why

ADDRESS = re.compile(r"(?:(?P<user>.+)@)?(?:\[(?P<six>[^\]]+)\]|(?P<host>[^:@\[\]]+))(?::(?P<port>\d{1,5}))?")
UNSAFE = re.compile(r"^-|[\s\x00-\x1f\x7f'\"`$;&<>|(){}\\]")
"""What OpenSSH itself refuses in names since 9.6 (ssh.c, valid_hostname), for they can come to a shell."""
ALIVE = ("-o", "ServerAliveInterval=5", "-o", "ServerAliveCountMax=3")
"""A dead link ends the connection after 15 s."""
PRIVATE = (
    "-o", "StrictHostKeyChecking=yes", "-o", "ControlPersist=no", "-o", "ClearAllForwardings=yes", "-o",
    "ForwardAgent=no", "-o", "ForwardX11=no", "-o", "PermitLocalCommand=no", "-o", "RemoteCommand=none", "-o",
    "LogLevel=INFO",
)  # fmt: skip
START_SECONDS = 60
"""For the login and the folder."""
MARK = "segquant-far "
"""Before an answer: the login there may print what it likes."""
HOLD = (
    'd=$(mktemp -d) || exit 126; end() { for n in 1 2 3; do cat "$d"/*.pid >/dev/null 2>&1 || break; sleep 1; done;'
    ' kill -9 $(cat "$d"/*.pid 2>/dev/null) 2>/dev/null; rm -rf "$d" || { sleep 1; rm -rf "$d"; }; };'
    f' trap end EXIT; trap "exit 130" HUP INT TERM; echo "{MARK}$d"; cat >/dev/null'
)
"""Makes the folder and removes it at the end of input, after the processes in it have had time to end. For any POSIX
shell, and like the next two without a single quote, a backslash or an exclamation mark: in single quotes every login
shell passes them on."""
FIND = (
    'code=$1; shift; c=127; for p; do case $p in "~/"*) p=$HOME/${p#??};; esac; command -v "$p" >/dev/null || continue;'
    f' "$p" -c "$code"; r=$?; [ $r = 0 ] && echo "{MARK}$p" && exit 0; [ $c = 127 ] && c=$r; done; exit $c'
)
"""$1: what Python is asked, the rest: where it may be. Exit code of the first that is there, 127 where none is."""
START = (
    'exec 3<&0; d=$1; f=$2; shift 2; "$@" <&3 3<&- & p=$!; echo $p >"$d/$p.pid"; wait $p; c=$?;'
    ' rm -f "$d/$p.pid" "$f"; exit $c'
)
"""$1: the folder, $2: a file that is not needed any more when the rest, the program, has ended. HOLD ends the program
where nothing else does."""
PYTHONS = ("python3", "~/.venv/bin/python")
LACKS = 65
HAS_LITERT = f"import importlib.util as u,sys;sys.exit({LACKS}*(None in map(u.find_spec,('numpy','ai_edge_litert'))))"


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
    found = ADDRESS.fullmatch(selector)
    if found is None:
        raise BadSpec(f"--device ssh:{selector}: write ssh:[USER@]HOST[:PORT], an IPv6 address as [ADDRESS].")
    user, host = found["user"], found["six"] or found["host"]
    port = int(found["port"]) if found["port"] else None
    if any(UNSAFE.search(name) for name in (user or "", host)):
        raise BadSpec(f"--device ssh:{selector}: no name of a user or machine has such characters: correct it.")
    if port is not None and not 1 <= port <= 65535:
        raise BadSpec(f"--device ssh:{selector}: a port is a number from 1 to 65535.")
    return Address(host, user, port)


class Ssh:
    """The connection, and what is done through it."""

    def __init__(self, where: Address, settings: Settings) -> None:
        self.address, self._settings = where, settings
        self.identity = _identity(where)
        self._count = 0
        self._python: str | None = None
        self._folder = ""
        self._socket_folder = tempfile.mkdtemp(prefix="sq", dir="/tmp")  # a socket's path has 107 bytes at most
        self._said = tempfile.TemporaryFile()
        socket = f"{self._socket_folder}/s"
        # Should the shared connection be gone: fail, and do not log in once more.
        self._through = ["ssh", *BATCH, "-o", "ProxyCommand=exit 1", "-o", f"ControlPath={socket}", "--", where.host]
        options = [*BATCH, *ALIVE, *PRIVATE, "-o", "ControlMaster=yes", "-o", f"ControlPath={socket}"]
        self._master = subprocess.Popen(
            ["ssh", *options, *where.words, _command(HOLD)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=self._said, start_new_session=True,
        )  # fmt: skip  # a session of its own: Ctrl-C ends the measurement first, and the connection after it
        try:
            self._folder = self._entered()
            self._push(WORKER, "litert_worker.py")
        except BaseException:
            self.close()
            raise

    def _entered(self) -> str:
        """The far folder, when we are in."""
        assert self._master.stdout
        late = threading.Timer(START_SECONDS, self._master.kill)
        late.start()
        try:
            for line in self._master.stdout:
                if line.startswith(MARK.encode()):
                    return line.decode().removeprefix(MARK).strip()
        finally:
            late.cancel()
        raise self._lost(self._master.wait(), "")

    def _lost(self, code: int, said: str) -> DeviceError:
        """Why the connection, or what was started through it, ended with ``code``."""
        alive = code != SSH_FAILED
        if not alive:  # the connection's own words are there when it has ended
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._master.wait(2)
        alive = alive and self._master.poll() is None
        self._said.seek(0)
        words = self._said.read().decode("utf-8", "replace")
        if "No space left on device" in said + words:
            return DeviceError(f"{self.identity}: its disk is full where temporary files go: free some space there.")
        if alive:
            return DeviceError(
                f"{self.identity}: what was started there ended with exit code {code}: {last_line(said)}."
            )
        if self._folder:
            return DeviceError(
                f"{self.identity}: the connection was lost ({last_line(words or said)}): see that the machine is up and"
                f" reachable (`{self.address.typed}`), and repeat the command."
            )
        if self._master.returncode == -signal.SIGKILL:
            words = f"no shell answered within {START_SECONDS} s"
        return DeviceError(f"{self.identity}: {why(words).replace('ssh HOST', self.address.typed)}.")

    def _run(self, script: str, *words: str, data: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [*self._through, _command(script, *words)], input=data, capture_output=True, check=False
        )  # fmt: skip

    def _push(self, file: Path, name: str) -> str:
        """Copies a file into the far folder; its path there."""
        path = f"{self._folder}/{name}"
        done = self._run('cat >"$1"', path, data=file.read_bytes())
        if done.returncode != 0:
            raise self._lost(done.returncode, done.stderr.decode("utf-8", "replace"))
        return path

    @property
    def python(self) -> str:
        """The far Python that has LiteRT; raises DeviceError with the command that makes one."""
        if self._python is None:
            named = self._settings.remote_python
            done = self._run(FIND, HAS_LITERT, *((named,) if named else PYTHONS))
            _, found, path = done.stdout.decode("utf-8", "replace").partition(MARK)
            if not found:
                raise self._no_python(done.returncode, done.stderr.decode("utf-8", "replace"), named)
            self._python = path.strip()
        return self._python

    def _no_python(self, code: int, said: str, named: str | None) -> DeviceError:
        there, reach = f"{self.identity}: {named or 'python3'}", self.address.typed
        if code == 127 and named:
            return DeviceError(f"{there} is not there: correct --remote-python.")
        if code == 127:
            return DeviceError(f"{there} is not there: `{reach} sudo apt-get install python3-venv` installs it.")
        if code == LACKS and named:
            return DeviceError(f"{there} lacks ai-edge-litert: `{reach} {named} -m pip install ai-edge-litert`.")
        if code == LACKS:
            return DeviceError(
                f"{there} lacks ai-edge-litert: `{reach} 'python3 -m venv .venv && .venv/bin/pip install"
                " ai-edge-litert'`, or name a Python that has it with --remote-python."
            )
        if "Exec format error" in said or "cannot execute binary file" in said:
            return DeviceError(f"{there} is a program for another processor: name another with --remote-python.")
        if code == SSH_FAILED:
            return self._lost(code, said)
        return DeviceError(f"{there} does not start (exit code {code}: {last_line(said)}): see to it there.")

    def _asked(self, verb: str) -> dict[str, Any]:
        done = self._run('exec "$@"', self.python, f"{self._folder}/litert_worker.py", verb)
        if done.returncode != 0:
            raise self._lost(done.returncode, done.stderr.decode("utf-8", "replace"))
        return dict(json.loads(done.stdout.splitlines()[-1]))

    def describe(self) -> dict[str, Any]:
        return {"device": self.identity, **self._asked("describe")}

    def state(self) -> dict[str, Any]:
        return self._asked("state")

    def open(self, file: Path, how: How) -> WorkerRunner:
        """A file compiled for the Edge TPU asks for libedgetpu there."""
        check_readable(file)
        settings: dict[str, Any] = {"threads": how.threads, "pinned": how.pinned}
        if how.target == edgetpu.TARGET and edgetpu.is_compiled(file):
            settings |= edgetpu.delegate(self._settings)
        python = self.python
        self._count += 1
        path = self._push(file, f"{self._count}.tflite")
        words = (self._folder, path, python, f"{self._folder}/litert_worker.py", "run", path, json.dumps(settings))
        chip = edgetpu.explain(file, self.identity, settings.get("delegate", ""), f"{self.address.typed} ")

        def explain(code: int, said: str) -> SegquantError | None:
            if code in (SSH_FAILED, -signal.SIGKILL) or self._master.poll() is not None:
                return self._lost(SSH_FAILED, said)
            if "No space left on device" in said:
                return self._lost(code, said)
            code = 128 - code if code > 128 else code  # as a shell tells a signal
            if better := chip(code, said):
                return better
            if code < 0:
                return ArtifactError(
                    f"{signal.Signals(-code).name} ended LiteRT on {self.identity} with {file}: see whether that"
                    " machine has the memory, else convert the network again."
                )
            if "ImportError" in said or "ModuleNotFoundError" in said:
                return DeviceError(
                    f"{self.identity}: LiteRT does not load in {python} ({last_line(said)}): install ai-edge-litert"
                    " again, or name another Python with --remote-python."
                )
            return None

        return WorkerRunner(file, [*self._through, _command(START, *words)], explain)

    def close(self) -> None:
        """The far folder goes with the connection."""
        if self._master.stdin:
            with contextlib.suppress(OSError):
                self._master.stdin.close()
        try:
            self._master.wait(20)
        except subprocess.TimeoutExpired:
            self._master.kill()
            self._master.wait()
        if self._master.stdout:
            self._master.stdout.close()
        self._said.close()
        shutil.rmtree(self._socket_folder, ignore_errors=True)


def _command(script: str, *words: str) -> str:
    """For the far login shell, whichever it is."""
    return " ".join(shlex.quote(word) for word in ("sh", "-c", script, "sh", *words))


def _identity(where: Address) -> str:
    """The machine as ssh_config resolves it, so that an alias and what it stands for are one machine."""
    try:
        done = subprocess.run(["ssh", "-G", *where.words], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise DeviceError("ssh is not on this machine: `sudo apt-get install openssh-client` installs it.") from None
    if done.returncode != 0:
        raise DeviceError(f"ssh cannot start ({last_line(done.stderr)}): correct its configuration.")
    told = dict(line.partition(" ")[::2] for line in done.stdout.splitlines())
    return f"ssh:{told['user']}@{told['hostname']}:{told['port']}"


def connect(selector: str, settings: Settings) -> Ssh:
    return Ssh(address(selector), settings)


SSH = Device(
    name="ssh",
    title="another machine over ssh, LiteRT in its Python",
    rank=0,
    find=lambda: None,
    missing=lambda: "name the machine, as ssh:[USER@]HOST[:PORT]",
    connect=connect,
    selector=":[USER@]HOST[:PORT]",
    runs_compiled=(edgetpu.TARGET,),
)
