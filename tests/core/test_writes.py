"""Every file that lasts is written by core/files or core/together; what others write is temporary."""

import ast

import pytest

from tests.conftest import ROOT
from tests.test_structure import sources

WRITERS = {
    "write_text",
    "write_bytes",
    "savez",
    "savez_compressed",
    "copyfile",
    "copy2",
    "copytree",
    "rename",
    "tofile",
}
PLACES = {"pipeline/core/files.py", "pipeline/core/together.py"}
ELSEWHERE = {
    "pipeline/convert/convert.py": "a folder of core/together; a broken file gets another name",
    "pipeline/core/training.py": "a folder gets another name",
    "pipeline/cli/workers.py": "a worker of rank above 0 works on a copy of the run, in a temporary folder",
    "pipeline/cli/group.py": "the report of an internal error, a new file",
    "pipeline/cli/options.py": "a copy of standard error",
    "pipeline/predict/video.py": "a part of core/files gets its name",
    "pipeline/drivers/published.py": "a download, locked; it gets its name when it is whole",
    "pipeline/compilers/openvino_ir.py": "from one temporary folder into another",
    "pipeline/drivers/openssh.py": "from a temporary folder to a place in another",
    "pipeline/measure/evaluation.py": "into memory",
    **dict.fromkeys(
        (
            "pipeline/api/memory.py",
            "pipeline/compilers/elsewhere.py",
            "pipeline/compilers/gpu_accelerator.py",
            "pipeline/compilers/litert_aot.py",
            "pipeline/compilers/vela.py",
            "pipeline/drivers/benchmark_model.py",
            "pipeline/drivers/gpu_worker.py",
            "pipeline/drivers/host_profile.py",
            "pipeline/measure/heads.py",
            "pipeline/measure/profile.py",
            "pipeline/measure/score.py",
            "pipeline/measure/sweep_shards.py",
        ),
        "temporary folders",
    ),
}
"""File → what it writes, if not through those places."""


def writes(text):
    """The calls in Python code that write files, as text."""
    found = set()
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        owner = ast.unparse(node.func.value) if isinstance(node.func, ast.Attribute) else ""
        arguments = [*node.args[:2], *(keyword.value for keyword in node.keywords if keyword.arg == "mode")]
        modes = [a.value for a in arguments if isinstance(a, ast.Constant) and isinstance(a.value, str)]
        opens = name == "open" and any(set(mode) & set("wax+") for mode in modes if len(mode) <= 3)
        moves = name == "replace" and owner == "os"
        if opens or moves or (owner and name in WRITERS):
            found.add(ast.unparse(node))
    return found


def test_files_are_written_in_one_place():
    found = {str(file.relative_to(ROOT)): writes(file.read_text()) for file in sources()}
    assert not {file: calls for file, calls in found.items() if calls and file not in PLACES | set(ELSEWHERE)}
    assert all(found[file] for file in ELSEWHERE), "name only files that write"


@pytest.mark.parametrize(
    "text",
    [
        "open(path, 'w')",
        "path.open('ab')",
        "open(path, mode='x')",
        "path.write_text('')",
        "os.replace(a, b)",
        "path.rename(other)",
        "np.savez(path, x)",
    ],
)
def test_a_write_is_seen(text):
    assert writes(text) == {text}


def test_what_writes_nothing_is_not():
    assert not writes("open(path)\nopen(path, 'rb')\ntext.replace('a', 'b')\ndataclasses.replace(noun, x=1)")
