"""A machine behind ssh: with a stand-in for ssh, a real sshd on this machine, and an ARM64 Python behind it."""

import contextlib
import io
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from pipeline.core.device import DeviceOptions, RunnerOptions
from pipeline.core.errors import ArtifactError, BadSpec, DeviceError
from pipeline.devices import connect, device
from pipeline.devices.host import HostRunner
from pipeline.devices.ssh import Ssh
from pipeline.drivers.openssh import Address, address, linked
from tests.conftest import ROOT
from tests.support.int8_networks import int8_network
from tests.support.single_ops import cases, model
from tests.support.ssh_server import executable, free_port, serving
from tests.support.stand_in_benchmark import as_program

ARM64 = Path(os.environ.get("SEGQUANT_ARM64", ROOT / ".arm64"))
SSH = """
echo "$@" >>"{log}"
[ "$1" != -G ] || {{ echo "user me"; echo "hostname board.local"; echo "port 22"; exit; }}
for far in "$@"; do :; done
cd "{home}" && PATH="{bin}:/usr/bin:/bin" HOME="{home}" TMPDIR="{home}/tmp" exec sh -c "$far"
"""
"""As sshd does: the last word goes to the login shell."""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "my net;$x.tflite"
    path.write_bytes(model(next(case for case in cases() if case.name == "conv 3x3")))
    return path


@pytest.fixture
def far(tmp_path):
    """The far side: a home, and a folder for temporary files. python3 there is the one that runs this."""
    home = tmp_path / "far side"
    (home / "tmp").mkdir(parents=True)
    executable(home / "bin" / "python3", f'exec "{sys.executable}" "$@"')
    return home


@pytest.fixture
def near(tmp_path, far, monkeypatch):
    """A stand-in for ssh on PATH."""
    executable(tmp_path / "bin" / "ssh", SSH.format(log=tmp_path / "log", home=far, bin=far / "bin"))
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    return tmp_path / "bin" / "ssh"


def inputs(count=3):
    rng = np.random.default_rng(0)
    return [rng.integers(-128, 128, (1, 16, 16, 8), dtype=np.int8) for _ in range(count)]


def expected(file, images):
    with HostRunner(file, 1) as runner:
        return [runner.infer(image) for image in images]


def nothing_left(far, seconds=60):
    """Nothing in the far folder for temporary files; those who end by themselves get a little time."""
    until = time.monotonic() + seconds
    while (left := list((far / "tmp").rglob("*"))) and time.monotonic() < until:
        time.sleep(0.1)
    return not left


@pytest.mark.parametrize(
    ("selector", "where", "typed"),
    [
        ("box", Address("box"), "ssh box"),
        ("pi@10.0.0.7:2222", Address("10.0.0.7", "pi", 2222), "ssh -p 2222 pi@10.0.0.7"),
        ("[::1]", Address("::1"), "ssh ::1"),
        ("me@[fe80::1%eth0]:22", Address("fe80::1%eth0", "me", 22), "ssh -p 22 me@fe80::1%eth0"),
        ("me@firm.example@box", Address("box", "me@firm.example"), "ssh me@firm.example@box"),
        ("a-b_c.d", Address("a-b_c.d"), "ssh a-b_c.d"),
    ],
)
def test_an_address_is_read_as_one_writes_it(selector, where, typed):
    assert address(selector) == where and where.typed == typed


@pytest.mark.parametrize(
    "selector",
    [
        "",
        "-oProxyCommand=x",
        "-l@box",
        "me@-F",
        "[-x]",
        "box:",
        "box:ssh",
        "box:0",
        "box:70000",
        "::1",
        "a:b:22",
        "me@",
        "@box",
        "b;x",
        "$(x)",
        "a b",
        "`x`",
        "b'x",
        "b\nx",
        "me;x@box",
        "[::1",
        "[::1]x",
        "x\\",
        "b&x",
        "b|x",
    ],
)
def test_an_address_that_is_none_or_an_option_is_refused(selector):
    with pytest.raises(BadSpec, match=r"device ssh:"):
        address(selector)


def test_it_wants_to_be_named():
    with pytest.raises(DeviceError, match=r"ssh:\[USER@\]HOST\[:PORT\]"):
        device("ssh")
    assert device("ssh:me@box:22")[1] == "me@box:22"


def test_what_runs_there_gives_what_it_gives_here_and_leaves_nothing(file, near, far, tmp_path):
    images = inputs()
    connection = connect("ssh:me@box:22")
    try:
        assert connection.identity == "ssh:me@board.local:22"
        runner = connection.open(file, RunnerOptions(1))
        assert len(list(runner.infer_many(images))) == len(images) and runner.facts.runs_on == "XNNPACK"
        for got, here in zip(runner.infer_many(images), expected(file, images), strict=True):
            assert np.array_equal(got, here)
        block = runner.time(5)
        assert len(block.samples_ms) == 5 and min(block.samples_ms) > 0 and runner.peak_memory_bytes() > 1 << 20
        (private,) = (far / "tmp").iterdir()
        assert private.stat().st_mode & 0o777 == 0o700 and private.owner() == Path.home().owner()
        runner.close()
        assert sorted(x.name for x in private.iterdir()) == ["litert_worker.py"]
    finally:
        connection.close()
    assert nothing_left(far, 0)
    calls = (tmp_path / "log").read_text().splitlines()
    assert calls[0].split()[:6] == ["-G", "-l", "me", "-p", "22", "--"]
    assert all("BatchMode=yes" in call and "ControlPath=" in call for call in calls[1:])
    assert sum("ControlMaster=yes" in call for call in calls) == 1 and "StrictHostKeyChecking=yes" in calls[1]
    assert all("ProxyCommand=exit 1" in call for call in calls[2:])  # no second login


def test_the_far_machine_describes_itself(near, far):
    executable(far / "bin" / "sh", 'echo "motd {of} the day"; exec /bin/sh "$@"')  # a login that greets
    connection = connect("ssh:box")
    try:
        facts, state = connection.describe(), connection.state()
    finally:
        connection.close()
    assert facts["device"] == "ssh:me@board.local:22" and facts["runtime"].startswith("ai-edge-litert")
    assert facts["cores"] == len(os.sched_getaffinity(0)) and {"governor", "cpu_features"} <= set(facts)
    assert state["load_average_1min"] >= 0 and nothing_left(far, 0)


def failing(host, far, file, settings=DeviceOptions()):
    with pytest.raises((DeviceError, ArtifactError)) as error:
        connection = connect(f"ssh:{host}", settings)
        try:
            connection.open(file, RunnerOptions(1)).close()
        finally:
            connection.close()
    assert nothing_left(far, 0) and "\n" not in str(error.value)
    return f"{type(error.value).__name__}: {error.value}"


@pytest.mark.parametrize(
    ("printed", "message"),
    [
        ("ssh: Could not resolve hostname box: Name or service not known", "no machine of that name"),
        ("ssh: connect to host box port 22: Connection refused", "no ssh server answers there"),
        ("ssh: connect to host box port 22: Connection timed out", "does not answer"),
        ("me@box: Permission denied (publickey).", "accepts none of your keys.*ssh-copy-id"),
        ("Host key verification failed.", r"host key is not known here: run `ssh box` once"),
        (
            "@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\nHost key verification failed.",
            "host key is not the one",
        ),
        ("kex_exchange_identification: read: Connection reset by peer", "read: Connection reset by peer"),
    ],
)
def test_a_login_that_fails_is_one_sentence(printed, message, near, far, file):
    executable(
        near,
        f"[ \"$1\" != -G ] || {{ echo 'user me'; echo 'hostname b'; echo 'port 1'; exit; }}\n"
        f"cat >&2 <<'END'\n{printed}\nEND\nexit 255",
    )
    with pytest.raises(DeviceError, match=rf"^ssh:me@b:1: .*{message}"):
        connect("ssh:box")


def test_without_ssh_here(near, far, file, monkeypatch):
    monkeypatch.setenv("PATH", str(far / "tmp"))
    with pytest.raises(DeviceError, match="apt-get install openssh-client"):
        connect("ssh:box")


def test_the_python_there(near, far, file):
    python = far / "bin" / "python3"
    python.unlink()
    (far / "bin" / "python3").symlink_to("/nowhere")
    far_path = near.read_text().replace(":/usr/bin:/bin", f":{far}/few")
    (far / "few").mkdir()
    for name in ("sh", "mktemp", "cat", "rm", "sleep", "true"):
        (far / "few" / name).symlink_to(shutil.which(name))
    near.write_text(far_path)
    assert "python3 is not there: install it with `ssh box sudo apt-get install python3-venv`" in failing(
        "box", far, file
    )
    assert "/no/python is not there: correct --remote-python" in failing(
        "box", far, file, DeviceOptions(remote_python="/no/python")
    )
    python.unlink()
    executable(python, f'exec "{sys.executable}" -S -I "$@"')  # without the installed packages
    assert "python3 lacks ai-edge-litert: `ssh box 'python3 -m venv .venv && .venv/bin/pip" in failing("box", far, file)
    assert f"{python} -m pip install ai-edge-litert" in failing(
        "box", far, file, DeviceOptions(remote_python=str(python))
    )
    executable(python, "exit 3")
    assert "python3 does not start (exit code 3: it printed nothing)" in failing("box", far, file)
    python.write_bytes(b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x02\x00\x08\x00" + bytes(100))  # for MIPS
    assert "python3 is a program for another processor" in failing("box", far, file)
    own = far / ".venv" / "bin"
    own.mkdir(parents=True)
    executable(own / "python", f': >"{own}/asked"; exec "{sys.executable}" "$@"')
    connection = connect("ssh:box")
    connection.open(file, RunnerOptions(1)).close()  # in the second place
    connection.close()
    assert (own / "asked").is_file()


def test_what_goes_wrong_there_is_one_sentence(near, far, file, tmp_path):
    executable(far / "bin" / "cat", 'echo "cat: write error: No space left on device" >&2; exec /bin/false')
    assert "disk is full" in failing("box", far, file)
    (far / "bin" / "cat").unlink()
    python = far / "bin" / "python3"
    for ended, message in (
        ("exit 200", "ArtifactError: signal 72 ended LiteRT on ssh:me@board.local:22"),
        ("kill -KILL $$", "ArtifactError: signal SIGKILL ended LiteRT on ssh:me@board.local:22 with .*memory"),
        ("echo 'ImportError: GLIBC_2.99 not found' >&2; exit 1", "DeviceError.*LiteRT does not load in python3.*2.99"),
        ("echo 'ValueError: nothing known' >&2; exit 1", "ArtifactError: LiteRT cannot run .*nothing known"),
        ("echo 'OSError: [Errno 28] No space left on device' >&2; exit 1", "disk is full"),
    ):
        executable(python, f'case $2 in run) {ended};; esac; exec "{sys.executable}" "$@"')
        assert re.search(message, failing("box", far, file))
    executable(python, f'exec "{sys.executable}" "$@"')
    broken = tmp_path / "broken.tflite"
    broken.write_bytes(file.read_bytes()[:200])
    assert "broken or truncated" in failing("box", far, broken)


def test_a_machine_that_lies_about_itself_is_one_sentence(near, far):
    python = far / "bin" / "python3"
    for said in ("", "echo []", "echo '{\"cores\": NaN}'", "printf '\\377'"):
        executable(python, f'case $2 in describe|state) {said or ":"}; exit;; esac; exec "{sys.executable}" "$@"')
        connection = connect("ssh:box")
        try:
            for ask in (connection.describe, connection.state):
                with pytest.raises(DeviceError, match="^ssh:me@board.local:22: python3 answers nonsense .*describes"):
                    ask()
        finally:
            connection.close()
    assert nothing_left(far, 0)


@pytest.mark.parametrize("sent", ["half", "xz", "outside", "another", "nothing"])
def test_an_archive_from_there_that_is_none_is_one_sentence(sent, near, far, tmp_path):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:xz" if sent == "xz" else "w") as archive:
        name = {"outside": "../out", "another": "other"}.get(sent, "out")
        info = tarfile.TarInfo(name)
        info.size = 3
        archive.addfile(info, io.BytesIO(b"abc"))
    data = packed.getvalue()
    (far / "sent").write_bytes({"half": data[:514], "nothing": b""}.get(sent, data))
    executable(far / "bin" / "tar", f'exec cat "{far}/sent"')
    link = linked(address("box"))
    try:
        with pytest.raises(DeviceError, match=r"^ssh:me@board.local:22: .*see that `tar` works there"):
            link.pull(f"{link.folder}/out", tmp_path / "made")
    finally:
        link.close()
    assert not (tmp_path / "made").exists() and not (tmp_path / "out").exists() and nothing_left(far, 0)


def test_a_file_compiled_for_the_edge_tpu_asks_for_its_library_there(near, far, tmp_path):
    from tests.measure.test_inspect import custom

    compiled = tmp_path / "net_edgetpu.tflite"
    compiled.write_bytes(custom("edgetpu-custom-op"))
    connection = connect("ssh:box", DeviceOptions(delegate_library="/no/libedgetpu.so.1"))
    try:
        with pytest.raises(
            DeviceError,
            match=r"ssh:me@board.local:22 has no /no/libedgetpu.so.1 for .*: install it with `ssh box sudo apt",
        ):
            connection.open(compiled, RunnerOptions(1, "edgetpu"))
        with pytest.raises(ArtifactError, match=r"compiled for a chip"):
            connection.open(compiled, RunnerOptions(1, "cpu"))
    finally:
        connection.close()
    assert nothing_left(far, 0)


def without_litert(far):
    """The far Python, which lacks ai-edge-litert; the stand-in for benchmark_model names its own."""
    executable(far / "bin" / "python3", f'exec "{sys.executable}" -S -I "$@"')


def check_benchmark(connection, file, images):
    """What the stand-in prints and makes is what a real benchmark_model would."""
    runner = connection.open(file, RunnerOptions(1))
    for got, here in zip(runner.infer_many(images), expected(file, images), strict=True):
        assert np.array_equal(got, here)
    block = runner.time(20)
    assert block.runs == 20 and block.summary_ms["median"] > 0 and not block.samples_ms
    facts = connection.describe()
    assert facts["runtime"].startswith("benchmark_model, sha256 ") and facts["cores"] == len(os.sched_getaffinity(0))
    assert connection.state()["load_average_1min"] >= 0 and facts["device"] == connection.identity
    runner.close()


def test_without_litert_there_benchmark_model_does_it(file, near, far, tmp_path):
    without_litert(far)
    connection = connect("ssh:box", DeviceOptions(benchmark_binary=as_program(tmp_path / "a tool")))
    try:
        check_benchmark(connection, file, inputs(2))
    finally:
        connection.close()
    assert nothing_left(far, 0)
    foreign = tmp_path / "foreign"
    foreign.write_bytes(b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x02\x00\x08\x00" + bytes(100))  # for MIPS
    message = failing("box", far, file, DeviceOptions(benchmark_binary=foreign))
    assert "foreign is a program for another processor, and ssh:me@board.local:22 runs " in message


@pytest.fixture
def server(tmp_path, far, monkeypatch):
    """A real sshd, which ssh_config calls board; the far side's folder for temporary files is its own."""
    with serving(tmp_path, f'"HOME={far}" "PATH={far}/bin:/usr/bin:/bin" "TMPDIR={far}/tmp"') as sshd:
        options = "".join(f"  {name} {value}\n" for name, value in sshd.options.items())
        (tmp_path / "config").write_text(f"Host board\n  HostName 127.0.0.1\n{options}")
        executable(tmp_path / "bin" / "ssh", f'exec {shutil.which("ssh")} -F "{tmp_path}/config" "$@"')
        monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
        yield sshd


def children(pid):
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def workers(far):
    return [int(x.stem) for x in (far / "tmp").rglob("*.pid")]


def among_all(words):
    """Processes whose folder or command has these words."""
    names = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if words in os.readlink(process / "cwd") + (process / "cmdline").read_bytes().decode(errors="replace"):
                names.append(process.name)
    return names


def kill_children(process):
    for pid in children(process):
        os.kill(pid, signal.SIGKILL)


def ended(pids, seconds=60):
    until = time.monotonic() + seconds
    while (left := [pid for pid in pids if Path(f"/proc/{pid}").exists()]) and time.monotonic() < until:
        time.sleep(0.1)
    return not left


@pytest.mark.real
def test_a_real_ssh_server(file, server, far):
    images = inputs(40)
    connection = connect("ssh:board")
    try:
        assert isinstance(connection, Ssh)
        own = Path(connection._link._socket_folder)
        assert connection.identity == f"ssh:{server.options['User']}@127.0.0.1:{server.port}"
        facts = connection.describe()
        assert facts["device"] == connection.identity and facts["cores"] == len(os.sched_getaffinity(0))
        first, second = (
            connection.open(file, RunnerOptions(1, pinned=True)),
            connection.open(file, RunnerOptions(1)),
        )
        for got, here in zip(first.infer_many(images), expected(file, images), strict=True):
            assert np.array_equal(got, here)
        assert len(first.time(20).samples_ms) == 20 and second.peak_memory_bytes() > 1 << 20
        processes = workers(far)
        assert len(processes) == 2 and len(children(server.process.pid)) == 1  # one login
        first.close()
        second.close()
    finally:
        connection.close()
    assert nothing_left(far, 0) and ended(processes, 0)
    assert not own.exists()


@pytest.mark.real
def test_a_server_that_starts_anew_keeps_what_runs_and_is_waited_for(file, server, far):
    """sshd is ended while a connection is open, and comes back while another is made."""
    with contextlib.ExitStack() as stack:
        first = connect("ssh:board")
        server.process.terminate()
        server.process.wait(60)
        again = threading.Timer(1, lambda: stack.enter_context(subprocess.Popen(server.process.args)))
        again.start()
        second = connect("ssh:board")
        again.join()
        runner = first.open(file, RunnerOptions())
        one, same = runner.infer_many(inputs(1) * 2)
        assert np.array_equal(one, same) and second.state()["load_average_1min"] >= 0
        runner.close()
        first.close()
        second.close()
        os.kill(int((server.home / "pid").read_text()), signal.SIGTERM)
    assert nothing_left(far, 0)


@pytest.mark.real
def test_what_a_real_ssh_server_refuses(file, server, far, tmp_path):
    def refusal(selector="ssh:board"):
        with pytest.raises(DeviceError) as error:
            connect(selector)
        assert nothing_left(far, 0)
        return str(error.value)

    known, user = (tmp_path / "known").read_text(), tmp_path / "user"
    (tmp_path / "known").write_text("")
    assert re.search(r"ssh:.*@127.0.0.1:\d+: its host key is not known here: run `ssh board` once", refusal())
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", f"{tmp_path}/other"], check=True)
    (tmp_path / "known").write_text(f"{known.split()[0]} {(tmp_path / 'other.pub').read_text()}")
    assert "its host key is not the one known here" in refusal()
    (tmp_path / "known").write_text(known)
    user.write_bytes((tmp_path / "other").read_bytes())
    assert "it accepts none of your keys" in refusal()
    assert "no ssh server answers there" in refusal(f"ssh:board:{free_port()}")
    assert "no machine of that name" in refusal("ssh:no-such-host.invalid")


@pytest.mark.real
@pytest.mark.timeout(300)
@pytest.mark.parametrize("doing", ["inferring", "timing"])
def test_a_link_that_is_lost_in_the_middle(doing, file, server, far):
    connection = connect("ssh:board")
    runner = connection.open(file, RunnerOptions(1))
    processes, outputs = workers(far), []
    with pytest.raises(DeviceError, match=r"connection was lost \(.+\): see that .*`ssh board`"):
        if doing == "timing":
            threading.Timer(1, kill_children, [server.process.pid]).start()
            runner.time(10**9)  # days, if nobody ended it
        for i, output in enumerate(runner.infer_many(inputs(1) * 100_000)):
            outputs.append(output)
            if i == 50:
                kill_children(server.process.pid)
    assert doing == "timing" or len(outputs) > 50
    assert nothing_left(far) and ended(processes)
    with pytest.raises(DeviceError, match="connection was lost"):
        connection.open(file, RunnerOptions(1))
    assert (server.home / "sshd.log").read_text().count("Accepted publickey") == 1  # it did not log in again
    started = time.monotonic()
    runner.close()
    connection.close()
    assert time.monotonic() - started < 5


@pytest.mark.real
@pytest.mark.timeout(300)
def test_a_link_that_falls_silent_is_not_waited_for(file, server, far):
    connection = connect("ssh:board")
    runner = connection.open(file, RunnerOptions(1))
    (session,) = children(server.process.pid)
    os.kill(session, signal.SIGSTOP)
    started = time.monotonic()
    with pytest.raises(DeviceError, match=r"connection was lost \(Timeout, server"):
        runner.infer(inputs()[0])
    assert 10 < time.monotonic() - started < 30
    runner.close()
    connection.close()
    os.kill(session, signal.SIGCONT)
    assert nothing_left(far)


HOLDS = """
import sys
sys.path.insert(0, {root!r})
from pathlib import Path
from pipeline.devices import connect
from pipeline.core.device import RunnerOptions
runner = connect("ssh:board").open(Path({file!r}), RunnerOptions(1))
print("open", flush=True)
runner.time(10**9)
"""


@pytest.mark.real
def test_nothing_stays_when_the_near_side_is_killed(file, server, far):
    code = HOLDS.format(root=str(ROOT), file=str(file))
    near = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert near.stdout.readline() == "open\n"
    processes, connections = workers(far), children(server.process.pid)
    assert len(processes) == 1 and len(connections) == 1
    near.kill()
    near.wait()
    assert nothing_left(far) and ended(processes) and ended(connections)


@pytest.mark.real
def test_benchmark_model_behind_a_real_ssh_server(file, server, far, tmp_path):
    without_litert(far)
    connection = connect("ssh:board", DeviceOptions(benchmark_binary=as_program(tmp_path / "tool")))
    check_benchmark(connection, file, inputs())
    runner = connection.open(file, RunnerOptions(1))
    threading.Timer(1, kill_children, [server.process.pid]).start()
    with pytest.raises(DeviceError, match=r"connection was lost \(.+\): see that .*`ssh board`"):
        runner.time(10**9)
    assert nothing_left(far)
    until = time.monotonic() + 60
    while (running := among_all(str(far / "tmp"))) and time.monotonic() < until:
        time.sleep(0.1)
    assert not running
    connection.close()


@pytest.mark.real
def test_a_full_disk_there(file, server, far):
    small = far / "tmp"
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", small], capture_output=True).returncode:
        pytest.skip("no small disk: mounting one takes root")
    try:
        large = file.with_name("large.tflite")
        large.write_bytes(file.read_bytes() + bytes(1 << 20))
        assert "its disk is full" in failing("board", far, large)
        (small / "filler").write_bytes(bytes(60 << 10))
        with pytest.raises(DeviceError, match="its disk is full"):  # not even the worker fits
            connect("ssh:board").close()
        assert [x.name for x in small.rglob("*")] == ["filler"]
        subprocess.run(["mount", "-o", "remount,nr_inodes=2", small], check=True)
        with pytest.raises(DeviceError, match="its disk is full"):  # not even a folder
            connect("ssh:board").close()
    finally:
        subprocess.run(["umount", "-l", small], check=True)


@pytest.mark.real
@pytest.mark.parametrize("core", ["cortex-a53", "cortex-a76"])
def test_an_arm64_machine_gives_the_same_bytes(core, server, far, tmp_path):
    """Emulated: the bytes count, times say nothing."""
    if not (ARM64 / "python").is_file():
        pytest.skip(f"no ARM64 userland: `tests/support/arm64.sh {ARM64}` makes it (300 MB, two minutes)")
    executable(far / "bin" / "python3", f'exec "{ARM64}/python" {core} "$@"')
    net = tmp_path / "net.tflite"
    net.write_bytes(int8_network("fast-scnn", (161, 193), "logits"))
    images = np.random.default_rng(3).integers(-128, 128, (3, 1, 161, 193, 3)).astype(np.int8)
    connection = connect("ssh:board")
    try:
        facts = connection.describe()
        assert "aarch64" in facts["system"] and facts["runtime"].startswith("ai-edge-litert")
        runner = connection.open(net, RunnerOptions(1))
        here = expected(net, images)
        assert len(np.unique(here[0])) > 50 and not np.array_equal(here[0], here[1])
        assert all(np.array_equal(got, wanted) for got, wanted in zip(runner.infer_many(images), here, strict=True))
        runner.close()
    finally:
        connection.close()
    assert nothing_left(far, 0)
