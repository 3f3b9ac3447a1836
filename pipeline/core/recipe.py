"""All that is known of how a .tflite file was made. It travels inside the file, and as JSON beside it.

This is the one place that knows the names of its JSON. Keys that only say again what others decide (size,
preprocessing, mask, postprocess) are for readers without this program: they are written and not read back. What came to
the format later may be missing in a file; a key that is not known is refused, for it may change what the rest means.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeVar

from pipeline.core.calibration import CalibrationRecord
from pipeline.core.errors import ArtifactError, SegquantError
from pipeline.core.file_spec import FileSpec
from pipeline.core.preprocessing import Preprocessing
from pipeline.core.ranges import Ranges, ranges_from_json, ranges_to_json
from pipeline.core.rewrite import AppliedRewrite
from pipeline.core.spec import ModelSpec

SCHEMA = 1
OUTCOMES = ("rewritten", "approximated")
"""What a recipe says of the making, and nothing decides."""
Method = Literal["qat", "ptq", "float"]


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """The weights that a file was made from: 'float/best.weights.h5', from its run's folder on, and their sha256."""

    checkpoint: str
    sha256: str


@dataclasses.dataclass(frozen=True)
class Origin:
    """Where a file's network and ranges come from: what a run knows of them, and the making of the file needs not.

    Attributes:
      data: the dataset's name without its place.
      method: of the int8 ranges; 'float' where there are none.
      calibration: how the ranges, or those that QAT started from, were found.
    """

    model: ModelSpec
    classes: tuple[str, ...]
    colours: tuple[tuple[int, int, int], ...]
    data: str
    method: Method
    parent: Checkpoint
    calibration: CalibrationRecord | None = None


@dataclasses.dataclass(frozen=True)
class Approximation:
    """What a rewrite that is not equal did to the masks, on labelled images.

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
      level: the target's feature level, where another than its default was asked for.
      rewrites: names of those that the target allowed.
      ranges: of the activations of an int8 file.
      versions: of the libraries that made it.
      origin: None for a file that was made in memory, of no run.
      applied_rewrites: the rewrites that were made.
      approximation: what those of them did that are not equal; None where all are.
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
        """The origin; raises ArtifactError for a file that was made in memory."""
        if self.origin is None:
            raise ArtifactError("the file's recipe names no run that it was made in: give a file that `convert` wrote.")
        return self.origin

    def differences(self, other: Recipe) -> list[str]:
        """The JSON names of what is decided otherwise in ``other``, sorted; outcomes do not count."""
        ours, theirs = self.to_json(), other.to_json()
        # Files of earlier versions do not tell the lanes; the target, which both name, decides them.
        passed_over = (*OUTCOMES, "argmax_lanes")
        return sorted(k for k in {**ours, **theirs} if k not in passed_over and ours.get(k) != theirs.get(k))

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
            "rewritten": [dataclasses.asdict(one) for one in self.applied_rewrites],
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
        """Raises ArtifactError for what this version did not write, nor one before it."""
        try:
            return _recipe(_typed(data, dict, "the recipe"))
        except KeyError as error:
            raise _unreadable(f"it has no {error}") from None
        except (TypeError, ValueError, SegquantError) as error:
            raise _unreadable(str(error)) from None

    @staticmethod
    def loads(text: bytes | str) -> Recipe:
        """Raises ArtifactError for what is no JSON object, and as ``from_json`` does."""
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise ArtifactError("the recipe inside the .tflite file is no JSON object: convert the network again.")
        return Recipe.from_json(found)


ORIGIN = ("model", "size", "classes", "colours", "data", "preprocessing", "method", "calibration", "parent")
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


def _unreadable(why: str) -> ArtifactError:
    return ArtifactError(
        f"the recipe of the .tflite file cannot be read: {why.rstrip('.')}. It is of another program or of a later"
        " version: run `convert --force` to write the file again."
    )


def _typed(value: object, kind: type[Kind], name: str) -> Kind:
    """``value`` where it is of that type; True is no number here. Raises TypeError."""
    whole = kind is float and isinstance(value, int)
    if (isinstance(value, bool) and kind is not bool) or not (isinstance(value, kind) or whole):
        raise TypeError(f"{name} is {type(value).__name__}, not {kind.__name__}")
    return value  # type: ignore[return-value]


def _texts(value: object, name: str) -> tuple[str, ...]:
    return tuple(_typed(one, str, f"an entry of {name}") for one in _typed(value, list, name))


def _fields(noun: type[Kind], data: object, kinds: Sequence[type], name: str) -> Kind:
    """A flat dataclass from its JSON; what has a default may be missing. Raises TypeError, KeyError and BadSpec."""
    given = _typed(data, dict, name)
    known = dict(zip((f.name for f in dataclasses.fields(noun)), kinds, strict=True))  # type: ignore[arg-type]
    if unknown := sorted(set(given) - set(known)):
        raise TypeError(f"{name} has the unknown key {', '.join(map(str, unknown))}")
    return noun(**{key: _typed(value, known[key], f"{name}.{key}") for key, value in given.items()})


def _recipe(data: dict[str, Any]) -> Recipe:
    if (schema := data.get("schema")) != SCHEMA:
        raise ValueError(f"its schema is {schema!r}, and this version reads {SCHEMA}")
    if unknown := sorted(set(data) - {*ORIGIN, *MAKING}):
        raise ValueError(f"it has the unknown key {', '.join(unknown)}")
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
    made = _typed(data.get("rewritten", []), list, "rewritten")
    kinds = (str, str, int, float, float, float, float)
    return Recipe(
        _typed(data["target"], str, "target"),
        spec,
        level=None if level is None else _typed(level, int, "level"),
        rewrites=_texts(data.get("rewrites", []), "rewrites"),
        ranges=None if ranges is None else ranges_from_json(_typed(ranges, dict, "ranges")),
        versions={key: _typed(value, str, f"versions.{key}") for key, value in versions.items()},
        origin=_origin(data) if set(ORIGIN) & set(data) else None,
        applied_rewrites=tuple(_fields(AppliedRewrite, one, (str,) * 4, "rewritten") for one in made),
        approximation=None if effect is None else _fields(Approximation, effect, kinds, "approximated"),
    )


def _origin(data: dict[str, Any]) -> Origin:
    method = data["method"]
    if method not in ("qat", "ptq", "float"):
        raise ValueError(f"its method is {method!r}, which is not one of qat, ptq, float")
    colours = [[_typed(v, int, "a colour") for v in _typed(c, list, "a colour")] for c in data.get("colours", [])]
    if any(len(colour) != 3 for colour in colours):
        raise ValueError("a colour has not three values")
    kinds = (str, int, int, int, float, str, bool, float, float)
    calibration = data.get("calibration")
    return Origin(
        _fields(ModelSpec, data["model"], kinds, "model"),
        _texts(data["classes"], "classes"),
        tuple((r, g, b) for r, g, b in colours),
        _typed(data["data"], str, "data"),
        method,
        _fields(Checkpoint, data["parent"], (str, str), "parent"),
        None if calibration is None else CalibrationRecord.from_json(calibration),
    )


def _origin_to_json(origin: Origin) -> dict[str, Any]:
    spec = origin.model
    return {
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
