"""The README of a bundle: the contract of the file in numbers, and how an app uses it."""

from __future__ import annotations

import string
from pathlib import Path

from pipeline.bundle.golden import Golden
from pipeline.core.artifact import Artifact
from pipeline.core.file_spec import FileSpec
from pipeline.core.graph import Graph, Tensor
from pipeline.core.preprocessing import SCALE
from pipeline.core.printable import LONGEST_NAME
from pipeline.core.recipe import Origin
from pipeline.core.target import Target
from pipeline.report.markdown import escaped
from pipeline.tflite.metadata import VERSION_DIGITS

TEMPLATE, WITH_MEDIAPIPE = (Path(__file__).with_name(name) for name in ("readme.md", "mediapipe.md"))


def readme(artifact: Artifact, graph: Graph, target: Target, golden: Golden, mediapipe: str | None) -> str:
    """``mediapipe``: why its ImageSegmenter cannot use the file; None where it can."""
    recipe = artifact.recipe
    spec, origin = recipe.file, recipe.known_origin
    input_tensor, output_tensor = graph.input_tensor, graph.output_tensor
    height, width = golden.image.shape[:2]
    return string.Template(TEMPLATE.read_text("utf-8")).substitute(
        network=origin.model.network,
        size=origin.model.size,
        classes=", ".join(escaped(name, LONGEST_NAME) for name in origin.classes),
        count=len(origin.classes),
        file=artifact.path.name,
        compiled=_compiled(artifact, target),
        about=_about(origin),
        target=target.text,
        title=target.title,
        height=origin.model.height,
        width=origin.model.width,
        input_type=input_tensor.dtype,
        input_shape=list(input_tensor.shape),
        input_numbers=_input(input_tensor),
        output_type=output_tensor.dtype,
        output_shape=list(output_tensor.shape),
        output_numbers=_output(output_tensor, spec),
        mask=_mask(spec, origin.model.resize),
        mediapipe=_mediapipe(mediapipe, artifact.path.name),
        kotlin=_kotlin(input_tensor, output_tensor, spec),
        golden=f"{height}x{width} pixels, so that the resize is checked, too"
        if (height, width) != (origin.model.height, origin.model.width)
        else "the network's own size, so that no resize is checked",
        tolerance="byte for byte"
        if not golden.tolerance
        else f"within {golden.tolerance:.3g} (float sums differ in their order)",
    )


def _compiled(artifact: Artifact, target: Target) -> str:
    if artifact.compiled is not None:
        return f"`{artifact.compiled.name}` is the same network, compiled for {target.title}: that one runs there."
    if target.compile is not None:
        return f"It is not compiled for {target.title} yet: `python cli.py convert --target {target.text}` does that."
    return "LiteRT runs it as it is."


def _about(origin: Origin) -> str:
    about = origin.about
    version = about.version or f"{origin.parent.sha256[:VERSION_DIGITS]} (the weights' sha256)"
    fields = [("Author", about.author), ("Licence", about.license), ("Version", version)]
    return " ".join(f"{name}: {escaped(text, LONGEST_NAME)}." for name, text in fields if text)


def _input(tensor: Tensor) -> str:
    if not tensor.scale:
        return f"`value = raw · {SCALE:.10g}` (1/255): reals from 0 to 1, no mean and no deviation"
    zero_point = tensor.zero_point[0]
    raw = "the raw pixel as it is" if zero_point == 0 else f"`raw {'-' if zero_point < 0 else '+'} {abs(zero_point)}`"
    return f"scale {tensor.scale[0]:.10g} (1/255), zero point {zero_point}: {raw}"


def _output(tensor: Tensor, spec: FileSpec) -> str:
    if spec.output == "mask":
        return "class ids"
    if not tensor.scale:
        return f"{spec.output}: one value for each class"
    return (
        f"{spec.output}: one value for each class; real = scale · (q − zero point) with scale {tensor.scale[0]:.10g},"
        f" zero point {tensor.zero_point[0]}. The argmax needs neither"
    )


def _mask(spec: FileSpec, resize: str) -> str:
    if spec.output == "mask":
        return _finished_mask(spec, resize)
    first = ""
    if spec.stride > 1:
        first = (
            f"The output has one sample for {spec.stride} pixels along each axis. Interpolate it bilinearly to the"
            f" network's size (`{resize}`), and from there"
        )
    return (
        (first or "Interpolate the output bilinearly")
        + " to the image's size with half-pixel centres, then take the argmax over the classes, the lowest on ties."
        " `segquant_mask.c` does it for int8 outputs in integers, mostly without computing anything."
    )


def _finished_mask(spec: FileSpec, resize: str) -> str:
    nearest = "each pixel takes the nearest sample (`segquant_expand`), with half-pixel centres"
    if spec.stride == 1:
        return f"The output is the mask at the network's size. In an image of another size {nearest}."
    return (
        f"The output is the mask with one sample for {spec.stride} pixels along each axis. Expand it to the network's"
        f" size first (`segquant_expand`, `{resize}`); from there to the image's size, {nearest}."
    )


def _mediapipe(why: str | None, file: str) -> str:
    """How an app uses it, with the lines of code; why it cannot, without them."""
    if why is not None:
        return f"MediaPipe's `ImageSegmenter` cannot use this file: {why}."
    return string.Template(WITH_MEDIAPIPE.read_text("utf-8")).substitute(file=file).rstrip("\n")


def _kotlin(input_tensor: Tensor, output_tensor: Tensor, spec: FileSpec) -> str:
    """LiteRT's calls for the types of this file's ends."""
    write = {"float32": "writeFloat(values)  // FloatArray: raw / 255f"}.get(
        input_tensor.dtype,
        f"writeInt8(values)  // ByteArray: {'raw' if input_tensor.dtype == 'uint8' else 'raw - 128'}",
    )
    read = {"float32": "readFloat()", "int32": "readInt()"}.get(output_tensor.dtype, "readInt8()")
    what = "class ids" if spec.output == "mask" else f"[{', '.join(map(str, output_tensor.shape[1:]))}]"
    return f"inputs[0].{write}\nmodel.run(inputs, outputs)\nval values = outputs[0].{read}  // {what}"
