"""Our networks as int8 files at sizes of one's choice, with random weights (conftest.scrambled)."""

from __future__ import annotations

import functools

from pipeline.core.file_spec import FileSpec, Output
from tests import conftest


@functools.lru_cache
def int8_network(name: str, size: tuple[int, int], output: Output) -> bytes:
    from pipeline.quantize.to_tflite import to_tflite

    model, ranges = _network(name, size)
    return to_tflite(model, ranges, FileSpec(output, io="int8"))


@functools.lru_cache
def _network(name: str, size: tuple[int, int]):
    from calib.ranges import measure
    from pipeline.quantize.plan import plan

    model = conftest.scrambled(name, size)
    planned = plan(model)
    images = conftest.noise_images(model)
    return model, planned.share(measure(model, planned.points, lambda: (x[None] for x in images)))
