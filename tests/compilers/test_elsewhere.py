"""A compiler in a container and on another machine: stand-ins for docker, ssh and the compiler, and a real sshd."""

import errno
import io
import os
import subprocess
import tarfile
import time
from pathlib import Path

import pytest

from pipeline.compilers.edgetpu_compiler import compile_edgetpu
from pipeline.compilers.elsewhere import Program, program
from pipeline.compilers.results import contents
from pipeline.core.errors import BadSpec, CompilerError
from pipeline.targets import target
from tests.compilers.test_edgetpu import compiled_twin, success, two_ops
from tests.core.test_program import gone
from tests.support.single_ops import cases, model
from tests.support.ssh_server import executable, free_port, serving

DOCKER = """
echo "$@" >> "{log}"
[ "$1" = run ] || exit 125
shift
while [ $# -gt 0 ]; do
  case $1 in
    --mount) mount=$2; shift 2;;
    --*) shift;;
    *) break;;
  esac
done
[ "$1" = coral ] || {{ echo "Unable to find image '$1' locally" >&2; exit 125; }}
shift
folder=${{mount#*source=}}; folder=${{folder%%,target=*}}
compiler=$1; shift
for word in "$@"; do shift; set -- "$@" "$(echo "$word" | sed "s|^/segquant|$folder|")"; done
PATH="{bin}:$PATH" exec "$compiler" "$@"
"""
SSH = 'for far in "$@"; do :; done\ncd "{home}" && PATH="{bin}:/usr/bin:/bin" exec sh -c "$far"\n'
"""As sshd does: the last word goes to the login shell."""


@pytest.fixture
def artifact(tmp_path):
    folder = tmp_path / "with 'space' $HOME"
    folder.mkdir()
    path = folder / "my net;x.tflite"
    path.write_bytes(two_ops() + os.urandom(200_000))
    return path


@pytest.fixture
def far(tmp_path):
    """The far side: a compiler in its own folder, and the folder where it keeps what it makes."""
    home = tmp_path / "far"
    (home / "tmp").mkdir(parents=True)
    copies = f'for file; do :; done\ncp "$file" {tmp_path}/seen\n'
    (tmp_path / "twin").write_bytes(compiled_twin(two_ops()))
    executable(home / "bin" / "edgetpu_compiler", copies + success(tmp_path / "twin"))
    return home


@pytest.fixture
def near(tmp_path, far, monkeypatch):
    """Stand-ins for docker and ssh on PATH."""
    bin_ = tmp_path / "bin"
    executable(bin_ / "docker", DOCKER.format(log=tmp_path / "docker.log", bin=far / "bin"))
    executable(bin_ / "ssh", SSH.format(home=far, bin=far / "bin"))
    monkeypatch.setenv("PATH", f"{bin_}:/usr/bin:/bin")
    monkeypatch.setenv("TMPDIR", str(far / "tmp"))
    return bin_


def check_compiled(artifact, compiled, seen):
    assert compiled.path == artifact.with_name("my net;x_edgetpu.tflite")
    assert compiled.path.read_bytes() == compiled_twin(two_ops())
    assert compiled.path.with_suffix(".log").read_text() == "log\n" and "16.0.384591198" in compiled.note
    assert seen.read_bytes() == artifact.read_bytes()
    assert len(list(artifact.parent.iterdir())) == 3  # the file, its compiled form and the log


def test_a_container_sees_the_folder_and_leaves_nothing(artifact, near, tmp_path):
    chosen = target("edgetpu").with_compiler("docker run --rm coral edgetpu_compiler")
    check_compiled(artifact, chosen.compile(artifact), tmp_path / "seen")
    assert "run --mount type=bind,source=" in (tmp_path / "docker.log").read_text()
    with pytest.raises(CompilerError, match="did not start the compiler.*125.*Unable to find image"):
        target("edgetpu").with_compiler("docker run --rm corral edgetpu_compiler").compile(artifact)


def test_over_ssh_the_file_goes_there_and_nothing_stays(artifact, near, far, tmp_path):
    check_compiled(artifact, target("edgetpu").with_compiler("ssh there").compile(artifact), tmp_path / "seen")
    assert not list((far / "tmp").iterdir())


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("echo 'Invalid model: x'; echo 'Model not quantized'; exit 1", "exit code 1.*not quantized.*int8 files only"),
        (None, "edgetpu_compiler is not there: install it on that machine"),
    ],
    ids=["fails", "missing"],
)
def test_what_goes_wrong_on_the_far_side_is_one_sentence(artifact, near, far, script, message):
    compiler = far / "bin" / "edgetpu_compiler"
    compiler.unlink()
    if script:
        executable(compiler, script)
    with pytest.raises(CompilerError, match=message) as error:
        compile_edgetpu(artifact, program("ssh there edgetpu_compiler", "edgetpu_compiler"))
    assert str(artifact) in str(error.value) and not list((far / "tmp").iterdir())
    assert len(list(artifact.parent.iterdir())) == 1


def test_a_file_in_a_folder_that_cannot_be_written_can_be_asked_about(artifact, near, far, monkeypatch):
    make = Path.mkdir

    def read_only(path, *how, **options):
        if path.parent == artifact.parent:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
        make(path, *how, **options)

    monkeypatch.setattr(Path, "mkdir", read_only)
    ran = Program((), (str(far / "bin" / "edgetpu_compiler"),)).run(artifact, 20)
    assert ran.code == 0 and ran.files["my net;x_edgetpu.tflite"] == compiled_twin(two_ops())


def test_a_connection_that_breaks_is_no_result(artifact, near, far):
    executable(near / "ssh", "echo segquant-results; echo half")
    with pytest.raises(CompilerError, match="connection broke"):
        compile_edgetpu(artifact, program("ssh there", "edgetpu_compiler"))
    with tarfile.open(far / "bomb", "w:xz") as archive:  # it could become any size
        for name, data in (("said", b""), ("code", b"0"), ("out/my net;x_edgetpu.tflite", bytes(1 << 20))):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    executable(near / "ssh", f'echo segquant-results; exec cat "{far}/bomb"')
    with pytest.raises(CompilerError, match="connection broke"):
        compile_edgetpu(artifact, program("ssh there", "edgetpu_compiler"))
    header = tarfile.TarInfo("said")
    header.size = 1 << 70
    (far / "bomb").write_bytes(header.tobuf(tarfile.GNU_FORMAT))
    with pytest.raises(CompilerError, match="connection broke"):
        compile_edgetpu(artifact, program("ssh there", "edgetpu_compiler"))
    header.size, header.type = 4, tarfile.GNUTYPE_LONGNAME
    (far / "bomb").write_bytes((header.tobuf() + b"name".ljust(512, b"\0")) * 2000)
    with pytest.raises(CompilerError, match="connection broke"):
        compile_edgetpu(artifact, program("ssh there", "edgetpu_compiler"))
    executable(near / "ssh", "echo 'kex_exchange_identification: read: reset' >&2; exit 255")
    with pytest.raises(CompilerError, match="compiling on there: kex_exchange_identification"):
        compile_edgetpu(artifact, program("ssh there", "edgetpu_compiler"))


def test_a_compiler_that_never_ends_is_ended(artifact, tmp_path):
    executable(tmp_path / "slow", "exec sleep 60")
    started = time.monotonic()
    with pytest.raises(CompilerError, match="did not finish in 1 s"):
        Program((), (str(tmp_path / "slow"),)).run(artifact, 1)
    assert time.monotonic() - started < 30 and len(list(artifact.parent.iterdir())) == 1


@pytest.mark.parametrize(
    ("command", "start", "words"),
    [
        ("edgetpu_compiler -t 600", (), ("edgetpu_compiler", "-t", "600")),
        ("ssh box", ("ssh", "box"), ("edgetpu_compiler",)),
        ("ssh -p 22 -i k -4 me@box /opt/c -t 9", ("ssh", "-p", "22", "-i", "k", "-4", "me@box"), ("/opt/c", "-t", "9")),
        ("ssh -p2222 -4v -oUser=me box", ("ssh", "-p2222", "-4v", "-oUser=me", "box"), ("edgetpu_compiler",)),
        ("ssh -4p 2222 box c", ("ssh", "-4p", "2222", "box"), ("c",)),
        ("podman run image c", ("podman", "run", "image", "c"), ()),
    ],
)
def test_a_command_is_read_as_one_types_it(command, start, words):
    assert program(command, "edgetpu_compiler") == Program(start, words)


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("", "empty"),
        ("ssh", "names no host"),
        ("ssh -p 22", "names no host"),
        ("docker image", "docker run"),
        ("ssh 'box", "quote"),
    ],
)
def test_a_command_that_is_none_is_refused(command, message):
    with pytest.raises(BadSpec, match=message):
        program(command, "edgetpu_compiler")


def test_a_program_that_is_not_there_and_a_target_that_takes_none(artifact, cli, tmp_path):
    with pytest.raises(CompilerError, match="/nowhere/c` cannot be started.*No such file"):
        target("edgetpu").with_compiler("/nowhere/c").compile(artifact)
    result = cli("convert", "--target", "cpu", "--compiler", "ssh box", cwd=tmp_path)
    assert result.returncode == 2 and "target cpu takes no compiler command" in result.stderr
    result = cli("convert", "--target", "all", "--compiler", "ssh box", cwd=tmp_path)
    assert result.returncode == 2 and "one target" in result.stderr


@pytest.fixture
def server(tmp_path, far):
    """The command that reaches a real sshd on this machine."""
    with serving(tmp_path, f"PATH={far}/bin:/usr/bin:/bin TMPDIR={far}/tmp") as sshd:
        options = " ".join(f"-o {name}={value}" for name, value in sshd.options.items() if name != "Port")
        yield f"ssh -p {sshd.port} {options} 127.0.0.1"


@pytest.mark.real
def test_a_real_ssh_server(server, artifact, far, tmp_path):
    check_compiled(artifact, target("edgetpu").with_compiler(server).compile(artifact), tmp_path / "seen")
    assert not list((far / "tmp").iterdir())
    with pytest.raises(CompilerError, match="no_such_compiler is not there"):
        target("edgetpu").with_compiler(f"{server} no_such_compiler").compile(artifact)
    executable(far / "bin" / "edgetpu_compiler", "echo 'Compilation timeout exceeded.'; exit 1")
    with pytest.raises(CompilerError, match="exit code 1.*gave up"):
        target("edgetpu").with_compiler(server).compile(artifact)
    assert not list((far / "tmp").iterdir())


@pytest.mark.real
def test_a_compiler_behind_a_real_ssh_server_ends_with_us(server, artifact, far):
    """It is ended there with what it began when this side gives up: sshd itself tells it nothing."""
    endless = f"sleep 86397.{os.getpid():07}"
    executable(far / "bin" / "edgetpu_compiler", f"{endless} & exec {endless}")
    with pytest.raises(CompilerError, match="did not finish in 2 s"):
        program(server, "edgetpu_compiler").run(artifact, 2)
    assert gone(endless)
    until = time.monotonic() + 30
    while list((far / "tmp").iterdir()) and time.monotonic() < until:
        time.sleep(0.05)
    assert not list((far / "tmp").iterdir())


@pytest.mark.real
def test_a_real_ssh_servers_refusals(server, artifact, tmp_path):
    def compiling(command):
        with pytest.raises(CompilerError) as error:
            target("edgetpu").with_compiler(command).compile(artifact)
        return str(error.value)

    known = (tmp_path / "known").read_text()
    (tmp_path / "known").write_text("")
    assert "its host key is not known here" in compiling(server)
    other = subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", f"{tmp_path}/other"], check=True)
    assert other.returncode == 0
    (tmp_path / "known").write_text(f"{known.split()[0]} {(tmp_path / 'other.pub').read_text()}")
    assert "host key is not the one known here" in compiling(server)
    (tmp_path / "known").write_text(known)
    assert "accepts none of your keys" in compiling(server.replace(f"{tmp_path}/user", f"{tmp_path}/other"))
    assert "no ssh server answers there" in compiling(server.replace(server.split()[2], str(free_port())))
    assert "no machine of that name" in compiling("ssh no-such-host.invalid")


def test_inspect_asks_the_compiler_that_it_is_given(near, far, tmp_path, cli):
    file = tmp_path / "one.tflite"
    file.write_bytes(model(next(case for case in cases() if case.name == "relu")))
    result = cli("inspect", str(file), "--target", "edgetpu", "--compiler", "ssh there", cwd=tmp_path)
    # The stand-in leaves the twin of another file: it was asked, and its answer is refused.
    assert result.returncode == 0 and "other outputs" in " ".join(result.stdout.split()), result.stdout + result.stderr


def test_what_is_left_in_place_of_results_is_no_result(artifact, tmp_path):
    out = tmp_path / "out"
    assert contents(out, artifact) == {}  # the compiler removed it
    out.symlink_to("/etc")
    assert contents(out, artifact) == {}
    out.unlink()
    out.mkdir()
    for name in ("a", "b", "c"):
        with open(out / name, "wb") as file:
            file.truncate(40 << 20)  # sparse
    with pytest.raises(CompilerError, match="b and the files beside it are far larger than a compiler makes them"):
        contents(out, artifact)
