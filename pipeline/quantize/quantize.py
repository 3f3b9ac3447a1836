"""From a float network to a checked file for a target: without a run directory, and without printing."""

from __future__ import annotations

import dataclasses
import functools
import importlib.metadata

import tf_keras

from pipeline.core.file_spec import FileSpec
from pipeline.core.ranges import Ranges
from pipeline.core.recipe import Origin, Recipe
from pipeline.core.rewrite import AppliedRewrite
from pipeline.core.target import Target
from pipeline.quantize.fold import INPUT_RANGE
from pipeline.quantize.to_tflite import to_tflite
from pipeline.rewrites.apply import rewrite
from pipeline.tflite.read import read
from pipeline.tflite.verify import verify


@dataclasses.dataclass(frozen=True)
class Quantized:
    """A .tflite file that keeps its target's contract.

    Attributes:
      data: the file, without its recipe, which ``tflite.artifact.write`` adds.
      recipe: how it was made.
    """

    data: bytes
    recipe: Recipe

    @property
    def applied(self) -> tuple[AppliedRewrite, ...]:
        """The rewrites applied for the target, in the order of the graph."""
        return self.recipe.applied_rewrites


def quantize(
    network: tf_keras.Model,
    ranges: Ranges | None,
    target: Target,
    spec: FileSpec | None = None,
    origin: Origin | None = None,
) -> Quantized:
    """Folds, converts, rewrites for the target, and checks against its contract. ``network`` stays as it is.

    ``network``: float32 [batch, h, w, 3] in [0, 1] → float32 logits [batch, h, w, classes], of layers that ``plan`` has
    rules for. ``ranges``: of every point of its plan; not used for a float file. ``spec``: the file's inputs and
    outputs; None for the target's own input type and logits of full size. ``origin`` goes into the recipe.
    Raises BadSpec for a spec that the target or the network does not support, and ContractViolation naming the op.
    """
    spec = target.file_spec() if spec is None else spec
    target.check(spec)
    return finish(to_tflite(network, ranges, spec), ranges, target, spec, origin)


def finish(
    data: bytes, ranges: Ranges | None, target: Target, spec: FileSpec, origin: Origin | None = None
) -> Quantized:
    """The second half of ``quantize``, for the ``data`` that ``to_tflite`` returned for the same ranges and spec."""
    ranges = ranges if spec.weights == "int8" else None
    data, applied = rewrite(data, target, spec.per_tensor)
    verify(read(data), target, [INPUT_RANGE, *ranges.values()] if ranges else [], spec.per_tensor)
    return Quantized(data, dataclasses.replace(recipe_of(target, spec, ranges, origin), applied_rewrites=applied))


def recipe_of(target: Target, spec: FileSpec, ranges: Ranges | None, origin: Origin | None = None) -> Recipe:
    """The recipe of a file that is not made yet: everything that decides its content."""
    return Recipe(
        target.name,
        spec,
        target.level,
        tuple(rewrite.name for rewrite in target.rewrites),
        ranges if spec.weights == "int8" else None,
        versions(),
        origin,
    )


@functools.cache
def versions() -> dict[str, str]:
    """{library that takes part in making the file: its version}."""
    names = ("tensorflow", "tf-keras", "tensorflow-model-optimization", "ai-edge-litert", "numpy")
    return {name: importlib.metadata.version(name) for name in names}
