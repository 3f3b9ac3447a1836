"""Another machine over ssh, an ARM64 board say: LiteRT in Python there, with nothing of ours installed.

Where there is no ai-edge-litert, LiteRT's benchmark_model does it, if one is given that was built for the machine.
"""

from __future__ import annotations

import contextlib
import json
import signal
from pathlib import Path
from typing import Any

from pipeline.core.device import Device, DeviceOptions, Runner, RunnerOptions
from pipeline.core.errors import ArtifactError, DeviceError, SegquantError
from pipeline.core.files import sha256
from pipeline.devices import edgetpu
from pipeline.devices.host import WORKER
from pipeline.drivers import survey
from pipeline.drivers.answers import Nonsense, description_of
from pipeline.drivers.benchmark_model import Installed, shell
from pipeline.drivers.last_words import how_it_ended
from pipeline.drivers.openssh import MARK, Link, address, linked
from pipeline.drivers.ssh_words import SSH_FAILED, last_line
from pipeline.drivers.worker import WorkerRunner, check_readable, settings_of

FIND = (
    'code=$1; shift; c=127; for p; do case $p in "~/"*) p=$HOME/${p#??};; esac; command -v "$p" >/dev/null || continue;'
    f' "$p" -c "$code"; r=$?; [ $r = 0 ] && echo "{MARK}$p" && exit 0; [ $c = 127 ] && c=$r; done; exit $c'
)
"""$1: what Python is asked, the rest: where it may be. Exit code of the first that is there, 127 where none is."""
PYTHONS = ("python3", "~/.venv/bin/python")
LACKS = 65
HAS_LITERT = f"import importlib.util as u,sys;sys.exit({LACKS}*(None in map(u.find_spec,('numpy','ai_edge_litert'))))"


def find_python(link: Link, named: str | None = None) -> str:
    """The far Python that has LiteRT; raises DeviceError with the command that makes one."""
    ran = link.run(shell(FIND, HAS_LITERT, *((named,) if named else PYTHONS)))
    output, marked, path = ran.output.partition(MARK)
    if marked:
        return path.strip()
    python, reach = f"{link.name}: {named or 'python3'}", link.address.typed
    if ran.code == 127 and named:
        problem = "is not there: correct --remote-python"
    elif ran.code == 127:
        problem = f"is not there: install it with `{reach} sudo apt-get install python3-venv`"
    elif ran.code == LACKS and named:
        problem = f"lacks ai-edge-litert: `{reach} {named} -m pip install ai-edge-litert`"
    elif ran.code == LACKS:
        install = "'python3 -m venv .venv && .venv/bin/pip install ai-edge-litert'"
        problem = f"lacks ai-edge-litert: `{reach} {install}`, or name a Python that has it with --remote-python"
    elif "Exec format error" in output or "cannot execute binary file" in output:
        problem = "is a program for another processor: name another with --remote-python"
    else:
        problem = f"does not start (exit code {ran.code}: {last_line(output)}): repair it there"
    raise DeviceError(f"{python} {problem}.")


class Ssh:
    """A remote machine whose Python has LiteRT."""

    def __init__(self, link: Link, python: str, settings: DeviceOptions) -> None:
        self._link, self.identity, self._python, self._settings = link, link.name, python, settings
        self._worker = f"{link.folder}/{WORKER.name}"
        self._opened = 0
        link.push(WORKER, self._worker)

    def _query(self, verb: str) -> dict[str, Any]:
        ran = self._link.run([self._python, self._worker, verb])
        if ran.code != 0:
            raise self._link.failed(ran.code, ran.output)
        try:
            return description_of(last_line(ran.output))
        except Nonsense as error:
            raise DeviceError(
                f"{self.identity}: {self._python} answers nonsense ({error}): see that it is a Python with"
                " ai-edge-litert, or name another with --remote-python."
            ) from None

    def describe(self) -> dict[str, Any]:
        return {"device": self.identity, **self._query("describe")}

    def state(self) -> dict[str, Any]:
        return self._query("state")

    def open(self, file: Path, options: RunnerOptions) -> WorkerRunner:
        """A file compiled for the Edge TPU asks for libedgetpu there."""
        check_readable(file)
        settings = settings_of(options)
        if options.target == edgetpu.TARGET and edgetpu.is_compiled(file):
            settings |= edgetpu.delegate(self._settings)
        self._opened += 1
        path = f"{self._link.folder}/{self._opened}.tflite"
        self._link.push(file, path)
        words = [self._python, self._worker, "run", path, json.dumps(settings)]
        reach = f"{self._link.address.typed} "
        chip = edgetpu.explain(file, self.identity, settings.get("delegate", ""), reach)

        def explain(code: int, log: str) -> SegquantError | None:
            if code in (SSH_FAILED, -signal.SIGKILL) or not self._link.alive:
                return self._link.failed(SSH_FAILED, log)
            if "No space left on device" in log:
                return self._link.failed(code, log)
            code = 128 - code if code > 128 else code  # as a shell tells a signal
            if better := chip(code, log):
                return better
            if code < 0:
                return ArtifactError(
                    f"{how_it_ended(code)} ended LiteRT on {self.identity} with {file}: see"
                    " whether that machine has the memory, else convert the network again."
                )
            if "ImportError" in log or "ModuleNotFoundError" in log:
                return DeviceError(
                    f"{self.identity}: LiteRT does not load in {self._python} ({last_line(log)}): install"
                    " ai-edge-litert again, or name another Python with --remote-python."
                )
            return None

        return WorkerRunner(file, self._link.starting(words), explain, closed=lambda: self._remove(path))

    def _remove(self, path: str) -> None:
        with contextlib.suppress(DeviceError):  # it went with its folder
            self._link.run(["rm", "-f", path], 20)

    def close(self) -> None:
        self._link.close()


class SshBenchmark:
    """A remote machine with benchmark_model."""

    def __init__(self, link: Link, binary: Path, settings: DeviceOptions) -> None:
        self._link, self.identity, self._binary = link, link.name, binary
        self._survey = survey.survey(link)
        self._installed = Installed(link, binary, self._survey.abis(), settings.delegate_library)

    def describe(self) -> dict[str, Any]:
        runtime = f"benchmark_model, sha256 {sha256(self._binary)[:16]}"
        return {"device": self.identity, **self._survey.describe(), **self.state(), "runtime": runtime}

    def state(self) -> dict[str, Any]:
        return survey.state(self._link)

    def open(self, file: Path, options: RunnerOptions) -> Runner:
        return self._installed.open(file, options, self._survey.cores())

    def close(self) -> None:
        with contextlib.suppress(DeviceError):
            self._installed.close()
        self._link.close()


def connect(selector: str, settings: DeviceOptions) -> Ssh | SshBenchmark:
    link = linked(address(selector))
    try:
        try:
            return Ssh(link, find_python(link, settings.remote_python), settings)
        except DeviceError:
            if settings.benchmark_binary is None or not link.alive:
                raise
            return SshBenchmark(link, settings.benchmark_binary, settings)
    except BaseException:
        link.close()
        raise


SSH = Device(
    name="ssh",
    aliases=("board", "raspberry", "raspberrypi", "remote"),
    title="another machine over ssh, LiteRT in its Python or benchmark_model",
    rank=0,
    find=lambda: None,
    missing=lambda: "name the machine, as ssh:[USER@]HOST[:PORT]",
    connect=connect,
    selector_help=":[USER@]HOST[:PORT]",
    runs_compiled=(edgetpu.TARGET,),
    takes=("benchmark_binary", "delegate_library", "remote_python"),
)
