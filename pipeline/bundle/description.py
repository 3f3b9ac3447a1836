"""What the programs of a bundle need to know of the file: as JSON, and as a header for C."""

from __future__ import annotations

from typing import Any

from pipeline.bundle.golden import LEAST_EQUAL_PIXELS, Golden
from pipeline.core.artifact import Artifact
from pipeline.core.graph import Graph, Tensor
from pipeline.core.printable import LONGEST_NAME, printable
from pipeline.heads.shipping import c_comment, c_string, class_macros

HEADER = """\
/* {file}: what segment.cpp needs to know of it. */
#define SEGQUANT_FILE {literal}
#define SEGQUANT_INPUT_HEIGHT {height}
#define SEGQUANT_INPUT_WIDTH {width}
#define SEGQUANT_INPUT_FLOAT {input_float}
#define SEGQUANT_INPUT_BYTES_A_VALUE {input_bytes}
#define SEGQUANT_INPUT_ZERO_POINT {zero_point}
#define SEGQUANT_OUTPUT_HEIGHT {rows}
#define SEGQUANT_OUTPUT_WIDTH {columns}
#define SEGQUANT_OUTPUT_BYTES {output_bytes}
#define SEGQUANT_OUTPUT_FLOAT {output_float}
#define SEGQUANT_OUTPUT_MASK {output_mask}
#define SEGQUANT_CLASSES {classes}
#define SEGQUANT_RESIZE SEGQUANT_{resize}
#define SEGQUANT_TOLERANCE {tolerance!r}
#define SEGQUANT_LEAST_EQUAL_PIXELS {least!r}
"""


def network_json(
    artifact: Artifact,
    graph: Graph,
    browser: tuple[str, Graph],
    golden: Golden,
    colours: tuple[tuple[int, int, int], ...],
) -> dict[str, Any]:
    """``browser``: name and graph of the file for LiteRT.js. real = scale · (q − zero_point)."""
    spec, origin = artifact.recipe.file, artifact.recipe.known_origin
    input_tensor, output_tensor = graph.input_tensor, graph.output_tensor
    name, in_browser = browser
    return {
        "file": artifact.path.name,
        "sha256": artifact.sha256,
        "target": artifact.recipe.target,
        "compiled": artifact.compiled.name if artifact.compiled else None,
        "input": {
            "height": origin.model.height,
            "width": origin.model.width,
            "channels": "RGB",
            "dtype": input_tensor.dtype,
            **_quantization(input_tensor),
        },
        "output": {
            "kind": spec.output,
            "height": output_tensor.shape[1],
            "width": output_tensor.shape[2],
            "dtype": output_tensor.dtype,
            "resize": origin.model.resize,
            **_quantization(output_tensor),
        },
        "classes": [printable(name, LONGEST_NAME) for name in origin.classes],
        "colours": [list(colour) for colour in colours],
        "browser": {"file": f"browser/{name}", "input": in_browser.input_tensor.dtype},
        "golden": {"tolerance": golden.tolerance, "least_equal_pixels": LEAST_EQUAL_PIXELS},
    }


def _quantization(tensor: Tensor) -> dict[str, Any]:
    if not tensor.scale:
        return {"scale": 1.0, "zero_point": 0}
    return {"scale": tensor.scale[0], "zero_point": tensor.range[1][0]}


def network_header(network: dict[str, Any], golden: Golden) -> str:
    """``network``: what ``network_json`` gave."""
    network_input, network_output, classes = network["input"], network["output"], network["classes"]
    return HEADER.format(
        file=c_comment(network["file"]),
        literal=c_string(network["file"]),
        height=network_input["height"],
        width=network_input["width"],
        input_float=int(network_input["dtype"] == "float32"),
        input_bytes=4 if network_input["dtype"] == "float32" else 1,
        zero_point=network_input["zero_point"],
        rows=network_output["height"],
        columns=network_output["width"],
        output_bytes=golden.output.nbytes,
        output_float=int(network_output["dtype"] == "float32"),
        output_mask=int(network_output["kind"] == "mask"),
        classes=len(classes),
        resize=network_output["resize"].upper(),
        tolerance=golden.tolerance,
        least=LEAST_EQUAL_PIXELS,
    ) + class_macros(classes, tuple(map(tuple, network["colours"])))
