"""Runs commands in processes that kill themselves in the midst of a training: by SIGKILL, which nothing can handle.

    python cut_off.py '[["after", NAME, N, COMMAND, FILE], ...]'

NAME: of a function, such as pipeline.train.pace.Pace.step; its N-th call is the last thing that happens ("after"), or
just does not ("before"). Progress is saved after every step, so that something is there to go on from. Prints exit
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
    calls, works = [0], getattr(owner, name)

    def dying(*arguments, **named):
        calls[0] += 1
        if calls[0] == number and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        came = works(*arguments, **named)
        if calls[0] == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return came

    setattr(owner, name, dying)


def owner_of(place):
    """A module, or a class in one."""
    try:
        return importlib.import_module(place)
    except ImportError:
        module, _, name = place.rpartition(".")
        return getattr(importlib.import_module(module), name)


def run(when, place, number, command, said):
    """In a process of its own, whose number is returned; what it says goes to the file ``said``."""
    if pid := os.fork():
        return pid
    os.dup2(os.open(said, os.O_WRONLY | os.O_CREAT), 2)
    owner, _, name = place.rpartition(".")
    die_at(owner_of(owner), name, number, when == "after")
    main(command)


if __name__ == "__main__":
    # TensorFlow is loaded once, for seconds, and not started before the processes part.
    import models
    import pipeline.train.qat  # noqa: F401
    from cli import main
    from pipeline.train import fit

    models.__path__.append(str(HERE / "tiny"))
    fit.SAVE_SECONDS = 0
    pids = [run(*cut) for cut in json.loads(sys.argv[1])]
    print(json.dumps([os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]))
