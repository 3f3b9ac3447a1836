"""The networks. One family per file; each registers itself by a module-level ``Network``."""

from __future__ import annotations

import sys
from typing import Any

import tensorflow as tf
import tf_keras

from models import memory
from pipeline.core.errors import BadSpec
from pipeline.core.registry import discover, find
from pipeline.core.spec import ModelSpec, Network


def networks() -> dict[str, Network]:
    return discover(sys.modules[__name__], Network)


def network(name: str) -> Network:
    return find(sys.modules[__name__], Network, "model", name)


def check_size(spec: ModelSpec) -> Network:
    """The spec's family; raises UnknownName, or BadSpec for a size below the family's smallest."""
    family = network(spec.network)
    if spec.height < family.min_size[0] or spec.width < family.min_size[1]:
        least = "x".join(map(str, family.min_size))
        raise BadSpec(f"size {spec.size} is too small for {spec.network}: it takes {least} (HEIGHTxWIDTH) or more.")
    return family


def build(spec: ModelSpec) -> Any:
    """The tf_keras.Model of ``spec``: float32 [batch, height, width, 3] → logits [batch, height, width, num_classes].

    Raises the errors of ``check_size``, and BadSpec for a network that does not fit into the memory that is free.
    """
    family = check_size(spec)
    memory.check_weights(spec, family.build)
    tf_keras.backend.reset_uids()  # names that a family leaves to Keras do not depend on what was built before
    model = tf.autograph.experimental.do_not_convert(family.build)(spec)  # what is built has no Python to translate
    memory.check_inference(model, f"{spec.network} at {spec.size}")
    return model
