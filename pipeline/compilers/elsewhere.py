"""Runs a vendor's compiler where it is installed: on this machine, in a container, or on another machine over ssh.

The command that starts the compiler says where that is: ``edgetpu_compiler``, ``docker run --rm IMAGE
edgetpu_compiler`` (podman alike; the folder with the file is mounted), or ``ssh HOST edgetpu_compiler`` (the file goes
there and the results come back through that one connection; nothing stays on the other machine).
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import shlex
import tarfile
from collections.abc import Iterator
from pathlib import Path

from pipeline.compilers.results import contents, most_bytes
from pipeline.core.errors import BadSpec, CompilerError
from pipeline.core.keeper import scratch_folder
from pipeline.core.program import KEPT_BYTES, NotEnded, run, text_of
from pipeline.core.together import COMPILING
from pipeline.drivers.last_words import how_it_ended
from pipeline.drivers.ssh_words import BATCH, DAMAGED_TAR, SSH_FAILED, for_a_shell, last_line, why

CONTAINERS = ("docker", "podman")
INSIDE = "/segquant"
"""Where the folder is mounted in a container."""
SSH_OPTIONS_WITH_VALUE = "BbcDEeFIiJLlmOoPpQRSWw"
"""Of OpenSSH 9's ssh(1)."""
BEGIN = b"segquant-results\n"
"""Marks the results: the login shell may print something before them."""
FAR_SIDE = (
    'command -v "$3" >/dev/null || exit 127; d=$(mktemp -d) || exit 126; p=; exec 3<&0;'
    ' stop() { [ -z "$p" ] || kill -9 -$p || kill -9 $p; }; clean() { stop 2>/dev/null; rm -rf "$d"; };'
    ' trap clean EXIT; trap "exit 130" HUP INT TERM PIPE;'
    ' n=$1; mkdir "$d/out" && head -c $2 <&3 >"$d/$n" && [ $(wc -c <"$d/$n") = $2 ] || exit 126; shift 2; c=0;'
    ' $(command -v setsid) "$@" -s -o "$d/out" "$d/$n" </dev/null >"$d/all" 2>&1 3<&- & p=$!;'
    " { cat <&3; stop; } >/dev/null 2>&1 & w=$!; wait $p || c=$?; kill $w; stop 2>/dev/null; p=;"
    f' head -c {KEPT_BYTES} "$d/all" >"$d/said"; echo $c >"$d/code"; echo segquant-results;'
    ' cd "$d" && tar -cf - said code out'
)
"""For ``for_a_shell``. $1: the file's name, $2: its bytes, the rest: the compiler and its options. The file comes on
standard input, which then stays open: where it ends, this side is gone, and the compiler is ended with its group."""


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
            with _scratch(file.parent) as scratch:
                return self._beside(file, scratch, timeout_seconds, kind in CONTAINERS)
        except NotEnded as error:
            raise CompilerError(f"`{self.name}` {error}; the uncompiled file is {file}.") from None
        except OSError as error:
            raise CompilerError(
                f"`{self.name}` cannot be started ({error.strerror or error}): correct the command, or install it."
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
        completed = run([*start, *self.words, "-s", "-o", f"{folder}/out", source], timeout_seconds)
        output = f"{completed.out}\n{completed.err}"
        if container and completed.code in (125, 126, 127):
            raise CompilerError(
                f"`{self.name}` did not start the compiler (exit code {completed.code}): {last_line(output)}. The"
                f" uncompiled file is {file}."
            )
        return CompilerRun(completed.code, output, contents(out, file))

    def _over_ssh(self, file: Path, timeout_seconds: float) -> CompilerRun:
        data = file.read_bytes()
        far = for_a_shell(FAR_SIDE, file.name, str(len(data)), *self.words)
        host = self.start[-1]
        # Behind the user's own options, whose say counts: ssh takes the first value of each.
        command, most = [*self.start[:-1], *BATCH, host, far], 2 * (most_bytes(file) + KEPT_BYTES)
        completed = run(command, timeout_seconds, data=data, stays_open=True, kept_bytes=2 * most)
        _, begun, packed = completed.stdout.partition(BEGIN)
        if completed.code == 0 and begun:
            return _unpacked(packed)
        errors = completed.err
        if completed.code == 127:
            problem = f"{self.words[0]} is not there: install it on that machine, or give its full path"
        elif completed.code == SSH_FAILED:
            problem = why(errors)
        else:
            problem = f"the connection ended with {how_it_ended(completed.code)}: {last_line(errors)}"
        raise CompilerError(f"compiling on {host}: {problem}. The uncompiled file is {file}.")


@contextlib.contextmanager
def _scratch(folder: Path) -> Iterator[Path]:
    """A folder in ``folder``, which a container sees as well; where nothing can be written there, a temporary one."""
    with contextlib.ExitStack() as stack:
        try:
            scratch = stack.enter_context(scratch_folder(COMPILING, folder))
        except OSError:
            scratch = stack.enter_context(scratch_folder())
        yield scratch


def _unpacked(packed: bytes) -> CompilerRun:
    try:
        with tarfile.open(fileobj=io.BytesIO(packed), mode="r:") as archive:  # compressed it could be any size
            plain = [m for m in archive if m.isreg() and not m.issparse()]
            files = {m.name: archive.extractfile(m).read() for m in plain}  # type: ignore[union-attr]
        return CompilerRun(
            int(files["code"][:4]),
            text_of(files["said"]),
            {Path(name).name: data for name, data in files.items() if name.startswith("out/")},
        )
    except (*DAMAGED_TAR, KeyError):
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
