"""Runs commands in processes that kill themselves during a training, with SIGKILL, which cannot be handled.

    python cut_off.py '[["after", NAME, N, COMMAND, FILE], ...]'

NAME is a function, such as pipeline.train.pace.Pace.step; the process is killed right after its N-th call ("after") or
right before it ("before"). Progress is saved after every step, so that the training can be resumed. Prints the exit
codes.
"""

import importlib
import json
import os
import signal
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))


def die_at(owner, name, number, after):
    calls, function = [0], getattr(owner, name)

    def dying(*arguments, **named):
        calls[0] += 1
        if calls[0] == number and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        result = function(*arguments, **named)
        if calls[0] == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, name, dying)


def owner_of(place):
    """A module, or a class in a module."""
    try:
        return importlib.import_module(place)
    except ImportError:
        module, _, name = place.rpartition(".")
        return getattr(importlib.import_module(module), name)


def run(when, place, number, command, log):
    """Runs the command in a forked process and returns its id; its messages go to the file ``log``."""
    if pid := os.fork():
        return pid
    os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT), 2)
    owner, _, name = place.rpartition(".")
    die_at(owner_of(owner), name, number, when == "after")
    main(command)


if __name__ == "__main__":
    # Loading TensorFlow takes seconds: it is loaded once, but not started before the forks.
    import models
    import pipeline.train.qat  # noqa: F401
    from cli import main
    from pipeline.train import fit

    models.__path__.append(str(HERE / "tiny"))
    fit.SAVE_SECONDS = 0
    pids = [run(*cut) for cut in json.loads(sys.argv[1])]
    print(json.dumps([os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]))
