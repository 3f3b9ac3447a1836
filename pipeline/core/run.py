"""The run directory: everything that was made from one network on one dataset.

run.json                     its network, dataset, classes, preprocessing, seed
data.json                    the files of the dataset that it used, and the images that it skips
labels.json                  labelled pixels of each class, counted once
float/                       the float parent; its files: see core/training
qat/                         the network after quantization-aware training
control/                     the parent trained on in float for as long as QAT
artifacts/<target>/          <name>.tflite, <name>.json beside it, compiled twins
artifacts/named.json         the target that `convert` was last given by name
artifacts/about.json         author, licence and version that `convert` was last given
measurements/                what bench and evaluate wrote
.lock                        held by the process that writes here, see core/lock
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import functools
import json
from pathlib import Path
from typing import Any

from pipeline.core.division import UNDIVIDED, Division
from pipeline.core.errors import RunError
from pipeline.core.files import may_name, unused, write_atomically
from pipeline.core.from_json import from_json
from pipeline.core.json_file import BadJson, load_as
from pipeline.core.leftovers import is_part
from pipeline.core.lock import FILE as LOCK
from pipeline.core.number import whole
from pipeline.core.preprocessing import Preprocessing
from pipeline.core.recipe import About
from pipeline.core.spec import MOST_SEED, ModelSpec, check_classes
from pipeline.core.training import SETTINGS, Training

RUNS = Path("runs")
FILE = "run.json"
NAMED = "artifacts/named.json"
ABOUT = "artifacts/about.json"
DATA, LABELS = "data.json", "labels.json"
SCHEMA = 1


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """What a run is; it never changes once the run exists."""

    model: ModelSpec
    data: str
    classes: tuple[str, ...]
    colours: tuple[tuple[int, int, int], ...]
    seed: int
    created: str
    division: Division = UNDIVIDED

    def to_json(self) -> dict[str, Any]:
        preprocessing = Preprocessing(self.model.height, self.model.width).to_json()
        return {"schema": SCHEMA, **dataclasses.asdict(self), "preprocessing": preprocessing}


@dataclasses.dataclass(frozen=True)
class Run:
    path: Path
    config: RunConfig

    @property
    def preprocessing(self) -> Preprocessing:
        return Preprocessing(self.config.model.height, self.config.model.width)

    @property
    def float_dir(self) -> Path:
        return self.path / "float"

    @property
    def qat_dir(self) -> Path:
        return self.path / "qat"

    @property
    def control_dir(self) -> Path:
        return self.path / "control"

    @property
    def float_training(self) -> Training:
        return Training(self.float_dir)

    @property
    def qat_training(self) -> Training:
        return Training(self.qat_dir)

    @property
    def control_training(self) -> Training:
        return Training(self.control_dir)

    @property
    def configuration(self) -> Path:
        """What commands with --config were called with."""
        return self.path / "configuration"

    @property
    def measurements(self) -> Path:
        return self.path / "measurements"

    def artifacts(self, target: str) -> Path:
        return self.path / "artifacts" / target

    def name_target(self, target: str) -> None:
        """Stores the target that the user named last, the default of commands without --target."""
        write_atomically(self.path / NAMED, (json.dumps({"target": target}) + "\n").encode())

    def named_target(self) -> str | None:
        """The target that ``name_target`` stored; None where there is none or it cannot be read."""
        try:
            return load_as(self.path / NAMED, lambda data: str(data["target"]))
        except BadJson:
            return None

    def set_about(self, **texts: str | None) -> None:
        """Keeps what is to be read in files made from now on, by the names of ``About``; None stays as it was."""
        about = dataclasses.replace(self.about(), **{key: text for key, text in texts.items() if text is not None})
        write_atomically(self.path / ABOUT, (json.dumps(dataclasses.asdict(about)) + "\n").encode())

    def about(self) -> About:
        """Raises RunError for a broken file."""
        file = self.path / ABOUT
        if not file.is_file():
            return About()
        try:
            return load_as(file, functools.partial(from_json, About))
        except BadJson as error:
            raise RunError(f"{file} is broken ({error}): delete it and tell `convert` again.") from None


def remove_if_empty(run: Run) -> None:
    """Removes a run in which nothing was trained yet, and the folders that were made for it."""
    files = [file for file in run.path.rglob("*") if not file.is_dir()]
    written = (file for file in files if file.parent != run.configuration)
    if any(file.name not in (FILE, SETTINGS, LOCK, DATA, LABELS) for file in written):
        return
    for file in files:
        file.unlink()
    with contextlib.suppress(OSError):
        for folder in sorted((f for f in run.path.rglob("*") if f.is_dir()), reverse=True):
            folder.rmdir()
        run.path.rmdir()
        if run.path.parent.name == RUNS.name:
            run.path.parent.rmdir()


def check_free(path: Path) -> None:
    """Raises RunError where no run can be made at ``path``: it exists and is not an empty directory."""
    if not path.exists():
        return
    if (path / FILE).exists():
        raise RunError(
            f"{path} is a run already, perhaps made by another process just now: open it (a repeated command does), or"
            " name an empty or new directory."
        )
    if not path.is_dir() or not all(file.name == LOCK or is_part(file.name) for file in path.iterdir()):
        raise RunError(f"{path} exists and is not a run: name an empty or new directory.")


def create(
    path: Path,
    model: ModelSpec,
    data: str,
    classes: Any,
    colours: Any,
    seed: int,
    division: Division = UNDIVIDED,
) -> Run:
    """Makes a new run directory; raises RunError when the path exists and is not an empty directory."""
    whole("seed", seed, 0, MOST_SEED)
    check_free(path)
    created = datetime.datetime.now(datetime.UTC).isoformat(timespec="microseconds")
    config = RunConfig(model, data, tuple(classes), tuple(tuple(c) for c in colours), seed, created, division)
    try:
        write_atomically(path / FILE, (json.dumps(config.to_json(), indent=2) + "\n").encode())
    except OSError as error:
        raise RunError(f"{path} cannot be written ({error.strerror}): name another directory.") from None
    return Run(path, config)


def open_run(path: Path | str) -> Run:
    """Opens an existing run directory; raises RunError."""
    path = Path(path)
    file = path / FILE
    if not file.is_file():
        what = "is not a run directory (it has no run.json)" if path.exists() else "does not exist"
        if not path.is_absolute() and (RUNS / path / FILE).is_file():
            raise RunError(f"{path} {what}: the run of that name is {RUNS / path}.")
        make = f"`python cli.py qat --run {path if not path.exists() else RUNS / 'NAME'}` makes one"
        raise RunError(f"{path} {what}: name one that `python cli.py list --runs` lists; {make}.")
    try:
        return Run(path, load_as(file, _config))
    except BadJson as error:
        raise RunError(f"{file} is broken ({error}): restore it or make a new run.") from None


def _config(data: Any) -> RunConfig:
    """Raises the errors of unfit data, as ``from_json`` does."""
    if type(data["schema"]) is not int or data["schema"] != SCHEMA:
        raise ValueError(f"it has schema {data['schema']}, and this version reads {SCHEMA}")
    config = from_json(
        RunConfig, {**data, "model": dataclasses.asdict(from_json(ModelSpec, data["model"], True, "model"))}
    )
    if not may_name(config.data):
        raise ValueError(f"no dataset has the name {config.data[:40]!r}")
    check_classes(config.classes, config.colours, config.model.num_classes)
    if not 0 <= config.seed <= MOST_SEED:
        raise ValueError(f"the seed is {config.seed}, not from 0 to {MOST_SEED}")
    return config


def latest(root: Path = RUNS) -> Run | None:
    """The newest run, or None; skips directories that are not runs, and broken runs."""
    runs = []
    for file in root.glob(f"*/{FILE}"):
        try:
            runs.append(open_run(file.parent))
        except (RunError, OSError):
            continue
    return max(runs, key=lambda run: (run.config.created, run.path.name), default=None)


def new_path(model: ModelSpec, data: str, root: Path = RUNS) -> Path:
    """A directory name that does not exist yet, such as runs/fast-scnn-synthetic-192x256-2."""
    stem = f"{model.network}-{data.partition(':')[0]}-{model.size}"
    return unused(root, stem)
