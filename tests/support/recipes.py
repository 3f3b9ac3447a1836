"""Recipes for files that no run made."""

from __future__ import annotations

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from pipeline.core.file_spec import FileSpec
from pipeline.core.graph import RECIPE_KEY
from pipeline.core.recipe import Checkpoint, Origin, Recipe
from pipeline.core.spec import ModelSpec
from pipeline.tflite.read import packed


def recipe(target: str = "cpu", spec: FileSpec = FileSpec(), **more) -> Recipe:
    return Recipe(target, spec, **more)


def origin(**other) -> Origin:
    """Of a small FCN8 with two classes, quantized after training."""
    colours = ((0, 0, 0), (255, 255, 255))
    parent = Checkpoint("float/best.weights.h5", "0" * 64)
    known = {"model": ModelSpec("fcn8", 72, 104, 2), "classes": ("a", "b"), "colours": colours, "data": "synthetic"}
    return Origin(**{**known, "method": "ptq", "parent": parent, **other})


def with_metadata(data: bytes, text: bytes) -> bytes:
    """The file with any text in the recipe's place."""
    model = schema.ModelT.InitFromPackedBuf(data, 0)
    buffer, entry = schema.BufferT(), schema.MetadataT()
    buffer.data, entry.name, entry.buffer = np.frombuffer(text, np.uint8), RECIPE_KEY, len(model.buffers)
    model.buffers.append(buffer)
    model.metadata = [entry]
    return packed(model, len(data))
