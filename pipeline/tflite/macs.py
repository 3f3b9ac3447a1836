"""How many multiply-accumulates an op takes: a formula for every op of the schema that has any.

1 MAC = one product added to a sum = 2 FLOPs. Counted are convolutions, matrix products, and recurrences made of them,
as fvcore counts them (fvcore/nn/jit_handles.py): every product of the definition, including those with zeros of the
padding. Not counted are biases, activations, the gates of a recurrence, and ops that only add, compare, move,
interpolate or normalize (``UNCOUNTED``, which together with ``FORMULAS`` names every op of the schema).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping

from pipeline.core.graph import Graph, Op, Tensor

MALFORMED = (IndexError, KeyError, TypeError, ValueError, AttributeError, OverflowError, ZeroDivisionError)
"""Exceptions that a formula or check raises for an op whose inputs or options do not fit its kind."""
Formula = Callable[[Op, Graph], int]


def macs(op: Op, graph: Graph) -> int:
    """Multiply-accumulates of one op; 0 for an op without any, and for a malformed one."""
    formula = (CUSTOM if op.custom else FORMULAS).get(op.name)
    try:
        return formula(op, graph) if formula else 0
    except MALFORMED:
        return 0


def _read(op: Op, graph: Graph, place: int) -> Tensor:
    if op.inputs[place] < 0:
        raise IndexError
    return graph.tensors[op.inputs[place]]


def _output(op: Op, graph: Graph) -> Tensor:
    return graph.tensors[op.outputs[0]]


def _elements(op: Op, graph: Graph, places: Iterable[int]) -> int:
    """Of those of the inputs that are present."""
    return sum(graph.tensors[op.inputs[i]].elements for i in places if i < len(op.inputs) and op.inputs[i] >= 0)


def _conv_2d(op: Op, graph: Graph) -> int:
    """Each output value meets one kernel [h, w, in / groups]. Kernel: [out, h, w, in / groups]."""
    return _output(op, graph).elements * math.prod(_read(op, graph, 1).shape[1:])


def _depthwise_conv_2d(op: Op, graph: Graph) -> int:
    """Each output value meets one kernel [h, w]. Kernel: [1, h, w, out]."""
    return _output(op, graph).elements * math.prod(_read(op, graph, 1).shape[1:3])


def _transpose_conv(op: Op, graph: Graph) -> int:
    """Each input value meets the kernels of all outputs. Kernel: [out, h, w, in], data the third input."""
    return _read(op, graph, 2).elements * math.prod(_read(op, graph, 1).shape[:3])


def _conv_3d(op: Op, graph: Graph) -> int:
    """Kernel: [depth, h, w, in / groups, out] (tflite/kernels/conv3d.cc)."""
    return _output(op, graph).elements * math.prod(_read(op, graph, 1).shape[:4])


def _conv_3d_transpose(op: Op, graph: Graph) -> int:
    """Kernel: [depth, h, w, out, in], data the third input (tflite/kernels/conv3d_transpose.cc)."""
    return _read(op, graph, 2).elements * math.prod(_read(op, graph, 1).shape[:4])


def _fully_connected(op: Op, graph: Graph) -> int:
    """Weights: [out, in], in the file or computed."""
    return _output(op, graph).elements * _read(op, graph, 1).shape[-1]


def _batch_matmul(op: Op, graph: Graph) -> int:
    """[..., n, k] by [..., k, m], the first one [..., k, n] with adj_x; leading axes broadcast into the output's."""
    left = _read(op, graph, 0).shape
    return _output(op, graph).elements * (left[-2] if op.options.get("adjX") else left[-1])


def _dot_general(op: Op, graph: Graph) -> int:
    """StableHLO specification, dot_general: the contracting axes are summed over."""
    left = _read(op, graph, 0).shape
    axes = op.options["lhsContractingDimensions"]
    return _output(op, graph).elements * math.prod(left[int(axis)] for axis in ([] if axes is None else axes))


def _convolution(op: Op, graph: Graph) -> int:
    """StableHLO specification, convolution. With a dilated input, whose zeros count nothing, as a transposed one."""
    kernel = _read(op, graph, 1).shape
    dilation = op.options["lhsDilation"]
    if dilation is not None and any(int(d) > 1 for d in dilation):
        groups = max(1, op.options["featureGroupCount"])
        each = math.prod(kernel) // kernel[op.options["kernelInputFeatureDimension"]] // groups
        return _read(op, graph, 0).elements * each
    return _output(op, graph).elements * (math.prod(kernel) // kernel[op.options["kernelOutputFeatureDimension"]])


def _each_step(*places: int) -> Formula:
    """Each vector of the input, its last axis, meets all the weights at ``places``, some of which may be absent."""

    def formula(op: Op, graph: Graph) -> int:
        return math.prod(_read(op, graph, 0).shape[:-1]) * _elements(op, graph, places)

    return formula


def _convolution_2d_transpose_bias(op: Op, graph: Graph) -> int:
    """As ``_transpose_conv``, the data the first input."""
    return _read(op, graph, 0).elements * math.prod(_read(op, graph, 1).shape[:3])


LSTM_WEIGHTS = (*range(1, 12), 16)
"""Input, recurrent and peephole weights, and the projection (tflite/kernels/lstm_shared.h)."""


def _lstm(op: Op, graph: Graph) -> int:
    """The basic kernel (kernelType 1) has all weights in one matrix, its third input (tflite/kernels/lstm.cc)."""
    return _each_step(2)(op, graph) if op.options.get("kernelType") == 1 else _each_step(*LSTM_WEIGHTS)(op, graph)


def _embedding_lookup_sparse(op: Op, graph: Graph) -> int:
    """A weighted sum of rows: one for each index (tflite/kernels/embedding_lookup_sparse.cc)."""
    return _read(op, graph, 0).elements * math.prod(_read(op, graph, 4).shape[1:])


FORMULAS: Mapping[str, Formula] = {
    "CONV_2D": _conv_2d,
    "DEPTHWISE_CONV_2D": _depthwise_conv_2d,
    "TRANSPOSE_CONV": _transpose_conv,
    "CONV_3D": _conv_3d,
    "CONV_3D_TRANSPOSE": _conv_3d_transpose,
    "FULLY_CONNECTED": _fully_connected,
    "BATCH_MATMUL": _batch_matmul,
    "STABLEHLO_DOT_GENERAL": _dot_general,
    "STABLEHLO_CONVOLUTION": _convolution,
    # tflite/kernels/basic_rnn.cc, unidirectional_sequence_rnn.cc: weights and recurrent weights.
    "RNN": _each_step(1, 2),
    "UNIDIRECTIONAL_SEQUENCE_RNN": _each_step(1, 2),
    # bidirectional_sequence_rnn.cc: the same forward, backward, and of an auxiliary input.
    "BIDIRECTIONAL_SEQUENCE_RNN": _each_step(1, 2, 5, 6, 10, 11),
    "LSTM": _lstm,
    "UNIDIRECTIONAL_SEQUENCE_LSTM": _each_step(*LSTM_WEIGHTS),
    # bidirectional_sequence_lstm.cc: as LSTM_WEIGHTS forward and backward, and those of an auxiliary input.
    "BIDIRECTIONAL_SEQUENCE_LSTM": _each_step(*LSTM_WEIGHTS, *range(18, 29), 33, *range(40, 48)),
    "SVDF": _each_step(1, 2),  # tflite/kernels/svdf.cc: features, then time
    "EMBEDDING_LOOKUP_SPARSE": _embedding_lookup_sparse,
}

CUSTOM: Mapping[str, Formula] = {"Convolution2DTransposeBias": _convolution_2d_transpose_bias}
"""MediaPipe's, which XNNPACK runs (xnnpack_delegate.cc, VisitMediaPipeDeconvolutionNode). Other custom ops: none."""

UNCOUNTED: Mapping[str, frozenset[str]] = {
    "each value by itself": frozenset(
        "ABS ADD ATAN2 BITWISE_XOR CAST CEIL COMPLEX_ABS COS DEQUANTIZE DIV ELU EQUAL EXP FAKE_QUANT FLOOR FLOOR_DIV"
        " FLOOR_MOD GELU GREATER GREATER_EQUAL HARD_SWISH IMAG LEAKY_RELU LESS LESS_EQUAL LOG LOGICAL_AND LOGICAL_NOT"
        " LOGICAL_OR LOGISTIC MAXIMUM MINIMUM MUL NEG NOT_EQUAL POW PRELU QUANTIZE REAL RELU RELU6 RELU_0_TO_1"
        " RELU_N1_TO_1 RIGHT_SHIFT ROUND RSQRT SELECT SELECT_V2 SIGN SIN SQRT SQUARE SQUARED_DIFFERENCE SUB TANH"
        " STABLEHLO_ABS STABLEHLO_ADD STABLEHLO_AND STABLEHLO_CBRT STABLEHLO_CLAMP STABLEHLO_COMPARE STABLEHLO_CONVERT"
        " STABLEHLO_COSINE STABLEHLO_DIVIDE STABLEHLO_EXPONENTIAL STABLEHLO_FLOOR STABLEHLO_LOG STABLEHLO_LOGISTIC"
        " STABLEHLO_MAXIMUM STABLEHLO_MINIMUM STABLEHLO_MULTIPLY STABLEHLO_NEGATE STABLEHLO_OR STABLEHLO_POWER"
        " STABLEHLO_REMAINDER STABLEHLO_RSQRT STABLEHLO_SELECT STABLEHLO_SHIFT_LEFT STABLEHLO_SUBTRACT"
        " STABLEHLO_TANH".split()
    ),
    "adds, or compares, and multiplies nothing": frozenset(
        "ADD_N ARG_MAX ARG_MIN AVERAGE_POOL_2D BUCKETIZE CUMSUM MAX_POOL_2D MEAN NON_MAX_SUPPRESSION_V4"
        " NON_MAX_SUPPRESSION_V5 REDUCE_ALL REDUCE_ANY REDUCE_MAX REDUCE_MIN REDUCE_PROD REDUCE_WINDOW SEGMENT_SUM SUM"
        " TOPK_V2 UNIQUE UNSORTED_SEGMENT_MAX UNSORTED_SEGMENT_MIN UNSORTED_SEGMENT_PROD UNSORTED_SEGMENT_SUM WHERE"
        " STABLEHLO_REDUCE STABLEHLO_REDUCE_WINDOW STABLEHLO_SORT".split()
    ),
    "interpolates, normalizes or transforms, a few products for each value": frozenset(
        "L2_NORMALIZATION L2_POOL_2D LOCAL_RESPONSE_NORMALIZATION LOG_SOFTMAX LSH_PROJECTION MULTINOMIAL"
        " RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR RFFT2D SOFTMAX".split()
    ),
    "moves, makes or describes data": frozenset(
        "ASSIGN_VARIABLE BATCH_TO_SPACE_ND BITCAST BROADCAST_ARGS BROADCAST_TO CONCATENATION CONCAT_EMBEDDINGS DENSIFY"
        " DEPTH_TO_SPACE DILATE DYNAMIC_UPDATE_SLICE EMBEDDING_LOOKUP EXPAND_DIMS FILL GATHER GATHER_ND HASHTABLE"
        " ONE_HOT HASHTABLE_FIND HASHTABLE_IMPORT HASHTABLE_LOOKUP HASHTABLE_SIZE MATRIX_DIAG MATRIX_SET_DIAG"
        " MIRROR_PAD PACK PAD PADV2 RANDOM_STANDARD_NORMAL RANDOM_UNIFORM RANGE RANK READ_VARIABLE RESHAPE"
        " REVERSE_SEQUENCE REVERSE_V2 SCATTER_ND SHAPE SKIP_GRAM SLICE SPACE_TO_BATCH_ND SPACE_TO_DEPTH SPARSE_TO_DENSE"
        " SPLIT SPLIT_V SQUEEZE STRIDED_SLICE TILE TRANSPOSE UNPACK VAR_HANDLE ZEROS_LIKE STABLEHLO_BROADCAST_IN_DIM"
        " STABLEHLO_CONCATENATE STABLEHLO_DYNAMIC_SLICE STABLEHLO_DYNAMIC_UPDATE_SLICE STABLEHLO_GATHER STABLEHLO_IOTA"
        " STABLEHLO_PAD STABLEHLO_RESHAPE STABLEHLO_RNG_BIT_GENERATOR STABLEHLO_SCATTER STABLEHLO_SLICE"
        " STABLEHLO_TRANSPOSE".split()
    ),
    "does what another graph or somebody's own code says, which is not counted": frozenset(
        "CALL CALL_ONCE CUSTOM DELEGATE IF PLACEHOLDER_FOR_GREATER_OP_CODES STABLEHLO_CASE STABLEHLO_COMPOSITE"
        " STABLEHLO_CUSTOM_CALL STABLEHLO_WHILE WHILE".split()
    ),
}
"""Why they count as none → the ops."""
