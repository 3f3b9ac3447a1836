"""Commands whose streams are closed, whose reader leaves, and that a scheduler stops while a compiler works."""

import os
import signal
import subprocess
import sys
import time

import pytest

from tests.conftest import ROOT
from tests.core.test_program import alive, gone
from tests.support.single_ops import cases, model
from tests.support.ssh_server import executable

CLI = [sys.executable, str(ROOT / "cli.py")]
SLOW = f"sleep 86398.{os.getpid():07}"


def through_a_shell(script, *words):
    command = ["sh", "-c", script, "sh", *CLI, *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)


@pytest.mark.parametrize("script", ['"$@" >&-', '"$@" 2>&-', '"$@" <&- >&- 2>&-', '{ "$@"; echo $? >&2; } | true'])
def test_closed_streams_and_readers_that_leave_are_no_errors(script):
    result = through_a_shell(script, "--version")
    assert result.returncode == 0 and result.stderr in ("", "0\n", "1\n")


GROUP = """
import time
import click
from pipeline.cli.group import Main
from pipeline.cli.screen import say, tell

@click.group(cls=Main)
def main(): pass

@main.command()
def talk():
    say("begins")
    time.sleep(0.3)
    for _ in range(3):
        say("goes on")
    for _ in range(3):
        tell("result")
    open("done", "w")

main(["talk"])
"""


@pytest.mark.parametrize(
    ("script", "done"),
    [('{ "$@"; echo $? >&2; } | true', False), ('{ "$@"; echo $? >&3; } 3>&1 2>&1 >/dev/null | head -1 >&2', True)],
    ids=["the reader of results left", "the reader of messages left"],
)
def test_a_reader_that_leaves_ends_a_command_whose_results_it_read(script, done, tmp_path):
    """Of one whose messages it read, the work goes on: `train 2>&1 | head` loses no training."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = ["sh", "-c", script, "sh", sys.executable, "-c", GROUP]
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    said = result.stderr
    assert not any(word in said for word in ("error", "Traceback", "ignored")) and (tmp_path / "done").exists() == done
    assert said.endswith("begins\n" if done else "1\n")


@pytest.fixture
def inspecting(tmp_path):
    """`inspect` with a compiler that does not end."""
    file = tmp_path / "one" / "net.tflite"
    file.parent.mkdir()
    file.write_bytes(model(next(case for case in cases() if case.name == "relu")))
    executable(tmp_path / "slow", f"{SLOW} & {SLOW}")
    (tmp_path / "tmp").mkdir()
    words = ["inspect", str(file), "--target", "edgetpu", "--compiler", str(tmp_path / "slow")]
    environment = {**os.environ, "TMPDIR": str(tmp_path / "tmp")}
    process = subprocess.Popen([*CLI, *words], stderr=subprocess.PIPE, text=True, env=environment)
    until = time.monotonic() + 60
    while len(alive(SLOW)) < 2 and time.monotonic() < until:
        time.sleep(0.05)
    yield process, file.parent
    process.kill()
    process.wait()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_command_that_is_stopped_ends_its_compiler_and_leaves_nothing(inspecting, number, code):
    process, folder = inspecting
    process.send_signal(number)
    assert "interrupted" in process.communicate(timeout=90)[1] and process.returncode == code
    assert gone(SLOW) and [file.name for file in folder.iterdir()] == ["net.tflite"]
    assert not list((folder.parent / "tmp").iterdir())


CLOSED = """
import os, signal
import click
from pipeline.cli.group import Main

@click.group(cls=Main)
def main(): pass

@main.command()
@click.pass_context
def work(ctx):
    ctx.find_root().call_on_close(lambda: os.kill(os.getpid(), signal.SIGTERM))

main(["work"])
"""


def test_a_signal_that_comes_while_an_ended_command_is_closed_is_answered_as_any_other():
    result = subprocess.run([sys.executable, "-c", CLOSED], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 143 and result.stderr.startswith("interrupted by SIGTERM")


SWALLOWED = """
import os, signal, sys, time
import click
from pipeline.cli.group import Main

class Deleted:
    def __del__(self):
        os.kill(os.getpid(), int(sys.argv[1]))
        time.sleep(0.1)

@click.group(cls=Main)
def main(): pass

@main.command()
def work():
    Deleted()
    time.sleep(20)

main(["work"])
"""


REWORDED = """
import os, sys
import click
from pipeline.cli.group import Main

@click.group(cls=Main)
def main(): pass

@main.command()
def work():
    try:
        os.kill(os.getpid(), int(sys.argv[1]))
    except KeyboardInterrupt as stopped:
        error = RuntimeError(str(stopped))
    raise error

main(["work"])
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("program", [SWALLOWED, REWORDED], ids=["swallowed by Python", "made another error"])
def test_a_signal_that_does_not_come_through_is_not_lost_and_no_internal_error(number, program):
    words = [sys.executable, "-c", program, str(int(number))]
    result = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=90, check=False)
    assert result.returncode == 128 + number and result.stderr.startswith("interrupted")
