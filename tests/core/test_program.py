"""Programs from hell: each ends, within bounds, and nothing that it began is left."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from pipeline.core import program
from pipeline.core.keeper import MARK, scratch_folder
from pipeline.core.lock import start_of
from pipeline.core.program import NotEnded, begun, run, text_of
from tests.conftest import ROOT

MARKED = f"sleep 86399.{os.getpid():07}"
"""A duration that nothing else on the machine sleeps, nor another run of these tests."""


def alive(words):
    """Processes whose command line has ``words`` and that began after this one: not those that an ended test run left.

    A zombie has no command line.
    """
    found, since = [], int(start_of(os.getpid()))
    for place in Path("/proc").glob("[0-9]*"):
        try:
            line = (place / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if words in line and int(start_of(int(place.name)) or 0) > since:
            found.append(line)
    return found


def gone(words, seconds=30):
    until = time.monotonic() + seconds
    while (found := alive(words)) and time.monotonic() < until:
        time.sleep(0.05)
    return not found


def shell(script, seconds=20, **options):
    return run(["sh", "-c", script], seconds, **options)


def test_what_it_prints_and_how_it_ends():
    ended = shell("echo out; echo err >&2; exit 3")
    assert (ended.code, ended.out, ended.err) == (3, "out\n", "err\n")
    assert shell("kill -9 $$").code == -9
    assert shell("echo a; echo b >&2", joined=True).out == "a\nb\n"
    assert shell("wc -c", data=bytes(300_000)).out.strip() == "300000"
    assert shell("exit 0", data=bytes(3_000_000)).code == 0  # it reads nothing
    with pytest.raises(OSError):
        run(["/nowhere/at/all"], 5)
    with pytest.raises(OSError, match="null"):
        run(["echo", "a\0b"], 5)


@pytest.mark.parametrize("stream", ["", " >&2"], ids=["stdout", "stderr"])
def test_output_is_bounded_and_keeps_its_head_and_its_tail(stream):
    script = f"{{ echo first; head -c 60000000 /dev/zero; echo; echo last; }}{stream}"
    ended = shell(script, kept_bytes=1000)
    kept = ended.stderr or ended.stdout
    assert kept.startswith(b"first\n") and kept.endswith(b"last\n") and len(kept) < 1100
    assert b"bytes left out" in kept


def test_a_program_that_prints_without_end_is_ended(monkeypatch):
    monkeypatch.setattr(program, "MOST_PRINTED_BYTES", 1 << 26)
    with pytest.raises(NotEnded, match="printed more than"):
        shell(f"yes '{MARKED}'; true")
    assert gone(f"yes {MARKED}")


@pytest.mark.parametrize("leave", ["{0} & exit 0", "(trap '' TERM HUP; {0}) & exit 0", "setsid {0} & exit 0"])
def test_a_child_that_keeps_the_output_open_hangs_nobody_and_is_ended(leave):
    began = time.monotonic()
    assert shell(f"echo done; {leave.format(MARKED)}").out == "done\n"
    assert time.monotonic() - began < 15 and gone(MARKED)  # its own time ends after 20 s


@pytest.mark.parametrize(
    "script",
    [MARKED, f"trap '' TERM INT; while :; do {MARKED}; done", f"exec >&- 2>&-; {MARKED}"],
    ids=["it goes on", "deaf to signals", "silent"],
)
def test_one_that_does_not_end_is_ended(script, monkeypatch):
    monkeypatch.setattr(program, "GRACE_SECONDS", 0.2)
    with pytest.raises(NotEnded, match="did not finish in 1 s"):
        shell(f"echo begun; {script}", 1)
    assert gone(MARKED)


def test_one_that_waits_for_more_input_ends_with_us():
    """As a compiler over ssh: its input stays open for as long as it runs."""
    assert shell("head -c 3; sleep 0.1; [ -e /dev/stdin ] && echo", data=b"abc", stays_open=True).out == "abc\n"


def test_an_exception_in_the_block_ends_the_program():
    with pytest.raises(KeyError), begun(["sh", "-c", f"{MARKED} & wait"]):
        raise KeyError
    assert gone(MARKED)


def test_a_signal_while_a_program_starts_ends_it(monkeypatch):
    class Interrupted(subprocess.Popen):
        def __init__(self, *words, **options):
            super().__init__(*words, **options)
            raise KeyboardInterrupt  # as a signal's handler does before the caller knows the program

    monkeypatch.setattr(subprocess, "Popen", Interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(["sh", "-c", f"{MARKED} & wait"], 5)
    assert gone(MARKED)


def test_a_thread_whose_programs_are_ended_for_good_starts_no_more():
    ends = []

    def each_file():
        for _ in range(3):
            try:
                ends.append(shell(MARKED, 60).code)
            except OSError as error:
                ends.append(error.strerror)

    thread = threading.Thread(target=each_file, daemon=True)
    thread.start()
    while not alive(MARKED):
        time.sleep(0.05)
    program.end_those_of(thread, for_good=True)
    thread.join(30)
    assert ends[0] in (-signal.SIGKILL, "Operation canceled")  # the latter where it was only just starting
    assert ends[1:] == ["Operation canceled", "Operation canceled"] and gone(MARKED)
    assert shell("exit 3").code == 3


def test_a_line_without_end_is_cut():
    assert text_of(b"x" * 10_000_000 + b"\nnext\r\nlast") == "x" * program.LONGEST_LINE + "\nnext\nlast"


HOLDS = f"""
import itertools, os, sys, time
from pipeline.core.keeper import kept, scratch_folder, signals_stop
from pipeline.core.program import begun
import json
with signals_stop() if sys.argv[1] == "handled" else open("/dev/null"):
    clean = json.dumps(["touch", sys.argv[2] + "/cleaned"])
    with scratch_folder("held-", sys.argv[2]) as folder, kept("command", clean):
        (folder / "file").write_text("x")
        with begun(["sh", "-c", "{MARKED} & setsid {MARKED} & wait"], grace_seconds=1):
            time.sleep(0.3)
            if sys.argv[1] == "native":  # says "ready" in a call that keeps Python's lock, as native code may
                sum(itertools.chain(map(os.write, [1], [b"ready\\n"]), range(10**12)))
            print("ready", flush=True)
            time.sleep(3600)
"""


@pytest.mark.parametrize(
    ("how", "number", "code"),
    [
        ("handled", signal.SIGTERM, 1),
        ("handled", signal.SIGHUP, 1),
        ("handled", signal.SIGINT, -signal.SIGINT),
        ("handled", signal.SIGKILL, -signal.SIGKILL),
        ("library", signal.SIGTERM, -signal.SIGTERM),
        ("library", signal.SIGKILL, -signal.SIGKILL),
    ],
)
def test_whatever_ends_this_process_ends_what_it_began(how, number, code, tmp_path):
    words = [sys.executable, "-c", HOLDS, how, str(tmp_path)]
    process = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout.readline() == b"ready\n", process.stderr.read()
    assert len(alive(MARKED)) >= 2 and len(list(tmp_path.iterdir())) == 1
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode == code
    assert gone(MARKED)
    until = time.monotonic() + 30
    graceful = how == "handled" and number != signal.SIGKILL
    while time.monotonic() < until and [p.name for p in tmp_path.iterdir()] != ([] if graceful else ["cleaned"]):
        time.sleep(0.05)
    assert [p.name for p in tmp_path.iterdir()] == ([] if graceful else ["cleaned"])


def test_native_code_that_keeps_pythons_lock_is_ended_all_the_same(tmp_path):
    hasty = "\nimport pipeline.core.keeper as keeper\nkeeper.PATIENCE_SECONDS = 1\n"
    script = hasty + HOLDS.replace('== "handled"', '== "native"')
    words = [sys.executable, "-c", script, "native", str(tmp_path)]
    process = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL and gone(MARKED)
    assert [p.name for p in tmp_path.iterdir()] == ["cleaned"]


def test_a_forked_process_leaves_the_list_alone(tmp_path):
    with scratch_folder("held-", tmp_path) as folder:
        child = os.fork()
        if not child:
            os._exit(0)
        os.waitpid(child, 0)
        time.sleep(0.2)
        assert folder.is_dir() and shell(f"echo ${MARK}").out.strip()
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(sys.platform != "linux", reason="limits of another process's memory exist on Linux only")
def test_a_program_that_takes_more_memory_than_it_may_ends():
    code = """
import time
from resource import RLIM_INFINITY, RLIMIT_DATA, getrlimit
while getrlimit(RLIMIT_DATA)[0] == RLIM_INFINITY:  # the limit comes when the program runs already
    time.sleep(0.01)
print(len(bytearray(400 << 20)))
"""
    assert run([sys.executable, "-c", code], 60, memory_bytes=1 << 30).out == f"{400 << 20}\n"
    ended = run([sys.executable, "-c", code], 60, memory_bytes=200 << 20)
    assert ended.code == 1 and "MemoryError" in ended.err


AT_EXIT = """
import os, signal, threading, time
from pipeline.core.keeper import KEEPER

KEEPER.started()
keeper = KEEPER._process.pid
os.kill(keeper, signal.SIGSTOP)

def interrupt():
    while threading.main_thread().is_alive():
        time.sleep(0.01)
    time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(0.5)
    os.kill(keeper, signal.SIGCONT)

threading.Thread(target=interrupt, daemon=True).start()
"""


def test_ctrl_c_while_a_command_that_has_ended_is_cleaned_up_behind_changes_nothing():
    result = subprocess.run([sys.executable, "-c", AT_EXIT], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stderr) == (0, "")
