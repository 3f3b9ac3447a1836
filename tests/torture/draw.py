"""Draws the cases from a seed."""

from __future__ import annotations

import random
from collections.abc import Mapping

from tests.torture.case import CHANGE, ERRORS, FOR_GOOD, ONCE, SECONDS, SIGNALS, Case
from tests.torture.prepare import Reference


def draw(references: Mapping[str, Reference], seed: int, moments: int, every_error: bool) -> list[Case]:
    """``moments`` for each signal and command, half of them in seconds, half before a change; each change fails.

    ``every_error``: each change fails with each error; otherwise with one of them once and with one for good, in turn.
    In an order that spreads all kinds, so that a limited time covers some of each.
    """
    rng = random.Random(seed)
    cases = []
    for command, reference in references.items():
        changes = range(1, len(reference.changes) + 1)
        for name in SIGNALS:
            drawn = rng.sample(changes, min(moments // 2, len(changes)))
            cases += [Case(command, name, CHANGE, at) for at in drawn]
            rest = moments - len(drawn)
            cases += [Case(command, name, SECONDS, round(rng.uniform(0, reference.seconds), 3)) for _ in range(rest)]
        turn = rng.randrange(len(ERRORS))
        for at in changes:
            for number, way in enumerate((ONCE, FOR_GOOD)):
                names = list(ERRORS) if every_error else [list(ERRORS)[(turn + at + number) % len(ERRORS)]]
                cases += [Case(command, name, way, at) for name in names]
    rng.shuffle(cases)
    return cases
