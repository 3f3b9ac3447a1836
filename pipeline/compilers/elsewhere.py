"""Runs a vendor's compiler where it is installed: on this machine, in a container, or on another machine over ssh.

The command that starts the compiler says where that is: ``edgetpu_compiler``, ``docker run --rm IMAGE
edgetpu_compiler`` (podman alike; the folder with the file is mounted), or ``ssh HOST edgetpu_compiler`` (the file goes
there and the results come back through that one connection; nothing stays on the other machine).
"""

from __future__ import annotations

import dataclasses
import io
import shlex
import subprocess
import tarfile
import tempfile
from pathlib import Path

from pipeline.core.errors import BadSpec, CompilerError
from pipeline.drivers.ssh_words import BATCH, SSH_FAILED, for_a_shell, last_line, why

CONTAINERS = ("docker", "podman")
INSIDE = "/segquant"
"""Where the folder is mounted in a container."""
SSH_OPTIONS_WITH_VALUE = "BbcDEeFIiJLlmOoPpQRSWw"
"""Of OpenSSH 9's ssh(1)."""
BEGIN = b"segquant-results\n"
"""Marks the results: the login shell may print something before them."""
FAR_SIDE = (
    'command -v "$2" >/dev/null || exit 127; d=$(mktemp -d) || exit 126; clean() { rm -rf "$d"; }; trap clean EXIT;'
    ' trap "exit 130" HUP INT TERM; mkdir "$d/out" && cat >"$d/$1" || exit 126; n=$1; shift; c=0;'
    ' "$@" -s -o "$d/out" "$d/$n" </dev/null >"$d/said" 2>&1 || c=$?; echo $c >"$d/code"; echo segquant-results;'
    ' cd "$d" && tar -cf - said code out'
)
"""For ``for_a_shell``. $1: the file's name, the rest: the compiler and its options."""


@dataclasses.dataclass(frozen=True)
class CompilerRun:
    """One run: exit code, all that was printed, and the files that were left, by name."""

    code: int
    output: str
    files: dict[str, bytes]


@dataclasses.dataclass(frozen=True)
class Program:
    """A compiler that is called as ``... -s -o FOLDER FILE``.

    Attributes:
      start: nothing, ``ssh ... HOST``, or the whole of ``docker run ...``.
      words: the compiler and options of its own.
    """

    start: tuple[str, ...]
    words: tuple[str, ...]

    @property
    def name(self) -> str:
        return shlex.join([*self.start, *self.words])

    def run(self, file: Path, timeout_seconds: float) -> CompilerRun:
        """Compiles ``file`` there; raises CompilerError where the compiler could not be started or did not end."""
        kind = Path(self.start[0]).name if self.start else ""
        try:
            if kind == "ssh":
                return self._over_ssh(file, timeout_seconds)
            with tempfile.TemporaryDirectory(dir=file.parent, prefix=".compiling-") as scratch:
                return self._beside(file, Path(scratch), timeout_seconds, kind in CONTAINERS)
        except subprocess.TimeoutExpired:
            raise CompilerError(
                f"`{self.name}` did not finish in {timeout_seconds:.0f} s; the uncompiled file is {file}."
            ) from None
        except OSError as error:
            raise CompilerError(
                f"`{self.name}` cannot be started ({error.strerror}): correct the command, or install it."
                f" The uncompiled file is {file}."
            ) from None

    def _beside(self, file: Path, scratch: Path, timeout_seconds: float, container: bool) -> CompilerRun:
        """Here, or in a container that sees the same folder."""
        out = scratch / "out"
        out.mkdir()
        start, folder = list(self.start), str(scratch)
        if container:
            if set(str(scratch)) & set(',"'):
                raise CompilerError(f"a container cannot mount {scratch.parent}: use a path without commas and quotes.")
            (scratch / file.name).write_bytes(file.read_bytes())
            mount = ["--mount", f"type=bind,source={scratch.absolute()},target={INSIDE}"]
            start[2:2] = mount
            scratch.chmod(0o755)  # whoever the container runs as may read here and write in `out`
            out.chmod(0o777)
            folder = INSIDE
        source = f"{folder}/{file.name}" if container else str(file)
        completed = _run([*start, *self.words, "-s", "-o", f"{folder}/out", source], None, timeout_seconds)
        output = (completed.stdout + completed.stderr).decode("utf-8", "replace")
        if container and completed.returncode in (125, 126, 127):
            raise CompilerError(
                f"`{self.name}` did not start the compiler (exit code {completed.returncode}): {last_line(output)}. The"
                f" uncompiled file is {file}."
            )
        return CompilerRun(
            completed.returncode, output, {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()}
        )

    def _over_ssh(self, file: Path, timeout_seconds: float) -> CompilerRun:
        far = for_a_shell(FAR_SIDE, file.name, *self.words)
        host = self.start[-1]
        # Behind the user's own options, whose say counts: ssh takes the first value of each.
        completed = _run([*self.start[:-1], *BATCH, host, far], file.read_bytes(), timeout_seconds)
        _, begun, packed = completed.stdout.partition(BEGIN)
        if completed.returncode == 0 and begun:
            return _unpacked(packed)
        errors = completed.stderr.decode("utf-8", "replace")
        if completed.returncode == 127:
            problem = f"{self.words[0]} is not there: install it on that machine, or give its full path"
        elif completed.returncode == SSH_FAILED:
            problem = why(errors)
        else:
            problem = f"the connection ended with exit code {completed.returncode}: {last_line(errors)}"
        raise CompilerError(f"compiling on {host}: {problem}. The uncompiled file is {file}.")


def _run(command: list[str], data: bytes | None, timeout_seconds: float) -> subprocess.CompletedProcess[bytes]:
    """As subprocess.run, but asks the program to end before it is killed: docker then stops its container."""
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL if data is None else subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        try:
            output, errors = process.communicate(data, timeout=timeout_seconds)
        except BaseException:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
            raise
    return subprocess.CompletedProcess(command, process.returncode, output, errors)


def _unpacked(packed: bytes) -> CompilerRun:
    try:
        with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
            files = {m.name: archive.extractfile(m).read() for m in archive if m.isfile()}  # type: ignore[union-attr]
        return CompilerRun(
            int(files["code"]),
            files["said"].decode("utf-8", "replace"),
            {Path(name).name: data for name, data in files.items() if name.startswith("out/")},
        )
    except (tarfile.TarError, KeyError, ValueError):
        raise CompilerError("the connection broke before the results were here: repeat the command.") from None


def program(command: str, compiler: str) -> Program:
    """Reads a command as one types it; ``compiler`` is what runs where ssh names a host only. Raises BadSpec."""
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise BadSpec(f"--compiler {command!r}: {error}; quote it as in a shell.") from None
    if not words:
        raise BadSpec(f"--compiler is empty: give a command, such as {compiler} or 'ssh HOST {compiler}'.")
    kind = Path(words[0]).name
    if kind == "ssh":
        host = _host(words)
        if host is None:
            raise BadSpec(f"--compiler {command!r} names no host: ssh [OPTIONS] HOST [{compiler}].")
        return Program(tuple(words[: host + 1]), tuple(words[host + 1 :]) or (compiler,))
    if kind in CONTAINERS:
        if words[1:2] != ["run"] or len(words) < 3:
            raise BadSpec(f"--compiler {command!r}: give {kind} run --rm IMAGE {compiler}.")
        return Program(tuple(words), ())
    return Program((), tuple(words))


def _host(words: list[str]) -> int | None:
    """Place of the first word that is neither an option of ssh nor an option's value."""
    place = 1
    while place < len(words):
        word = words[place]
        if not word.startswith("-") or word == "-":
            return place
        letters = word[1:]
        valued = next((i for i, letter in enumerate(letters) if letter in SSH_OPTIONS_WITH_VALUE), None)
        place += 2 if valued == len(letters) - 1 else 1
    return None
