"""TensorFlow's converter: a folded network as the bytes of a .tflite file."""

from __future__ import annotations

import tensorflow as tf
import tf_keras

from pipeline.core.errors import ContractViolation
from pipeline.core.preprocessing import InputType
from pipeline.core.target import Weights
from pipeline.tflite.read import with_per_tensor_kernels


def tflite_bytes(model: tf_keras.Model, weights: Weights, io: InputType = "float32", per_tensor: bool = False) -> bytes:
    """Converts a folded network (see ``fold``) with a fixed batch of 1.

    ``io`` is the type of the input. Logits and scores of an int8 graph come out as int8, or as float32 with
    ``io='float32'``; a mask is int32. ``per_tensor`` is for an int8 network that was folded so.
    Raises ContractViolation when the converter refuses the graph.
    """
    height, width = model.input_shape[1:3]
    call = tf.function(lambda image: model(image, training=False))
    concrete = call.get_concrete_function(tf.TensorSpec([1, height, width, 3], tf.float32, name="image"))
    holder = tf.Module()  # not the model itself: the converter would trace every one of its layers again, for minutes
    holder.variables_held = model.variables
    converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete], holder)
    if weights != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if weights == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if weights == "int8":
        converter.inference_input_type = getattr(tf, io)
        # uint8 is for cameras: on the way out it would only cost a pass over every logit.
        keeps_type = io == "float32" or model.outputs[0].dtype == tf.int32
        converter.inference_output_type = tf.float32 if keeps_type else tf.int8
    try:
        data = bytes(converter.convert())
    except (tf.errors.OpError, ValueError, RuntimeError) as error:
        first = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise ContractViolation(f"TensorFlow's converter refused the network: {first}") from None
    return with_per_tensor_kernels(data) if per_tensor else data
