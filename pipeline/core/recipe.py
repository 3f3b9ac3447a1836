"""How a .tflite file was made. The recipe is stored inside the file, and as JSON beside it.

Only this module knows the names of its JSON. Keys that follow from others (size, preprocessing, mask, postprocess) are
for readers without this program: they are written and not read back. Keys that came to the format later may be missing
in a file. An unknown key is refused, because it may change what the others mean.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any, Literal, TypeVar

from pipeline.core.calibration import CalibrationRecord
from pipeline.core.errors import ArtifactError
from pipeline.core.file_spec import FileSpec
from pipeline.core.from_json import from_json
from pipeline.core.json_file import BadJson, as_object, made, parse
from pipeline.core.preprocessing import Preprocessing
from pipeline.core.ranges import Ranges, ranges_from_json, ranges_to_json
from pipeline.core.rewrite import AppliedRewrite
from pipeline.core.spec import ModelSpec, check_classes

SCHEMA = 1
OUTCOMES = ("rewritten", "approximated")
"""Keys that report what the conversion did; they decide nothing."""
Method = Literal["qat", "ptq", "float"]
QAT_START = "qat-start"


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """The weights that a file was made from: their path in the run, such as 'float/best.weights.h5', and sha256."""

    checkpoint: str
    sha256: str

    def __post_init__(self) -> None:
        """Raises ValueError for a path that may lead out of the run."""
        if PurePosixPath(self.checkpoint).is_absolute() or ".." in PurePosixPath(self.checkpoint).parts:
            raise ValueError(f"its checkpoint {self.checkpoint[:40]!r} does not lie in the run")


@dataclasses.dataclass(frozen=True)
class About:
    """What the metadata of a file tell people, and nothing decides; '' where nobody said."""

    author: str = ""
    license: str = ""
    version: str = ""


@dataclasses.dataclass(frozen=True)
class Origin:
    """Where a file's network and ranges come from: what the run knows and the conversion does not need.

    Attributes:
      data: the dataset's name without its folder.
      method: how the int8 ranges were found; 'float' where there are none.
      calibration: how the ranges, or those that QAT started from, were found.
      about: what the user wants people to read in the file.
      kept_start: quantization-aware training kept its start, so the weights are the float parent's, and the ranges
        calibrated, as in post-training quantization.
    """

    model: ModelSpec
    classes: tuple[str, ...]
    colours: tuple[tuple[int, int, int], ...]
    data: str
    method: Method
    parent: Checkpoint
    calibration: CalibrationRecord | None = None
    about: About = About()
    kept_start: bool = False

    @property
    def way(self) -> str:
        """How the weights and ranges were found, as files are named: 'qat', 'qat-start', 'ptq' or 'float'."""
        return QAT_START if self.kept_start else self.method

    @property
    def how(self) -> str:
        """The same for people."""
        return f"{self.method}, which kept its start" if self.kept_start else self.method


@dataclasses.dataclass(frozen=True)
class Approximation:
    """What an approximate rewrite did to the masks, measured on labelled images.

    Attributes:
      agreement_percent: share of all pixels with the same class in both masks.
      exact_miou_percent, miou_percent: without it and with it.
      drop_points: from the first to the second, in percentage points.
    """

    data: str
    split: str
    images: int
    agreement_percent: float
    exact_miou_percent: float
    miou_percent: float
    drop_points: float


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a file was made.

    Attributes:
      target: its name; 'float32' for the float reference.
      level: the target's feature level; None for its default.
      rewrites: names of the rewrites that the target allowed.
      ranges: of the activations of an int8 file.
      versions: of the libraries that made it.
      origin: None for a file that was made in memory, without a run.
      applied_rewrites: the rewrites that were made.
      approximation: the effect of the approximate ones; None where all are exact.
    """

    target: str
    file: FileSpec
    level: int | None = None
    rewrites: tuple[str, ...] = ()
    ranges: Ranges | None = None
    versions: Mapping[str, str] = dataclasses.field(default_factory=dict)
    origin: Origin | None = None
    applied_rewrites: tuple[AppliedRewrite, ...] = ()
    approximation: Approximation | None = None

    @property
    def known_origin(self) -> Origin:
        """The origin; raises ArtifactError for a file that was made in memory, which has none."""
        if self.origin is None:
            raise ArtifactError(
                "the file's recipe names no run, because it was made in memory: give a file that `convert` wrote."
            )
        return self.origin

    def differences(self, other: Recipe) -> list[str]:
        """The sorted JSON keys whose values differ in ``other``, except those that report outcomes."""
        ours, theirs = self.to_json(), other.to_json()
        # Files of earlier versions lack the lanes; the target, which both recipes name, decides them.
        ignored = (*OUTCOMES, "argmax_lanes")
        return sorted(k for k in {**ours, **theirs} if k not in ignored and ours.get(k) != theirs.get(k))

    def to_json(self) -> dict[str, Any]:
        spec = self.file
        data: dict[str, Any] = {
            "schema": SCHEMA,
            "target": self.target,
            "output": spec.output,
            "mask": spec.mask,
            "io": spec.io,
            "weights": spec.weights,
            "per_tensor": spec.per_tensor,
            "level": self.level,
            "rewrites": list(self.rewrites),
            "ranges": ranges_to_json(self.ranges) if self.ranges else None,
            "versions": dict(self.versions),
            "rewritten": [dataclasses.asdict(rewrite) for rewrite in self.applied_rewrites],
            "approximated": dataclasses.asdict(self.approximation) if self.approximation else None,
        }
        if spec.stride != 1:
            data |= {"output_stride": spec.stride, "postprocess": spec.postprocess}
        if spec.argmax_lanes != 1:
            data["argmax_lanes"] = spec.argmax_lanes
        return data if self.origin is None else data | _origin_to_json(self.origin)

    def dumps(self) -> str:
        return json.dumps(self.to_json(), sort_keys=True)

    @staticmethod
    def from_json(data: object) -> Recipe:
        """Raises ArtifactError for data that neither this version nor an earlier one wrote."""
        try:
            return made(data, lambda data: _recipe(_typed(data, dict, "the recipe")))
        except BadJson as error:
            raise ArtifactError(
                f"the recipe of the .tflite file cannot be read: {error}. Another program or a later version wrote it:"
                " convert the network again."
            ) from None

    @staticmethod
    def loads(text: bytes | str) -> Recipe:
        """Raises ArtifactError for text that is not a JSON object, and as ``from_json`` does."""
        try:
            data = as_object(parse(text))
        except BadJson as error:
            raise ArtifactError(
                f"the recipe inside the .tflite file is not a JSON object ({error}): convert the network again."
            ) from None
        return Recipe.from_json(data)


ORIGIN = (
    "model",
    "size",
    "classes",
    "colours",
    "data",
    "preprocessing",
    "method",
    "calibration",
    "parent",
    "about",
    "kept_start",
)
MAKING = (
    "schema",
    "target",
    "output",
    "mask",
    "io",
    "weights",
    "per_tensor",
    "level",
    "rewrites",
    "ranges",
    "versions",
    "output_stride",
    "postprocess",
    "argmax_lanes",
    *OUTCOMES,
)
Kind = TypeVar("Kind")


def _typed(value: object, kind: type[Kind], name: str) -> Kind:
    """``value`` where it has that type, else TypeError; an int is a float here, True is no number."""
    int_as_float = kind is float and isinstance(value, int)
    if (isinstance(value, bool) and kind is not bool) or not (isinstance(value, kind) or int_as_float):
        raise TypeError(f"{name} is {type(value).__name__}, not {kind.__name__}")
    return value  # type: ignore[return-value]


def _texts(value: object, name: str) -> tuple[str, ...]:
    return tuple(_typed(text, str, f"an entry of {name}") for text in _typed(value, list, name))


def _recipe(data: dict[str, Any]) -> Recipe:
    if type(schema := data.get("schema")) is not int or schema != SCHEMA:
        raise ValueError(f"its schema is {schema!r}, and this version reads {SCHEMA}")
    if unknown := sorted(set(data) - {*ORIGIN, *MAKING}):
        raise ValueError(f"it has the unknown key {', '.join(map(str, unknown))}")
    spec = FileSpec(
        data["output"],
        data.get("output_stride", 1),
        data["io"],
        data["weights"],
        data.get("per_tensor", False),
        data.get("argmax_lanes", 1),
    )
    level, ranges, effect = data.get("level"), data.get("ranges"), data.get("approximated")
    versions = _typed(data.get("versions", {}), dict, "versions")
    rewrites = _typed(data.get("rewritten", []), list, "rewritten")
    return Recipe(
        _target_name(data["target"]),
        spec,
        level=None if level is None else _typed(level, int, "level"),
        rewrites=_texts(data.get("rewrites", []), "rewrites"),
        ranges=None if ranges is None else ranges_from_json(ranges),
        versions={key: _typed(value, str, f"versions.{key}") for key, value in versions.items()},
        origin=_origin(data) if set(ORIGIN) & set(data) else None,
        applied_rewrites=tuple(from_json(AppliedRewrite, each, True, "rewritten") for each in rewrites),
        approximation=None if effect is None else from_json(Approximation, effect, True, "approximated"),
    )


def _target_name(value: object) -> str:
    """Folders and files are called by it. Raises ValueError for what no target is called."""
    name = _typed(value, str, "target")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", name):
        raise ValueError(f"its target is {name[:40]!r}, and a target's name has letters, digits and hyphens")
    return name


def _origin(data: dict[str, Any]) -> Origin:
    method = data["method"]
    if method not in ("qat", "ptq", "float"):
        raise ValueError(f"its method is {method!r}, which is not one of qat, ptq, float")
    colours = [[_typed(v, int, "a colour") for v in _typed(c, list, "a colour")] for c in data.get("colours", [])]
    if any(len(colour) != 3 for colour in colours):
        raise ValueError("a colour does not have three values")
    calibration = data.get("calibration")
    model, classes = from_json(ModelSpec, data["model"], True, "model"), _texts(data["classes"], "classes")
    check_classes(classes, rgb := tuple((r, g, b) for r, g, b in colours), model.num_classes)
    return Origin(
        model,
        classes,
        rgb,
        _typed(data["data"], str, "data"),
        method,
        from_json(Checkpoint, data["parent"], True, "parent"),
        None if calibration is None else CalibrationRecord.from_json(calibration),
        from_json(About, data.get("about", {}), True, "about"),
        _typed(data.get("kept_start", False), bool, "kept_start"),
    )


def _origin_to_json(origin: Origin) -> dict[str, Any]:
    spec = origin.model
    about = {key: text for key, text in dataclasses.asdict(origin.about).items() if text}
    return {
        **({"about": about} if about else {}),
        **({"kept_start": True} if origin.kept_start else {}),
        "model": dataclasses.asdict(spec),
        "size": spec.size,
        "classes": list(origin.classes),
        "colours": [list(c) for c in origin.colours],
        "data": origin.data,
        "preprocessing": Preprocessing(spec.height, spec.width).to_json(),
        "method": origin.method,
        "calibration": origin.calibration.to_json() if origin.calibration else None,
        "parent": dataclasses.asdict(origin.parent),
    }
