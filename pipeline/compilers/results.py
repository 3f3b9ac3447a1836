"""Files that a vendor's compiler left, read with care: exit code 0 does not say that they are what they should be."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from ai_edge_litert import schema_py_generated as schema

from pipeline.core.errors import CompilerError, SegquantError
from pipeline.core.graph import Graph, Tensor
from pipeline.tflite.read import read


def most_bytes(source: Path) -> int:
    """What a compiled file may have: far more than any compiler adds to ``source``."""
    return 16 * source.stat().st_size + (64 << 20)


def content(path: Path, source: Path) -> bytes:
    """Of a file that a compiler made of ``source``. Raises CompilerError where it is missing, a link, or far too large.

    A link could lead to any file of this machine.
    """
    try:
        info = path.lstat()
    except OSError as error:
        raise _unusable(path, f"cannot be read ({error.strerror})", source) from None
    if not stat.S_ISREG(info.st_mode):
        raise _unusable(path, "is a link, a folder or a device, and not a file", source)
    if info.st_size > most_bytes(source):
        raise _unusable(path, f"has {info.st_size >> 20} MiB, far more than a compiled file needs", source)
    with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb") as file:
        return file.read(most_bytes(source))


def contents(folder: Path, source: Path) -> dict[str, bytes]:
    """The files in ``folder`` by name, none where it is gone or a link; raises CompilerError as ``content`` does.

    All of them together are bounded as one is.
    """
    if folder.is_symlink() or not folder.is_dir():
        return {}
    files: dict[str, bytes] = {}
    size_bytes = 0
    for path in sorted(folder.iterdir()):
        if path.is_symlink() or not path.is_dir():
            files[path.name] = content(path, source)
            size_bytes += len(files[path.name])
        if size_bytes > most_bytes(source):
            raise _unusable(path, "and the files beside it are far larger than a compiler makes them", source)
    return files


def _unusable(path: Path, what: str, source: Path) -> CompilerError:
    return CompilerError(
        f"the compiler's result {path.name} {what}, so it is not used: see whether the compiler is the right one. The"
        f" uncompiled file is {source}."
    )


def twin_of(source: Path, data: bytes, compiler: str, compiled_op: str | None = None, named: bool = False) -> Graph:
    """The graph of a compiled file. Raises CompilerError where it cannot have been made of ``source``.

    ``compiled_op``: the custom op that must be in it; None where none need be. ``named``: the compiler keeps the names
    of tensors, and the program in the options of its op.
    """
    try:
        graph = read(source.read_bytes(), str(source))
        twin = read(data, f"the result of {compiler}")
        if (problem := _stranger(graph, twin, named)) is None and compiled_op is not None:
            problem = _uncompiled(data, twin, compiled_op, named)
    except CompilerError:
        raise
    except SegquantError as error:
        problem = error.message.rstrip(".")
    if problem is not None:
        raise CompilerError(
            f"{compiler} ended without an error, but {problem}: so it counts as not compiled. See whether it is the"
            f" right compiler; the uncompiled file is {source}."
        )
    return twin


def _stranger(graph: Graph, twin: Graph, named: bool) -> str | None:
    """Why ``twin`` was made of another file."""

    def like(tensor: Tensor) -> tuple[object, ...]:
        return (tensor.name if named else "", tensor.shape, tensor.dtype, tensor.range)

    for side, ours, theirs in (
        ("inputs", [graph.tensors[i] for i in graph.inputs], [twin.tensors[i] for i in twin.inputs]),
        ("outputs", [graph.tensors[i] for i in graph.outputs], [twin.tensors[i] for i in twin.outputs]),
    ):
        if list(map(like, ours)) != list(map(like, theirs)):
            return f"its result has other {side} ({_shown(theirs)}, and the file has {_shown(ours)})"
    names = {tensor.name for tensor in graph.tensors}
    other = next((t.name for op in twin.ops for t in twin.writes(op) if t.name not in names), None) if named else None
    return None if other is None else f"its result has a tensor that the file has not ({other!r})"


def _shown(tensors: list[Tensor]) -> str:
    return ", ".join(f"{tensor.name} {tensor.dtype} {list(tensor.shape)}" for tensor in tensors[:3]) or "none"


def _uncompiled(data: bytes, twin: Graph, compiled_op: str, with_program: bool) -> str | None:
    """Why ``twin`` holds nothing compiled."""
    made = [op for op in twin.ops if op.custom and op.name == compiled_op]
    if not made:
        return f"its result has no {compiled_op}: no op was compiled"
    stored = schema.Model.GetRootAs(data).Subgraphs(0)
    for op in made if with_program else ():
        entry = stored.Operators(op.index)
        if not entry.CustomOptionsLength() and not entry.LargeCustomOptionsSize():
            return f"the {compiled_op} in its result holds no program"
    return None
