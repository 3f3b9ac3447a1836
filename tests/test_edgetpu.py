"""The driver of edgetpu_compiler, against a stand-in that prints what version 16 prints and leaves what it leaves.

The report's form: FAQ and compiler page at coral.ai, and logs in google-coral/edgetpu issues #31, #631 and #845.
"""

import os
import stat

import pytest

from pipeline.nouns.errors import CompilerError
from pipeline.targets.edgetpu import compile_edgetpu

REPORT = """Edge TPU Compiler version 16.0.384591198
Started a compilation timeout timer of 180 seconds.

Model compiled successfully in 312 ms.

Input model: net.tflite
Input size: 1.20MiB
Output model: net_edgetpu.tflite
Output size: 1.51MiB
Number of Edge TPU subgraphs: 1
Total number of operations: 64
Compilation succeeded!
"""
SUCCESS = f"""
while [ $# -gt 1 ]; do [ "$1" = -o ] && out=$2; shift; done
name=$(basename "$1" .tflite)
head -c 9000 /dev/zero > "$out/${{name}}_edgetpu.tflite"
echo log > "$out/${{name}}_edgetpu.log"
cat <<'END'
{REPORT}END
"""
STUB = SUCCESS.replace("head -c 9000", "head -c 1000").replace(REPORT, "Internal compiler error. Aborting!\n")
FAILURE = """
echo 'Edge TPU Compiler version 16.0.384591198'
echo 'ERROR: Attempting to use a delegate that only supports static-sized tensors with a graph that has dynamic-sized' \
  'tensors.'
exit 1
"""


@pytest.fixture
def artifact(tmp_path):
    folder = tmp_path / "with space"
    folder.mkdir()
    path = folder / "net.tflite"
    path.write_bytes(b"x" * 5000)
    return path


@pytest.fixture
def compiler(tmp_path, monkeypatch):
    def install(script):
        file = tmp_path / "bin" / "edgetpu_compiler"
        file.parent.mkdir(exist_ok=True)
        file.write_text("#!/bin/sh\n" + script)
        file.chmod(file.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", f"{file.parent}:{os.environ['PATH']}")

    return install


def test_without_the_compiler_the_file_is_left_and_the_way_is_told(artifact, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    compiled = compile_edgetpu(artifact)
    assert compiled.path is None
    assert "not on PATH" in compiled.note and f"edgetpu_compiler -s -o {artifact.parent} {artifact}" in compiled.note


def test_a_success_leaves_the_compiled_file_and_its_log(artifact, compiler):
    compiler(SUCCESS)
    compiled = compile_edgetpu(artifact)
    assert compiled.path == artifact.with_name("net_edgetpu.tflite") and compiled.path.stat().st_size == 9000
    assert artifact.with_name("net_edgetpu.log").read_text() == "log\n"
    assert sorted(p.name for p in artifact.parent.iterdir()) == ["net.tflite", "net_edgetpu.log", "net_edgetpu.tflite"]


def test_a_stub_with_exit_code_0_is_a_failure(artifact, compiler):
    compiler(STUB)
    with pytest.raises(CompilerError, match="exit code 0 and no compiled file.*Internal compiler error"):
        compile_edgetpu(artifact)
    assert [p.name for p in artifact.parent.iterdir()] == ["net.tflite"]


def test_a_failure_says_what_the_compiler_said(artifact, compiler):
    compiler(FAILURE)
    with pytest.raises(CompilerError, match="exit code 1.*dynamic-sized tensors"):
        compile_edgetpu(artifact)
    assert [p.name for p in artifact.parent.iterdir()] == ["net.tflite"]
