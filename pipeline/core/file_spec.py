"""What a .tflite file reads and gives: one noun for it, from the command line to the file's name."""

from __future__ import annotations

import dataclasses
from typing import Literal, get_args

from pipeline.core.errors import BadSpec
from pipeline.core.preprocessing import InputType

Output = Literal["logits", "scores", "mask"]
Stride = Literal[1, 2, 4, 8]
"""Pixels of the image, along each axis, for one sample of the output."""
Weights = Literal["int8", "float16", "float32"]

MASKS: dict[Output, str] = {
    "logits": "their argmax over the last axis, the lowest index on ties",
    "scores": "their argmax over the last axis, the lowest index on ties",
    "mask": "int32, as it is",
}
"""How a file's output becomes a mask, in words."""
EXACT = "exact mask of int8 samples: segquant_mask of segquant_mask.c"
NEAREST = "nearest sample: segquant_expand of segquant_mask.c"


@dataclasses.dataclass(frozen=True)
class FileSpec:
    """What decides the graph of a file, apart from the network, its ranges and the target's rewrites.

    One network, the same ranges and the same spec give the same bytes, so the spec is also the key under which the
    output of TensorFlow's converter is kept. Raises BadSpec for a combination that cannot exist.

    Attributes:
      output: logits, scores (their softmax), or the mask.
      stride: pixels of the image, along each axis, for one sample of the output.
      io: type of the input. Logits and scores of an int8 file come out as int8, or with 'float32' as float32; a mask is
        int32.
      weights: type of the weights; 'int8' makes the whole graph int8.
      per_tensor: int8 kernels have one scale each instead of one per output channel.
      argmax_lanes: channels that the target's ARG_MAX reads at once (see ``Target``); logits are padded to a multiple.
    """

    output: Output = "logits"
    stride: Stride = 1
    io: InputType = "uint8"
    weights: Weights = "int8"
    per_tensor: bool = False
    argmax_lanes: int = 1

    def __post_init__(self) -> None:
        allowed = {"output": Output, "stride": Stride, "io": InputType, "weights": Weights}
        for name, kind in allowed.items():
            value = getattr(self, name)
            if type(value) not in (str, int) or value not in get_args(kind):
                raise BadSpec(f"{name} is {value!r}: choose one of {', '.join(map(str, get_args(kind)))}.")
        if type(self.per_tensor) is not bool:
            raise BadSpec(f"per_tensor is {self.per_tensor!r}: it is true or false.")
        if type(self.argmax_lanes) is not int or self.argmax_lanes < 1:
            raise BadSpec(f"argmax_lanes is {self.argmax_lanes!r}: give a whole number, 1 or more.")
        if self.weights != "int8" and self.io != "float32":
            raise BadSpec(f"a file with {self.weights} weights has no {self.io} input: choose float32.")
        if self.weights != "int8" and self.per_tensor:
            raise BadSpec(f"a file with {self.weights} weights has no kernel scales: leave per_tensor out.")
        if self.output != "mask" and self.argmax_lanes != 1:
            raise BadSpec(f"a file that gives {self.output} has no ARG_MAX: leave argmax_lanes at 1.")

    @property
    def mask(self) -> str:
        """How the output becomes a mask, in words."""
        return MASKS[self.output]

    @property
    def postprocess(self) -> str | None:
        """What makes the full-size mask where the output is smaller; None for an output of full size.

        None for float logits as well: there is no C code for them.
        """
        if self.stride == 1:
            return None
        if self.output == "mask":
            return NEAREST
        return EXACT if self.weights == "int8" and self.io != "float32" else None

    def file_name(self, network: str, way: str) -> str:
        """Such as fast-scnn-qat-logits-stride8-uint8.tflite; ``way``: 'qat', 'ptq' or another of ``Origin.way``."""
        way = way if self.weights == "int8" else self.weights
        what = self.output if self.stride == 1 else f"{self.output}-stride{self.stride}"
        return f"{network}-{way}-{what}-{self.io}.tflite"


FLOAT32 = FileSpec(io="float32", weights="float32")
"""The float reference's file, with logits of full size."""
