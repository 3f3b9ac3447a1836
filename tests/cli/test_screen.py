"""Bars on a terminal, plain lines elsewhere, and never a long silence."""

import itertools
import json
import re
import subprocess
import sys
import time

import pytest

from pipeline.core.progress import Count, Lines, Prefixed, clock, progress, track, waiting
from tests.conftest import ROOT
from tests.support.again import again_where_it_fails
from tests.support.single_ops import small_file
from tests.support.terminal import in_terminal, screen_of

COLOUR = re.compile(r"\x1b\[[\d;]*(?:3[0-7]|9[0-7]|38;[25];[\d;]+)m")
BARS = """
import sys, threading, time
from pipeline.cli.screen import say, tell
from pipeline.core.progress import progress, track, waiting

with say.opened():
    say("begins \\x1b[2J")
    for i in track(say, range(40), "outer", 40):
        time.sleep(0.05)
        if i == 10:
            with progress(say, "inner", 5, "files") as advance:
                for j in range(5):
                    time.sleep(0.15)
                    advance(1, detail="loss 0.5")
                    say(f"message {j} of the inner one")
                    tell(f"result {j}")
                    print(f"a stray line {j}", file=sys.stderr)
    with waiting(say, "something slow"):
        time.sleep(1.3)
    threads = [
        threading.Thread(target=lambda n=n: [say(f"thread {n} says {i}") or time.sleep(0.01) for i in range(20)])
        for n in range(3)
    ]
    for thread in threads:
        thread.start()
    for i in track(say, range(10), "beside threads", 10):
        time.sleep(0.03)
    for thread in threads:
        thread.join()
"""
STRAY = [f"a stray line {i}" for i in range(5)]
RESULTS = [f"result {i}" for i in range(5)]
MESSAGES = [f"message {i} of the inner one" for i in range(5)]


@pytest.fixture(scope="module")
def seen():
    return in_terminal([sys.executable, "-c", BARS], ROOT, {"NO_COLOR": ""})


def test_bars_are_drawn_with_the_time_left_and_are_gone_in_the_end(seen):
    assert seen.returncode == 0, seen.written
    text = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", seen.written)
    assert re.search(r"outer .*━.* \d+/40 images .*0:0[12] left", text)
    assert re.search(r"inner .*━.* \d/5 files  loss 0.5", text)
    assert re.search(r"something slow .*0:01", text)
    assert not any("━" in line or "something slow" in line for line in seen.screen)


def test_nothing_tears_what_is_printed_beside_the_bars(seen):
    threads = {f"thread {n} says {i}" for n in range(3) for i in range(20)}
    assert seen.screen[0] == r"begins \x1b[2J"
    woven = [line for parts in zip(MESSAGES, RESULTS, STRAY, strict=True) for line in parts]
    assert seen.screen[1:16] == woven
    assert set(seen.screen[16:]) == threads and len(seen.screen) == 16 + len(threads)


def test_results_go_to_standard_output_and_bars_do_not():
    seen = in_terminal([sys.executable, "-c", BARS], ROOT, piped_stdout=True)
    assert seen.stdout.splitlines() == RESULTS and "━" in seen.written and "result" not in seen.written


def test_no_color_is_respected(seen):
    script = BARS.partition("    with waiting")[0]
    plain = in_terminal([sys.executable, "-c", script], ROOT, {"NO_COLOR": "1"})
    assert COLOUR.search(seen.written) and not COLOUR.search(plain.written) and "━" in plain.written


def test_a_dumb_terminal_gets_lines():
    script = BARS.partition("    for i in track")[0]
    seen = in_terminal([sys.executable, "-c", script], ROOT, {"TERM": "dumb"})
    assert seen.written.splitlines() == [r"begins \x1b[2J"]


SLOW = """
import time
from pipeline.cli.screen import VERBOSE, say
from pipeline.core.progress import track, waiting

say.loudness = {loudness}
with say.opened():
    with waiting(say, "a slow step"):
        time.sleep(3.5)
    time.sleep(2.5)
    for _ in track(say, range(2), "two slow items"):
        time.sleep(1.3)
"""


LOCKED = """
import ctypes
from pipeline.cli.screen import say
from pipeline.core.progress import waiting

with say.opened():
    with waiting(say, "converting"):
        ctypes.CDLL(None).usleep(800000)
        ctypes.PyDLL(None).sleep(5)  # keeps Python's lock, as TensorFlow's converter does
    say("converted")
    with waiting(say, "then"):
        ctypes.CDLL(None).sleep(1)
"""


@again_where_it_fails
def test_the_time_runs_on_while_python_is_locked():
    seen = in_terminal([sys.executable, "-c", LOCKED], ROOT)
    assert seen.returncode == 0 and seen.silences[-1] < 2 and "converting 0:04" in seen.written
    assert seen.screen == ["converted"]


def in_log(script):
    """Lines of standard error, a pipe, and the longest silence between them in seconds."""
    process = subprocess.Popen(
        [sys.executable, "-u", "-c", script], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    lines, times = [], []
    for line in process.stderr:
        lines.append(line.rstrip("\n"))
        times.append(time.monotonic())
    assert process.wait() == 0, lines
    return lines, max(after - before for before, after in itertools.pairwise(times))


@again_where_it_fails
def test_a_log_goes_on_while_python_is_locked():
    lines, silence = in_log(LOCKED)
    assert lines[-1] == "converted" and silence < 2.2, (lines, silence)
    assert all(re.fullmatch("converting(: 0:0[1-7] so far)?", line) for line in lines[:-1]) and len(lines) > 3, lines


@again_where_it_fails
def test_after_an_hour_the_lines_of_a_log_come_at_growing_intervals():
    script = """
import time
from pipeline.cli import screen
screen.LINE_SECONDS = screen.say._wait = 0.2
screen.LOG_TICK_SECONDS, screen.STEADY_SECONDS, screen.LONGEST_SECONDS = 0.02, 2.0, 0.8
with screen.say.opened(), screen.say.progress("steps", 100, "steps") as advance:
    for _ in range(50):
        time.sleep(0.1)
        advance(1)
"""
    lines, silence = in_log(script)
    assert all(re.fullmatch(r"steps: \d+ of 100 steps, .* so far", line) for line in lines)
    steps = [int(line.split()[1]) for line in lines]
    between = [after - before for before, after in itertools.pairwise(steps)]
    assert max(between[:6]) <= 4 and 6 <= max(between) <= 11 and 0.7 < silence < 1.5, steps


def run(script):
    return subprocess.run([sys.executable, "-u", "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)


@pytest.mark.parametrize("terminal", [True, False], ids=["terminal", "log"])
@again_where_it_fails
def test_no_silence_is_longer_than_two_seconds_in_a_fake_slow_step(terminal):
    script = SLOW.format(loudness=0)
    if terminal:
        assert in_terminal([sys.executable, "-c", script], ROOT).silences[-1] < 2
        return
    lines, silence = in_log(script)
    assert silence < 2, (lines, silence)
    assert lines[0] == "a slow step" and re.fullmatch(r"a slow step: 0:0[23] so far", lines[1])
    assert any(re.fullmatch(r"still working: 0:0\d so far", line) for line in lines)


@again_where_it_fails
def test_verbose_says_when_and_how_long_and_quiet_nothing():
    verbose = run(SLOW.format(loudness="VERBOSE")).stderr
    assert "[0:01] a slow step\n" in verbose and re.search(r"\[0:0[34]\] a slow step: 3\.\d s\n", verbose)
    assert re.search(r"two slow items: 2 images in [23]\.\d s\n", verbose)
    assert run(SLOW.format(loudness=-1)).stderr == ""


class Clock:
    def __init__(self):
        self.seconds = 0.0

    def __call__(self):
        return self.seconds


@pytest.mark.parametrize("compiles_seconds", [0.0, 30.0, 300.0])
@pytest.mark.parametrize("total", [20, 101, 1000])
def test_after_a_tenth_of_the_work_the_time_left_is_right_to_a_fifth(total, compiles_seconds):
    now = Clock()
    count = Count(total, "images", now=now)
    times = [compiles_seconds + 0.5, *[0.4 if i % 3 else 0.7 for i in range(1, total)]]
    for i, seconds in enumerate(times, 1):
        now.seconds += seconds
        count.advance(1)
        left = sum(times[i:])
        if i >= max(2, total / 10) and i < total:
            assert abs(count.left_seconds - left) <= 0.2 * left + 0.5, i
    before = Count(total, "images", now=now)
    before.advance(1)
    assert before.left_seconds is None


def test_a_pause_does_not_count_and_what_takes_long_now_and_then_does():
    now = Clock()
    paused, uneven = Count(1000, "images", now=now), Count(1000, "images", now=now)
    for i in range(1, 301):
        now.seconds += 0.1 + (3600 if i == 150 else 0)  # the process was stopped for an hour
        paused.advance(1)
    assert paused.left_seconds == pytest.approx(70, rel=0.05)
    for i in range(1, 301):
        now.seconds += 0.1 + (6 if i % 20 == 0 else 0)  # a network's disk
        uneven.advance(1)
    assert uneven.left_seconds == pytest.approx(700 * 0.4, rel=0.05)


def test_the_time_left_runs_down_between_items_and_the_caller_may_give_it():
    now = Clock()
    count = Count(100, "steps", estimated=False, now=now)
    count.advance(10, 50.0, "loss 0.3")
    assert str(count) == "10 of 100 steps, loss 0.3, 0:50 left"
    now.seconds += 20
    assert count.left_seconds == 30
    now.seconds += 100
    assert count.left_seconds == 0
    count.advance(1)
    assert count.left_seconds is None


def test_lines_come_at_growing_intervals():
    now, lines = Clock(), []
    show = Lines(lambda text: lines.append((now.seconds, text)), "predict", Count(200, "images", now=now))
    for _ in range(200):
        now.seconds += 0.5
        show(1)
    assert [at for at, _ in lines] == [2, 6, 14, 30, 60, 90]
    assert lines[0][1] == "predict: 4 of 200 images, 2 per second, 1:38 left"


def test_a_plain_say_and_a_prefixed_one_get_lines():
    lines: list[str] = []
    with waiting(Prefixed(lines.append, "board: "), "opening"), progress(lines.append, "x", 3) as advance:
        advance(3)
    assert lines == ["board: opening"] and list(track(lines.append, "ab", "letters", 2)) == ["a", "b"]


def test_durations():
    assert [clock(s) for s in (0, 59.4, 59.6, 3600, 36061)] == ["0:00", "0:59", "1:00", "1:00:00", "10:01:01"]


def test_the_terminal_of_these_tests_obeys():
    assert screen_of("one\ntwo\x1b[2K\rthree\x1b[1A\rTWO\n") == ["TWO", "three"]


LATE = """
import sys, time
import click
from pipeline.cli.group import Main
from pipeline.cli.options import loudness_options, say
from pipeline.core.progress import track

class Slow(Main):
    def get_command(self, ctx, name):
        time.sleep(2)
        return super().get_command(ctx, name)

@click.command(params=loudness_options())
def work():
    say("a message")
    for _ in track(say, range(2), "images", 2):
        time.sleep(0.5)
    click.echo("done")

Slow(commands={"work": work}, params=loudness_options())(["work", "--quiet"])
"""


def test_quiet_after_the_command_is_known_before_bars_are_drawn():
    assert in_terminal([sys.executable, "-c", LATE], ROOT).written == "done\r\n"
    log = run(LATE)
    assert (log.stdout, log.stderr) == ("done\n", "")


@pytest.mark.parametrize("before", [True, False], ids=["before the command", "after it"])
def test_quiet_and_verbose_work_before_and_after_the_command(cli, tmp_path, before):
    command = ["inspect", str(small_file(tmp_path)), "--target", "edgetpu", "--no-compiler", "--json", "-"]

    def with_option(option, *arguments):
        return cli(*([option, *arguments] if before else [*arguments, option]), cwd=tmp_path)

    quiet = with_option("--quiet", *command)
    assert quiet.returncode == 0 and json.loads(quiet.stdout)["inspections"]
    refused = with_option("--quiet", "evaluate")
    assert refused.returncode == 2 and refused.stderr.startswith("error: there is no run yet") and not refused.stdout
    assert with_option("--verbose", "evaluate").stderr.splitlines()[-1].startswith("[0:0")
    assert "contradict" in cli("--quiet", "evaluate", "--verbose", cwd=tmp_path).stderr
    assert not cli("evaluate", cwd=tmp_path).stderr.startswith("[")  # the next command is as loud as ever
