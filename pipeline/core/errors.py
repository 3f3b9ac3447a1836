"""The one tree of errors a user can meet, with the exit code of each.

    SegquantError                2   the base; cli.py prints its message and nothing else
    ├── UnknownName              2   a model, target, device or dataset that is not registered
    ├── BadSpec                  2   a combination of settings that cannot exist (size, classes, ...)
    ├── DataError                2   a dataset folder, image, mask or label that cannot be used
    ├── RunError                 2   a run directory, checkpoint or setting of a run that does not fit
    ├── ArtifactError            2   a .tflite file that is broken or is not ours
    │   └── ContractViolation    2   a converted file that breaks its target's contract, the op named
    ├── DeviceError              2   a device that is not there, refuses, or went away
    ├── WeightsError             2   published or local weights that cannot be read
    ├── TrainingDiverged         1   a loss that is no longer a number
    ├── CompilerError            1   a vendor's compiler that failed, or that was required and is missing
    └── GateFailed               1   a measurement beyond the limit that the user set

Every message says what came, what is allowed, and what to do next.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

from pipeline.core.printable import well_formed


class SegquantError(Exception):
    """What went wrong, in a sentence; ``details`` are shown below it, a line each."""

    exit_code = 2

    def __init__(self, message: str, details: Iterable[str] = ()) -> None:
        message, self.details = well_formed(message), tuple(map(well_formed, details))
        super().__init__("\n  ".join((message, *self.details)))
        self.message = message

    def __reduce__(self) -> tuple[Any, ...]:
        """For errors of other processes, whose constructors may take other arguments."""
        return _restored, (type(self), self.message, self.details)


def _restored(kind: type[SegquantError], message: str, details: tuple[str, ...]) -> SegquantError:
    error = kind.__new__(kind)
    SegquantError.__init__(error, message, details)
    return error


class UnknownName(SegquantError):
    """A name that is not registered; the message suggests a registered one.

    ``meant``: registered name → title, of those that list ``name`` as an alias. Where there is none, the nearest of
    ``known`` is suggested.
    """

    def __init__(self, kind: str, name: str, known: Iterable[str], meant: Mapping[str, str] | None = None) -> None:
        known = sorted(known)
        if meant:
            named = [f"{alias_of!r} ({title})" for alias_of, title in meant.items()]
            what = f"it is called {named[0]} here" if len(named) == 1 else f"choose {' or '.join(named)}"
            super().__init__(f"unknown {kind} {name!r}: {what}. Known: {', '.join(known)}.")
            return
        near = nearest(name, known)
        hint = f"did you mean {near!r}? " if near is not None else ""
        super().__init__(f"unknown {kind} {name!r}: {hint}Known: {', '.join(known)}.")


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that ``name`` is most like, or whose words begin with its letters (lr, learning-rate)."""
    folded = {each.lower(): each for each in known}
    near = [each for each in folded if "-" in each and name.lower() == "".join(w[:1] for w in each.split("-"))]
    near = near or difflib.get_close_matches(name.lower(), folded, n=1, cutoff=0.5)
    return folded[near[0]] if near else None


class BadSpec(SegquantError):
    pass


class DataError(SegquantError):
    pass


class RunError(SegquantError):
    pass


class ArtifactError(SegquantError):
    pass


class ContractViolation(ArtifactError):
    pass


class DeviceError(SegquantError):
    pass


class WeightsError(SegquantError):
    pass


class TrainingDiverged(SegquantError):
    exit_code = 1


class CompilerError(SegquantError):
    exit_code = 1


class GateFailed(SegquantError):
    exit_code = 1
