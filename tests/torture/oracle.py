"""Judges a case: how the command ended, what it left, and whether its repetition ends as if nothing had happened."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

from tests.torture import server, state
from tests.torture.case import FOR_GOOD, SIGNALS, Case, Ended, Verdict
from tests.torture.prepare import Reference, fresh

CODES = {"SIGKILL": 137, "SIGTERM": 143, "SIGINT": 130}
NEVER = re.compile(
    r"Traceback|internal error|Exception ignored|Fatal Python error|core dumped|terminate called|Segmentation fault"
)
AUTOGRAPH = re.compile(r"Exception ignored in atexit callback: <function load_source.*?__autograph_\S+\n?", re.DOTALL)
"""What TensorFlow says where it cannot remove a temporary file at its end."""
ERROR = re.compile(r"^error: ", re.MULTILINE)
STAYS = re.compile(r"\.lock$|^[a-z0-9_]{8}$")
"""What may stay in a temporary folder: empty locks between processes, and what Python's tempfile tries folders with."""
RANDOM = re.compile(r"^(tmp|__autograph_generated_file|[a-z-]+-)\w+")
WITHOUT_EVENTS = "the training goes on without it"
"""Said where TensorBoard's files cannot be written."""
TRIES = 3
SAID = 1500


def judge(case: Case, reference: Reference, place: Path, library: Path, passed: Path) -> Verdict:
    """Runs the case and, where need be, the command again.

    ``passed``: a folder with the digests of runs from which the repeated command is known to go well.
    """
    name, happened = case.name, False
    for _ in range(TRIES):
        fresh(place, reference.before)
        ended = server.call(place, reference.words, library, case)
        happened = len(ended.changes) >= case.before_change if case.before_change else ended.signalled
        if happened or case.before_change or ended.code:
            break
        case = dataclasses.replace(case, at=ended.seconds * case.at / reference.seconds)  # it was faster this time
    detail = _detail(case, ended)
    for log in (place / "tmp").glob("segquant-error-*.log"):
        detail += f"\n{log.read_text()[-SAID:]}"
    problems = _ending(case, ended, happened) + _left(case, ended, place)
    run = place / "run"
    problems += state.broken(run) if run.is_dir() else []
    cut = state.of(run) if run.is_dir() else {}
    known = passed / f"{case.command}-{state.digest_of(cut)}"
    if not problems and known.exists():
        return Verdict(name, (), detail, False, happened, ended.cpu_seconds)
    again = server.call(place, reference.words, library)
    lacks_events = bool(case.error) and WITHOUT_EVENTS in ended.said
    problems += _repetition(again, reference, place, _cannot_remove(case, ended), lacks_events)
    if not problems:
        known.touch()
    elif again.code or again.left_running:
        detail += f"\nrepeated: {_tail(again)}"
    return Verdict(name, tuple(problems), detail, True, happened, ended.cpu_seconds + again.cpu_seconds)


def _detail(case: Case, ended: Ended) -> str:
    at = case.before_change
    before = ended.changes[at - 1] if 0 < at <= len(ended.changes) else f"after {len(ended.changes)} changes"
    return f"at {before}: exit {ended.code} after {ended.seconds:.1f} s: {_tail(ended)}"


def _tail(ended: Ended) -> str:
    return ended.said.strip()[-SAID:]


def _ending(case: Case, ended: Ended, happened: bool) -> list[str]:
    problems = [f"left running: {each}" for each in ended.left_running]
    if ended.timed_out:
        return [*problems, f"did not end within {server.LIMIT_SECONDS} s"]
    if bad := NEVER.search(AUTOGRAPH.sub("", ended.said) if _cannot_remove(case, ended) else ended.said):
        problems.append(f"said {bad[0]!r}")
    errors = len(ERROR.findall(ended.said))
    if case.what in SIGNALS:
        if ended.code not in (CODES[case.what], 0):
            problems.append(f"exit {ended.code}, not {CODES[case.what]}")
        if errors:
            problems.append(f"{errors} errors, for a signal")
    elif ended.code not in (0, 2):
        problems.append(f"exit {ended.code}, neither 2 nor 0")
    elif ended.code == 2 and errors != 1:
        problems.append(f"{errors} lines begin with 'error:', not one")
    elif ended.code == 0 and errors:
        problems.append("said an error, and exit 0")
    if not happened and ended.code:
        problems.append(f"exit {ended.code}, and nothing had happened yet")
    return problems


def _cannot_remove(case: Case, ended: Ended) -> bool:
    """Whether the error that was let in forbids the command to remove what it made."""
    if not case.error or len(ended.changes) < case.before_change:
        return False
    failed = ended.changes[case.before_change - 1].split()[1]
    return failed in ("unlink", "rmdir") or (case.what == "EIO" and case.way == FOR_GOOD)


def _temporary(place: Path) -> list[str]:
    sizes = {path.name: path.stat().st_size for path in (place / "tmp").iterdir()}
    names = [name for name, size in sizes.items() if not (size <= 4 and STAYS.search(name))]
    kinds = sorted({RANDOM.sub(r"\1*", name) for name in names})
    return [f"{len(names)} left over in the temporary folder: {', '.join(kinds)}"] if names else []


def _left(case: Case, ended: Ended, place: Path) -> list[str]:
    """What a command that could clean up left; after SIGKILL its keeper does."""
    return [] if _cannot_remove(case, ended) else _temporary(place)


def _repetition(again: Ended, reference: Reference, place: Path, may_keep: bool, may_lack_events: bool) -> list[str]:
    problems = [f"repeated, left running: {each}" for each in again.left_running]
    if again.timed_out or again.code:
        return [*problems, f"repeated: {'does not end' if again.timed_out else f'exit {again.code}'}"]
    if bad := NEVER.search(again.said):
        problems.append(f"repeated, said {bad[0]!r}")
    run = place / "run"
    different = state.differences(reference.state, state.of(run))
    problems += [f"repeated: {each}" for each in different if not (may_lack_events and "/tensorboard/" in each)]
    problems += [f"repeated: {each}" for each in state.broken(run)]
    return problems + ([] if may_keep else [f"repeated: {each}" for each in _temporary(place)])
