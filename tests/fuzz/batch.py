"""A bounded batch of mutated files through our readers, in children with limits of time and memory.

    python -m tests.fuzz.batch --count 100000 [--seed 0] [--reader tflite] [--show FOLDER]

Mutant i of a seed is always the same file. A child that dies or hangs is started again behind its mutant. Prints what
came of the mutants, the longest time and the most memory; the exit code is 1 where one was not answered as it should:
read, or refused with one sentence, in LONGEST_SECONDS of the processor and MOST_BYTES of memory.
"""

from __future__ import annotations

import argparse
import collections
import json
import multiprocessing
import os
import random
import resource
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

from tests.fuzz.mutate import mutant
from tests.fuzz.readers import READERS, REFUSED, SHARE
from tests.fuzz.seeds import seeds

LONGEST_SECONDS, MOST_BYTES = 20, 2 << 30
SILENT_SECONDS = 300
"""Without a mutant answered, a child hangs in native code; the machine may be busy with other work."""
AT_ONCE = 2000
"""Mutants of one child, so that what one leaves behind in memory is seen."""


class Slow(BaseException):
    """A mutant took all the processor time that it may."""


def file_of(seed: int, number: int, known: dict[str, list[bytes]], only: str | None = None) -> tuple[str, bytes]:
    """(its reader, the mutant of that number)."""
    rng = random.Random(f"{seed}-{number}")
    reader = only or rng.choices(list(SHARE), list(SHARE.values()))[0]
    data = rng.choice(known[reader])
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        try:
            data = mutant(data or b"\0", rng)
        except Exception:  # a file that was changed once may not be read by the mutator
            break
    return reader, data


def answer(reader: str, data: bytes, scratch: Path) -> tuple[str, str]:
    """What came of a file: 'read', 'refused', or what should not be and where."""
    signal.setitimer(signal.ITIMER_VIRTUAL, LONGEST_SECONDS)
    try:
        READERS[reader](scratch / f"mutant.{reader}", data)
    except REFUSED as error:
        return ("refused", "") if "\n" not in str(error).split("\n  ")[0] else ("not one sentence", str(error)[:200])
    except Slow:
        return "slow", traceback.format_exc(limit=-3)
    except BaseException as error:
        return type(error).__name__, traceback.format_exc(limit=-4)
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    return "read", ""


def _peak_bytes() -> int:
    with open("/proc/self/status") as status:
        return next(1024 * int(line.split()[1]) for line in status if line.startswith("VmHWM"))


def work(seed: int, numbers: range, only: str | None, channel: Any) -> None:
    """In a child: sends the number of each mutant, then what came of it."""

    def slow(*_: object) -> None:
        raise Slow

    signal.signal(signal.SIGVTALRM, slow)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    base = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (base + MOST_BYTES, base + MOST_BYTES))
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)  # HDF5 prints what it refuses
    known = seeds()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as scratch:
        for number in numbers:
            channel.send(number)
            reader, data = file_of(seed, number, known, only)
            began = time.process_time()
            outcome, where = answer(reader, data, Path(scratch))
            channel.send((reader, outcome, where, time.process_time() - began, _peak_bytes()))


def run(seed: int, count: int, only: str | None = None) -> list[dict[str, Any]]:
    """What came of each mutant."""
    answers: list[dict[str, Any]] = []
    context = multiprocessing.get_context("fork")
    began = time.monotonic()
    while len(answers) < count:
        numbers = range(len(answers), min(count, len(answers) + AT_ONCE))
        mine, theirs = context.Pipe(False)
        child = context.Process(target=work, args=(seed, numbers, only, theirs))
        child.start()
        theirs.close()
        current = None
        try:
            while mine.poll(SILENT_SECONDS):
                message = mine.recv()
                if isinstance(message, int):
                    current = message
                else:
                    names = ("reader", "outcome", "where", "seconds", "peak_bytes")
                    answers.append({"number": current, **dict(zip(names, message, strict=True))})
                    current = None
            child.kill()
            how = f"silent for {SILENT_SECONDS} s"
        except EOFError:
            child.join()
            how = f"ended with {child.exitcode}"
        child.join()
        if current is not None:
            answers.append(
                {"number": current, "reader": "?", "outcome": how, "where": "", "seconds": 0, "peak_bytes": 0}
            )
        print(f"{len(answers)} of {count}, {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    return answers


def bad(answers: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [each for each in answers if each["outcome"] not in ("read", "refused")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--reader", choices=READERS)
    parser.add_argument("--show", type=Path, help="write the mutants that were not answered as they should into it")
    asked = parser.parse_args()
    answers = run(asked.seed, asked.count, asked.reader)
    for reader in READERS:
        mine = [each for each in answers if each["reader"] == reader]
        if mine:
            tally = dict(collections.Counter(each["outcome"] for each in mine))
            longest = max(mine, key=lambda each: each["seconds"])
            took = f"longest {longest['seconds']:.2f} s (mutant {longest['number']})"
            print(f"{reader}: {len(mine)} mutants: {tally}; {took}")
    print(f"most memory: {max(each['peak_bytes'] for each in answers) >> 20} MiB, seed {asked.seed}")
    kinds: dict[str, list[dict[str, Any]]] = {}
    for each in bad(answers):
        kinds.setdefault(f"{each['reader']}: {each['outcome']}\n{each['where']}", []).append(each)
    for kind, those in sorted(kinds.items(), key=lambda item: -len(item[1])):
        print(f"{len(those)} times {kind} e.g. mutant {those[0]['number']}")
    if asked.show is not None:
        asked.show.mkdir(parents=True, exist_ok=True)
        known = seeds()
        for each in bad(answers)[:100]:
            (asked.show / f"{asked.seed}-{each['number']}").write_bytes(
                file_of(asked.seed, each["number"], known, asked.reader)[1]
            )
    print(json.dumps({"mutants": len(answers), "bad": len(bad(answers)), "seed": asked.seed}))
    sys.exit(bool(bad(answers)))


if __name__ == "__main__":
    main()
