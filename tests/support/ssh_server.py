"""A real sshd on this machine, with keys of its own."""

from __future__ import annotations

import contextlib
import dataclasses
import getpass
import os
import shutil
import socket
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest


@dataclasses.dataclass(frozen=True)
class Server:
    """``home`` holds the keys host and user, and known, the client's known_hosts."""

    home: Path
    port: int
    process: subprocess.Popen

    @property
    def options(self) -> dict[str, str]:
        """ssh_config's."""
        return {
            "Port": str(self.port),
            "User": getpass.getuser(),
            "IdentityFile": f"{self.home}/user",
            "IdentitiesOnly": "yes",
            "UserKnownHostsFile": f"{self.home}/known",
            "GlobalKnownHostsFile": "/dev/null",
        }


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def executable(file: Path, script: str) -> None:
    file.parent.mkdir(exist_ok=True)
    file.write_text("#!/bin/sh\n" + script)
    file.chmod(file.stat().st_mode | stat.S_IXUSR)


@contextlib.contextmanager
def serving(home: Path, environment: str) -> Iterator[Server]:
    """``environment``: of those who log in, as sshd_config's SetEnv takes it."""
    sshd = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")
    if sshd is None or shutil.which("ssh") is None:
        pytest.skip("no ssh server: sudo apt-get install openssh-server openssh-client")
    if os.getuid() == 0:
        os.makedirs("/run/sshd", exist_ok=True)
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(home / name)], check=True)
    port = free_port()
    config = home / "sshd_config"
    config.write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {home}/host\nAuthorizedKeysFile {home}/user.pub\n"
        f"PidFile {home}/pid\nStrictModes no\nPermitRootLogin yes\nPasswordAuthentication no\nUsePAM no\n"
        f"SetEnv {environment}\n"
    )
    (home / "known").write_text(f"[127.0.0.1]:{port} {(home / 'host.pub').read_text()}")
    process = subprocess.Popen([sshd, "-D", "-e", "-f", str(config)], stderr=open(home / "sshd.log", "w"))
    until = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < until:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.05)
    yield Server(home, port, process)
    process.terminate()
    process.wait(60)
