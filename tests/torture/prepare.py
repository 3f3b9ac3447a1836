"""Makes the data and, with one uninterrupted call of each command, the runs that the cases begin with and end with."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from tests.torture import state
from tests.torture.case import Ended

TRAINED, VALIDATED = 40, 2
"""Images: a fifth of the first is held out, which is enough to judge a gain by."""
SIZE = (24, 32)
COMMANDS = {
    "train": "train --run run --model tiny --data folder:{data} --size 24x32 --steps 6 --batch 4 --learning-rate 0.05",
    "qat": "qat --run run --steps 4 --batch 2 --images 3 --evaluations 1 --learning-rate 0.05",
    "convert": "convert --run run --target cpu",
    "bench": "bench --run run --runs 4 --seconds 0 --starts 2",
    "report": "report --run run",
}
"""In their order: each begins with the run that the one before it ended with. A training is saved after every step."""


@dataclasses.dataclass(frozen=True)
class Reference:
    """A command that was not interrupted.

    Attributes:
      before: the run that it begins with; None for none.
      state: of the run that it ends with.
      changes: of files, a line each: number, what, where.
    """

    words: tuple[str, ...]
    before: str | None
    state: state.State
    changes: tuple[str, ...]
    seconds: float
    cpu_seconds: float


def data_in(folder: Path) -> Path:
    """Images of blocks whose colour tells the class, with noise."""
    rng = np.random.default_rng(0)
    for split, count in (("train", TRAINED), ("val", VALIDATED)):
        for kind in ("images", "masks"):
            (folder / split / kind).mkdir(parents=True)
        for i in range(count):
            label = np.kron(rng.integers(0, 3, (SIZE[0] // 8, SIZE[1] // 8)), np.ones((8, 8), int)).astype(np.uint8)
            image = (label[..., None] * 80 + rng.integers(0, 60, (*SIZE, 3))).astype(np.uint8)
            Image.fromarray(image).save(folder / split / "images" / f"{i}.png")
            Image.fromarray(label).save(folder / split / "masks" / f"{i}.png")
    (folder / "classes.txt").write_text("a\nb\nc\n")
    return folder


def fresh(place: Path, before: str | None) -> Path:
    """Empties the folder of a case and copies the run into it."""
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    if before is not None:
        shutil.copytree(before, place / "run")
    return place


def prepare(home: Path, call: Callable[[Path, tuple[str, ...]], Ended]) -> dict[str, Reference]:
    """The references by command, made once for a ``home``. Raises RuntimeError where a command fails."""
    file = home / "references.json"
    if file.is_file():
        stored = json.loads(file.read_text())
        return {name: _reference(fields) for name, fields in stored.items()}
    data = data_in(home / "data")
    references: dict[str, Reference] = {}
    before: str | None = None
    for name, line in COMMANDS.items():
        words = tuple(line.format(data=data).split())
        place = fresh(home / "references" / name, before)
        ended = call(place, words)
        run = place / "run"
        problems = [*state.broken(run), *ended.left_running]
        if ended.code or problems:
            raise RuntimeError(f"{name}, not interrupted, ended with {ended.code}: {problems} {ended.said[-3000:]}")
        references[name] = Reference(words, before, state.of(run), ended.changes, ended.seconds, ended.cpu_seconds)
        before = str(run)
    file.write_text(json.dumps({name: dataclasses.asdict(each) for name, each in references.items()}))
    return references


def _reference(fields: dict) -> Reference:
    wanted = {name: tuple(digests) for name, digests in fields["state"].items()}
    return Reference(
        **{**fields, "words": tuple(fields["words"]), "changes": tuple(fields["changes"]), "state": wanted}
    )
