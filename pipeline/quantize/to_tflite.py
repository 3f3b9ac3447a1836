"""A float network and its ranges as the bytes of a .tflite file, by TensorFlow's converter."""

from __future__ import annotations

import errno
from typing import Any

import tensorflow as tf
import tf_keras

from pipeline.core.errors import BadSpec, ContractViolation
from pipeline.core.file_spec import FileSpec
from pipeline.core.files import disk_error
from pipeline.core.keeper import scratch_folder
from pipeline.core.ranges import Ranges
from pipeline.core.temporary import shared_temporary_folder
from pipeline.quantize.fold import fold
from pipeline.tflite.read import with_per_tensor_kernels


def to_tflite(network: tf_keras.Model, ranges: Ranges | None, spec: FileSpec) -> bytes:
    """Folds and converts a float network, which stays unchanged. A float file does not use ``ranges``.

    The file is the same for all targets: see ``quantize``. Raises BadSpec for an int8 file without ranges and for a
    stride that the network does not have, and ContractViolation when the converter refuses the graph.
    """
    if spec.weights != "int8":
        ranges = None
    elif not ranges:
        raise BadSpec("an int8 file needs the range of each activation: calibrate the network first.")
    return tflite_bytes(fold(network, ranges, spec), spec)


def tflite_bytes(model: tf_keras.Model, spec: FileSpec) -> bytes:
    """Converts a network that was folded for the same ``spec`` (see ``fold``), with a fixed batch of 1.

    Raises ContractViolation when the converter refuses the graph.
    """
    height, width = model.input_shape[1:3]
    call = tf.function(lambda image: model(image, training=False), autograph=False)
    concrete = call.get_concrete_function(tf.TensorSpec([1, height, width, 3], tf.float32, name="image"))
    holder = tf.Module()  # not the model itself: the converter would trace every one of its layers again, for minutes
    holder.variables_held = model.variables
    converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete], holder)
    if spec.weights != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if spec.weights == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if spec.weights == "int8":
        converter.inference_input_type = getattr(tf, spec.io)
        # uint8 is what cameras give; as output type it would only cost a pass over every logit.
        keeps_type = spec.io == "float32" or model.outputs[0].dtype == tf.int32
        converter.inference_output_type = tf.float32 if keeps_type else tf.int8
    try:
        data = bytes(tf.autograph.experimental.do_not_convert(converter.convert)())
    except (tf.errors.OpError, ValueError, RuntimeError) as error:
        if (broken := disk_error(error, str(shared_temporary_folder()))) is not None:
            raise broken from None
        first = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise ContractViolation(f"TensorFlow's converter refused the network: {first}") from None
    if converter.saved_model_dir is None:
        _check_disk(holder, concrete)
    return with_per_tensor_kernels(data) if spec.per_tensor else data


def _check_disk(holder: tf.Module, concrete: Any) -> None:
    """Raises OSError unless the network is one that TensorFlow cannot save.

    The converter saves the network to temporary files. Where that fails it goes another way, without a word, and gives
    the tensors other names: a file that differs by whether the disk was full.
    """
    place = str(shared_temporary_folder())
    with scratch_folder() as folder:
        try:
            tf.saved_model.save(holder, str(folder), concrete)
        except (tf.errors.OpError, OSError) as error:
            raise disk_error(error, place) or OSError(errno.EIO, f"TensorFlow cannot write ({error})", place) from None
        except Exception:  # it uses what cannot be saved
            return
    raise OSError(errno.EIO, "TensorFlow could not write temporary files", place)
