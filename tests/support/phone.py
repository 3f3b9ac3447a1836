"""A phone for tests: Debian's real adbd in namespaces of its own, with a /data/local/tmp, and an `adb` that sees it.

Nothing of it is on the network, and nothing outlives the namespaces: adbd, adb's server, what they start.
"""

import contextlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import ROOT

ADBD = Path(os.environ.get("SEGQUANT_ADBD", ROOT / ".adbd")) / "adbd"
PORT = 5699
"""Beside those where adb looks for emulators (5555 to 5585)."""
SERIAL = f"127.0.0.1:{PORT}"
BEGIN = r"""
set -e
root=$1 adbd=$2 options=$3 port=$4 python=$5
"$python" -c 'import fcntl, socket, struct
fcntl.ioctl(socket.socket(), 0x8914, struct.pack("16sh14x", b"lo", 0x41))  # SIOCSIFFLAGS: lo is up'
mount -t tmpfs -o mode=755 tmpfs "$root"
for place in /*; do
    if [ -L "$place" ]; then cp -P "$place" "$root$place"
    elif [ -d "$place" ] && [ "$place" != /proc ]; then mkdir "$root$place"; mount --rbind "$place" "$root$place"; fi
done
mkdir -p "$root/proc" "$root/data/bin" "$root/data/local/tmp"
mount -t proc proc "$root/proc"
mount -t tmpfs -o "$options" tmpfs "$root/data/local/tmp"
cat >"$root/data/bin/getprop" <<'END'
#!/bin/sh
case $1 in
    ro.soc.manufacturer) echo Debian ;;
    ro.soc.model) echo "SM0 (a stand-in)" ;;
    ro.build.version.release) echo 14 ;;
    ro.build.version.sdk) echo 34 ;;
    ro.product.cpu.abilist) cat /data/abilist 2>/dev/null || uname -m ;;
    *) echo ;;
esac
END
chmod 755 "$root/data/bin/getprop"
export ADBD_PORT=$port PATH="/data/bin:$PATH"
chroot "$root" "$adbd" 2>/dev/null &
echo $! >"$root/data/adbd.pid"
wait || true
sleep infinity
"""
UNSHARE = ("unshare", "--user", "--map-root-user", "--mount", "--net", "--pid", "--fork")
LEFT = """
ls -A /data/local/tmp
for process in /proc/[0-9]*; do
    case "$(readlink "$process/cwd")" in /data/local/tmp*) cat "$process/comm" ;; esac
done
"""


class Phone:
    """One phone. ``options``: how its /data/local/tmp is mounted, such as 'size=1m,noexec'."""

    serial = SERIAL

    def __init__(self, home: Path, options: str = "size=200m") -> None:
        self.home, self.root = home, home / "root"
        self.root.mkdir(parents=True)
        arguments = [str(self.root), str(ADBD), options, str(PORT), sys.executable]
        self._process = subprocess.Popen(
            [*UNSHARE, "--kill-child", "sh", "-c", BEGIN, "sh", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        until = time.monotonic() + 90
        while not self._inside(f"cat /proc/net/tcp /proc/net/tcp6 | grep -q ':{PORT:04X} .* 0A '"):  # it listens
            if self._process.poll() is not None or time.monotonic() > until:
                self.close()
                raise RuntimeError(f"the phone does not start: {self._process.stderr.read().decode()}")
            time.sleep(0.05)

    def _first(self) -> str:
        """The process id of the first process in the namespaces."""
        with contextlib.suppress(OSError):
            return Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().strip()
        return ""

    def enter(self, *words: str) -> list[str]:
        """The command that runs ``words`` where adbd is, but with this machine's files."""
        return ["nsenter", f"--target={self._first()}", "--user", "--net", "--pid", "--preserve-credentials", *words]

    def _inside(self, script: str) -> bool:
        return bool(self._first()) and not self.shell(script).returncode

    def shell(self, script: str) -> subprocess.CompletedProcess[str]:
        """Runs a script with the phone's files, past adb."""
        words = self.enter("--mount", "chroot", str(self.root), "sh", "-c", script)
        return subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)

    def left_behind(self) -> list[str]:
        """Names of files and of the programs that run there."""
        return self.shell(LEFT).stdout.split()

    def unplug(self) -> None:
        self.shell("kill -9 $(cat /data/adbd.pid)")

    def adb_on_path(self) -> dict[str, str]:
        """The environment in which `adb` is Debian's own, inside the namespaces."""
        folder = self.home / "bin"
        folder.mkdir(exist_ok=True)
        words = " ".join(self.enter(shutil.which("adb") or ""))
        (folder / "adb").write_text(f'#!/bin/sh\nTMPDIR="${{0%/*}}" exec {words} "$@"\n')
        (folder / "adb").chmod(0o755)
        return {
            "PATH": f"{folder}:{os.environ['PATH']}",
            "HOME": str(self.home),
            "ANDROID_ADB_SERVER_PORT": "5554",
        }

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


def started(home: Path, options: str = "size=200m") -> Phone:
    """A phone, or the sentence that says what is missing for one."""
    if not ADBD.is_file():
        pytest.skip(f"no adbd: `tests/support/adbd.sh {ADBD.parent}` makes it (27 MB, half a minute)")
    if not shutil.which("adb"):
        pytest.skip("adb is not installed: run `apt-get install adb`")
    if subprocess.run([*UNSHARE, "true"], check=False).returncode:
        pytest.skip("no namespaces: allow them to this user (sysctl kernel.unprivileged_userns_clone=1)")
    return Phone(home, options)
