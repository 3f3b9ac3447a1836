"""From a Keras segmentation network to a measured 8-bit file: the verbs of the commands, for Python.

>>> from pipeline import build, calibrate, inspect, open_dataset, quantize, score
>>> data = open_dataset("synthetic")  # built-in street scenes with labels
>>> network = build("fcn8", "72x104", num_classes=len(data.classes), alpha=0.125)
>>> images = [sample.image() for sample in data.splits["train"][:4]]
>>> ranges = calibrate(network, images)
>>> file = quantize(network, ranges, target="edgetpu")  # int8, checked against the target's contract
>>> file.recipe.file.io, file.recipe.file.output, file.data[4:8]
('int8', 'logits', b'TFL3')
>>> inspect(file, "edgetpu", compiler=False).coverage.ops_accelerated > 20
True
>>> score(file, data, images=2).images, 0 <= score(file, data, images=2).miou_percent <= 100
(2, True)

In memory: ``build``, ``calibrate``, ``quantize``, ``inspect``, ``score``, ``predict``, and ``check`` of a dataset. In a
run's folder, as the commands do it: ``create_run`` or ``open_run``, then ``train``, ``quantize_aware_train``,
``convert``, ``measure``, ``gate``, ``report``. All take and return frozen dataclasses, print nothing (``say=print``
shows progress), and raise subclasses of ``SegquantError``.

A name is loaded when it is used: importing it needs no TensorFlow. ``check``, ``convert``, ``gate``, ``measure``,
``predict``, ``quantize``, ``report`` and ``train`` are the packages of their verbs, too, and can be called.
"""

from __future__ import annotations

import importlib
import types
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.api.memory import build as build
    from pipeline.api.memory import calibrate as calibrate
    from pipeline.api.memory import check as check
    from pipeline.api.memory import inspect as inspect
    from pipeline.api.memory import predict as predict
    from pipeline.api.memory import quantize as quantize
    from pipeline.api.memory import score as score
    from pipeline.api.runs import convert as convert
    from pipeline.api.runs import create_run as create_run
    from pipeline.api.runs import gate as gate
    from pipeline.api.runs import measure as measure
    from pipeline.api.runs import qat_schedule as qat_schedule
    from pipeline.api.runs import quantize_aware_train as quantize_aware_train
    from pipeline.api.runs import report as report
    from pipeline.api.runs import train as train
    from pipeline.check.check import Checked as Checked
    from pipeline.core.artifact import Artifact as Artifact
    from pipeline.core.calibration import Calibration as Calibration
    from pipeline.core.calibration import Quantization as Quantization
    from pipeline.core.dataset import Dataset as Dataset
    from pipeline.core.division import Division as Division
    from pipeline.core.errors import SegquantError as SegquantError
    from pipeline.core.file_spec import FileSpec as FileSpec
    from pipeline.core.inspection import Inspection as Inspection
    from pipeline.core.measurement import Measurement as Measurement
    from pipeline.core.ranges import Range as Range
    from pipeline.core.recipe import Recipe as Recipe
    from pipeline.core.run import Run as Run
    from pipeline.core.run import open_run as open_run
    from pipeline.core.score import Score as Score
    from pipeline.core.spec import ModelSpec as ModelSpec
    from pipeline.core.target import Target as Target
    from pipeline.core.training import FloatResult as FloatResult
    from pipeline.core.training import QatResult as QatResult
    from pipeline.data import open_dataset as open_dataset
    from pipeline.gate.checks import Gated as Gated
    from pipeline.gate.checks import Limits as Limits
    from pipeline.measure.timing import Protocol as Protocol
    from pipeline.quantize.quantize import Quantized as Quantized
    from pipeline.targets import target as target
    from pipeline.tflite.artifact import open_artifact as open_artifact
    from pipeline.train.feed import Augmentation as Augmentation
    from pipeline.train.qat import QatOptions as QatOptions
    from pipeline.train.schedule import Schedule as Schedule

WHERE = {
    "api.memory": "build calibrate check inspect predict quantize score",
    "api.runs": "convert create_run gate measure qat_schedule quantize_aware_train report train",
    "check.check": "Checked",
    "core.artifact": "Artifact",
    "core.calibration": "Calibration Quantization",
    "core.dataset": "Dataset",
    "core.division": "Division",
    "core.errors": "SegquantError",
    "core.file_spec": "FileSpec",
    "core.inspection": "Inspection",
    "core.measurement": "Measurement",
    "core.ranges": "Range",
    "core.recipe": "Recipe",
    "core.run": "Run open_run",
    "core.score": "Score",
    "core.spec": "ModelSpec",
    "core.target": "Target",
    "core.training": "FloatResult QatResult",
    "data": "open_dataset",
    "gate.checks": "Gated Limits",
    "measure.timing": "Protocol",
    "quantize.quantize": "Quantized",
    "targets": "target",
    "tflite.artifact": "open_artifact",
    "train.feed": "Augmentation",
    "train.qat": "QatOptions",
    "train.schedule": "Schedule",
}
"""Module → the names it has for the user; a test holds that they are those above."""
_PLACES = {name: (module, name) for module, names in WHERE.items() for name in names.split()}


def _load(name: str) -> Any:
    module, attribute = _PLACES[name]
    return getattr(importlib.import_module(f"{__name__}.{module}"), attribute)


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return _load(name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_PLACES})


class _Verb(types.ModuleType):
    """A package that can be called: the import system would put it over a function of its name when it is loaded."""

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        return _load(self.__name__.rpartition(".")[2])(*arguments, **named)

    @property
    def __wrapped__(self) -> Any:  # what inspect.signature follows
        return _load(self.__name__.rpartition(".")[2])


for _name in ("check", "convert", "gate", "measure", "predict", "quantize", "report", "train"):
    importlib.import_module(f"{__name__}.{_name}").__class__ = _Verb
