"""The driver of edgetpu_compiler, against a stand-in that prints what version 16 prints and leaves what it leaves.

The report's form: FAQ and compiler page at coral.ai, and logs in google-coral/edgetpu issues #31, #631 and #845.
"""

import os
import re
import stat

import numpy as np
import pytest

from pipeline.compilers.edgetpu_compiler import MAPPED, ask, compile_edgetpu, parse
from pipeline.core.errors import CompilerError
from pipeline.devices import devices
from pipeline.measure.inspect import inspect
from pipeline.targets import target, targets
from pipeline.tflite.read import packed, read
from tests.support.single_ops import cases, model

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
UNSPECIFIED = "Operation is otherwise supported, but not mapped due to some unspecified limitation"
LEAVES = """
while [ $# -gt 1 ]; do [ "$1" = -o ] && out=$2; shift; done
name=$(basename "$1" .tflite)
left="$out/${name}_edgetpu.tflite"
"""


def success(twin):
    """The script of a compiler that leaves the file ``twin`` as its result."""
    return f"""{LEAVES}
cp "{twin}" "$left"
echo log > "$out/${{name}}_edgetpu.log"
cat <<'END'
{REPORT}END
"""


STUB = f'{LEAVES}\nhead -c 1000 /dev/zero > "$left"\necho "Internal compiler error. Aborting!"\n'
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
    path.write_bytes(two_ops())
    return path


@pytest.fixture
def twin(tmp_path):
    """What the compiler makes of ``artifact``: one of its two ops is mapped."""
    path = tmp_path / "twin"
    path.write_bytes(compiled_twin(two_ops()))
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


def test_doctor_says_what_is_ready_and_how_to_make_it_so(cli, tmp_path, compiler, twin):
    how, wide = "apt-get install edgetpu-compiler", {"COLUMNS": "200"}
    before = cli("doctor", cwd=tmp_path, env=wide)
    assert before.returncode == 0 and how in before.stdout, before.stderr
    compiler(success(twin))
    after = cli("doctor", cwd=tmp_path, env=wide)
    assert re.search("│ edgetpu +│.*│ yes", after.stdout) and not re.search("│ edgetpu +│.*│ yes", before.stdout)
    assert how not in after.stdout and all(name in after.stdout for name in (*targets(), *devices()))


def test_a_success_leaves_the_compiled_file_and_its_log(artifact, compiler, twin):
    compiler(success(twin))
    compiled = compile_edgetpu(artifact)
    assert compiled.path == artifact.with_name("net_edgetpu.tflite") and "; 1 of 2 ops" in compiled.note
    assert compiled.path.read_bytes() == twin.read_bytes()
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


def test_the_report_of_version_16_is_read():
    """The whole form, with every status that users have published: google-coral/edgetpu issues #31, #631, #845."""
    text = REPORT.replace(
        "Compilation succeeded!\n",
        f"""On-chip memory used for caching model parameters: 5.90MiB
On-chip memory remaining for caching model parameters: 1.16MiB
Off-chip memory used for streaming uncached model parameters: 41.75KiB
Operation log: net_edgetpu.log

Model successfully compiled but not all operations are supported by the Edge TPU.
Number of operations that will run on Edge TPU: 60
Number of operations that will run on CPU: 4
See the operation log file for individual operation details.

Operator                       Count      Status

CONV_2D                        45         Mapped to Edge TPU
CONV_2D                        2          More than one subgraph is not supported
RESIZE_BILINEAR                1          {UNSPECIFIED}
ARG_MAX                        1          Operation is working on an unsupported data type
ADD                            15         Mapped to Edge TPU
Compilation child process completed within timeout period.
Compilation succeeded!
""",
    )
    report = parse(text)
    assert report.version == "16.0.384591198" and report.subgraphs == 1
    assert (report.cached, report.left, report.streamed) == ("5.90MiB", "1.16MiB", "41.75KiB")
    assert sum(count for _, count, status in report.ops if status == MAPPED) == 60
    assert report.statuses("CONV_2D") == ["More than one subgraph is not supported"] and report.statuses("ADD") == []
    assert report.statuses("RESIZE_BILINEAR") == [UNSPECIFIED] and len(report.ops) == 5


@pytest.mark.parametrize(
    ("printed", "message"),
    [
        ("Invalid model: net.tflite\nModel not quantized", "not quantized.*int8 files only"),
        (
            "ERROR: Didn't find op for builtin opcode 'TRANSPOSE_CONV' version '4'. An older version of this builtin might"  # noqa: E501
            " be supported.",
            "version '4'.*newer than the compiler",
        ),
        ("Compilation failed due to large activation tensors in model.", "large activation.*smaller --size"),
        ("Compilation timeout exceeded.", "timeout.*gave up"),
        ("Internal compiler error. Aborting!", "Internal compiler error.*tried twice"),
        (
            "ERROR: Attempting to use a delegate that only supports static-sized tensors with a graph that has"
            " dynamic-sized tensors.",
            "dynamic-sized.*no fixed size",
        ),
        ("", "said: nothing"),
    ],
)
def test_each_failure_comes_with_what_to_do(artifact, compiler, printed, message):
    compiler(
        f"cat <<'END'\nEdge TPU Compiler version 16.0.384591198\n{printed}\nEND\nexit 1\n" if printed else "exit 1\n"
    )
    with pytest.raises(CompilerError, match=message):
        compile_edgetpu(artifact)


LIES = {
    "no file": ("true", "no compiled file"),
    "an empty file": (': >"$left"', "no compiled file"),
    "noise": ('head -c 100000 /dev/urandom >"$left"', "is not a .tflite file"),
    "the input unchanged": ('head -c 100000 /dev/zero | cat "$1" - >"$left"', "has no edgetpu-custom-op"),
    "a file of another model": ('cp "$0.other" "$left"', "other outputs"),
    "one of its tensors renamed": ('cp "$0.renamed" "$left"', "a tensor that the file has not"),
    "no program in its op": ('cp "$0.empty" "$left"', "holds no program"),
    "a link": ('ln -s /etc/passwd "$left"', "is a link, a folder or a device"),
    "a fifo": ('mkfifo "$left"', "is a link, a folder or a device"),
    "too large a file": ('truncate -s 5G "$left"', "5120 MiB, far more"),
    "another name": ('cp "$0.good" "$left.bak"', "no compiled file"),
    "ended by a signal": ('cp "$0.good" "$left"; kill -9 $$', "ended with signal SIGKILL"),
}


@pytest.mark.parametrize(("script", "sentence"), LIES.values(), ids=LIES)
def test_a_compiler_that_lies_compiles_nothing(artifact, compiler, tmp_path, script, sentence):
    others = {"good": compiled_twin(two_ops()), "empty": compiled_twin(two_ops(), program=b"")}
    others["other"] = compiled_twin(model(next(c for c in cases() if c.name == "conv 3x3")))
    others["renamed"] = others["good"].replace(b"t1\0", b"t9\0")
    absurd = f"Edge TPU Compiler version 1\\033[31m{'6' * 9000}\\nNumber of Edge TPU subgraphs: {'9' * 5000}\\n"
    compiler(f"{LEAVES}\n{script}\nprintf '{absurd}'\n")
    for name, data in others.items():
        (tmp_path / "bin" / f"edgetpu_compiler.{name}").write_bytes(data)
    with pytest.raises(CompilerError, match=sentence) as error:
        compile_edgetpu(artifact)
    assert "\n" not in str(error.value) and [p.name for p in artifact.parent.iterdir()] == ["net.tflite"]
    answer = ask(artifact, read(artifact.read_bytes()))
    if script.startswith("head -c 100000 /dev/zero") or "empty" in script:
        assert answer.verdicts  # a compiler may map nothing
    else:
        assert answer.verdicts is None and re.search(sentence, answer.note)


def compiled_twin(data, program=bytes(4096)):
    """The file with the first of its ops replaced by the compiler's."""
    from ai_edge_litert import schema_py_generated as schema

    twin = schema.ModelT.InitFromPackedBuf(data, 0)
    twin.operatorCodes[0].builtinCode = twin.operatorCodes[0].deprecatedBuiltinCode = schema.BuiltinOperator.CUSTOM
    twin.operatorCodes[0].customCode = "edgetpu-custom-op"
    twin.subgraphs[0].operators[0].customOptions = np.frombuffer(program, np.uint8)
    return packed(twin, 10_000) + bytes(4096)


def test_an_intermittent_error_is_tried_again(artifact, compiler, tmp_path, twin):
    tried = tmp_path / "tried"
    compiler(
        f'if [ ! -e "{tried}" ]; then touch "{tried}"; echo "Internal compiler error. Aborting!"; exit 1; fi\n'
        + success(twin)
    )
    assert compile_edgetpu(artifact).path.is_file()


def test_the_compilers_own_verdict_comes_from_what_it_left(tmp_path, compiler):
    """A stand-in that maps the first op of two: the other one is still in its result, and the report says why."""
    content = two_ops()
    file, twin_file = tmp_path / "net.tflite", tmp_path / "twin"
    file.write_bytes(content)
    twin_file.write_bytes(compiled_twin(content))
    table = "Operator  Count  Status\n\nRELU  1  Mapped to Edge TPU\nRELU6  1  Operation not supported\n"
    compiler(
        f'while [ $# -gt 1 ]; do [ "$1" = -o ] && out=$2; shift; done\ncp {twin_file} "$out/net_edgetpu.tflite"\n'
        f"cat <<'END'\n{REPORT}{table}END\n"
    )
    answer = ask(file, read(content))
    assert [v.outcome for v in answer.verdicts] == ["accelerated", "falls back"]
    assert answer.verdicts[1].reason == "Operation not supported" and answer.verdicts[1].by.startswith(
        "edgetpu_compiler 16"
    )
    seen = inspect(file, target("edgetpu"))
    assert seen.disagreements == (1,) and seen.real_coverage.ops_accelerated == 1  # our rule maps RELU6


def two_ops():
    from ai_edge_litert import schema_py_generated as schema

    model_ = schema.ModelT.InitFromPackedBuf(model(next(c for c in cases() if c.name == "relu")), 0)
    graph = model_.subgraphs[0]
    tensor, code, op = (type(x)() for x in (graph.tensors[0], model_.operatorCodes[0], graph.operators[0]))
    vars(tensor).update(vars(graph.tensors[1]))
    tensor.name = "t2"
    graph.tensors.append(tensor)
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.RELU6
    code.version = 2
    model_.operatorCodes.append(code)
    op.opcodeIndex, op.inputs, op.outputs = 1, [1], [2]
    graph.operators.append(op)
    graph.outputs = [2]
    return packed(model_, 1000)
