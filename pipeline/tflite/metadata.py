"""TFLite metadata: what Android Studio, Netron and MediaPipe's tasks read of a file without our recipe.

A flatbuffer of its own (metadata_schema.fbs, file identifier M001) in the model's metadata, and behind the model a zip
archive of the files that it names: the labels and their colours. It is built here by the schema's numbers of fields, so
that nothing but `flatbuffers` is needed. Sources: google-ai-edge/mediapipe, mediapipe/tasks/metadata/*.fbs and
mediapipe/tasks/cc/vision/image_segmenter/image_segmenter_graph.cc.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import zipfile
from collections.abc import Mapping, Sequence

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from pipeline.core.graph import Graph
from pipeline.core.preprocessing import SCALE
from pipeline.core.printable import LONGEST_NAME, printable, well_formed
from pipeline.core.recipe import Origin, Recipe
from pipeline.tflite.read import packed, unpacked_model

KEY = "TFLITE_METADATA"
LABELS, COLOURS = "labels.txt", "colours.csv"
SEGMENTER = "SEGMENTER_METADATA"
PARSER_VERSION, SEGMENTER_PARSER_VERSION = "1.5.0", "1.0.0"
"""The schemas' versions in which the fields written here are known; custom metadata came with 1.5.0."""
DESCRIPTIONS, TENSOR_AXIS_LABELS = 1, 2  # AssociatedFileType
RGB, IMAGE_PROPERTIES, FEATURE_PROPERTIES, NORMALIZATION_OPTIONS = 1, 2, 1, 1  # ColorSpaceType and union types
NONE, SOFTMAX = 0, 2  # Activation of image_segmenter_metadata_schema.fbs
ALIGNED_BYTES = 16
"""Of custom metadata, by force_align in the schema."""
MASK = "The mask is the argmax over the last axis, the lowest index on ties."
"""Of logits and scores, which alone have metadata."""
VERSION_DIGITS = 12
"""Of the weights' sha256, which stand for a version where nobody gave one."""


@dataclasses.dataclass(frozen=True)
class Byte:
    """A number of one byte: an enumeration, or which table a union holds."""

    number: int


@dataclasses.dataclass(frozen=True)
class Uint:
    """A number of four bytes."""

    number: int


@dataclasses.dataclass(frozen=True)
class Table:
    """A flatbuffer's table.

    Attributes:
      fields: number of each field in the schema → its value; bytes are a vector aligned to 16, floats one of float32.
    """

    fields: Mapping[int, Byte | Uint | str | bytes | tuple[float, ...] | Table | Sequence[Table]]


def refusal(graph: Graph, recipe: Recipe) -> str | None:
    """Why MediaPipe's ImageSegmenter would refuse the file or read its output wrongly; None where it reads it rightly.

    It takes uint8 or float32 images and makes the mask itself, from one value for each class.
    """
    if recipe.origin is None:
        return "the file was made in memory, and its recipe knows no classes"
    spec, model = recipe.file, recipe.origin.model
    if spec.io == "int8":
        return "it takes uint8 or float32 images, and this file's input is int8"
    if spec.output == "mask":
        return "it takes the argmax itself and reads a finished mask wrongly; --output logits is what it needs"
    if spec.stride > 1 and model.resize == "half_pixel":
        return (
            f"it places the samples of an output by its corners, and this network's lie at half pixels: the mask would"
            f" shift by up to {spec.stride / 2:g} pixels; --output-stride 1 leaves them in place"
        )
    if len(graph.inputs) != 1 or len(graph.outputs) != 1 or graph.subgraphs != 1:
        return "it takes one graph with one input and one output"
    input_tensor, output_tensor = graph.input_tensor, graph.output_tensor
    if input_tensor.shape != (1, model.height, model.width, 3) or input_tensor.dtype != spec.io:
        return (
            "it takes images [1, height, width, 3], and this file's input is"
            f" {input_tensor.dtype} {list(input_tensor.shape)}"
        )
    if len(output_tensor.shape) != 4 or output_tensor.shape[3] != len(recipe.origin.classes):
        return f"it takes one value for each class, and this file gives {list(output_tensor.shape)}"
    return None


def with_metadata(data: bytes, recipe: Recipe) -> bytes:
    """The same model with its metadata and the files that it names; only for a file without ``refusal``."""
    origin = recipe.known_origin
    model = unpacked_model(data)
    buffer, entry = schema.BufferT(), schema.MetadataT()
    buffer.data = np.frombuffer(metadata_of(recipe), np.uint8)
    entry.name, entry.buffer = KEY, len(model.buffers)
    model.buffers.append(buffer)
    model.metadata = [old for old in model.metadata or [] if old.name not in (KEY, KEY.encode())] + [entry]
    return with_files(packed(model, len(data)), files_of(origin))


def files_of(origin: Origin) -> dict[str, str]:
    """What the metadata name: the labels, and the colours where each class has one."""
    coloured = len(origin.colours) == len(origin.classes)
    return {LABELS: labels(origin)} | ({COLOURS: colours(origin)} if coloured else {})


def labels(origin: Origin) -> str:
    """A class a line, in the order of the ids."""
    return "".join(f"{printable(name, LONGEST_NAME)}\n" for name in origin.classes)


def colours(origin: Origin) -> str:
    """CSV: id, class, its colour as #rrggbb."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(("id", "class", "colour"))
    for number, (name, colour) in enumerate(zip(origin.classes, origin.colours, strict=True)):
        rows.writerow((number, printable(name, LONGEST_NAME), "#{:02x}{:02x}{:02x}".format(*colour)))
    return text.getvalue()


def with_files(data: bytes, files: Mapping[str, str]) -> bytes:
    """``data`` and behind it a zip archive of text files, stored as they are: the same files give the same bytes.

    A flatbuffer is read from its front and an archive from its end, so that each reader finds its own.
    """
    content = io.BytesIO(data)
    content.seek(0, io.SEEK_END)
    with zipfile.ZipFile(content, "w", zipfile.ZIP_STORED) as archive:
        for name, text in files.items():
            archive.writestr(zipfile.ZipInfo(name), text)  # dated 1980, as ZipInfo is where nobody says
    return content.getvalue()


def files_in(data: bytes) -> dict[str, str]:
    """The files behind a model; none where nothing lies behind it."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return {name: archive.read(name).decode("utf-8", "replace") for name in archive.namelist()}
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError):
        return {}


def metadata_of(recipe: Recipe) -> bytes:
    """The table ModelMetadata as a flatbuffer."""
    origin, spec = recipe.known_origin, recipe.file
    model, about = origin.model, origin.about
    how = "int8" if spec.weights == "int8" else f"{spec.weights} weights"
    kind = f"{how}, {origin.how}" if origin.method != "float" else how
    fields: dict[int, str | Sequence[Table]] = {
        0: f"{model.network} {model.size}, {len(origin.classes)} classes",
        1: f"Semantic segmentation ({kind}), made by segquant for target {recipe.target}; trained on"
        f" {printable(origin.data, LONGEST_NAME)}. {MASK}",
        2: about.version or origin.parent.sha256[:VERSION_DIGITS],
        3: [_subgraph(recipe)],
        7: PARSER_VERSION,
    }
    if COLOURS in files_of(origin):
        fields[6] = [Table({0: COLOURS, 1: "id, class and colour of each class", 2: Byte(DESCRIPTIONS)})]
    fields |= {at: text for at, text in ((4, about.author), (5, about.license)) if text}
    return written(Table(fields), b"M001")


def _subgraph(recipe: Recipe) -> Table:
    origin, spec = recipe.known_origin, recipe.file
    activation = NONE if spec.output == "scores" else SOFTMAX
    options = written(Table({0: Byte(activation), 1: SEGMENTER_PARSER_VERSION}), b"V001")
    return Table(
        {0: origin.model.network, 2: [_image(origin)], 3: [_output(recipe)], 9: [Table({0: SEGMENTER, 1: options})]}
    )


def _image(origin: Origin) -> Table:
    """The input. real = (raw − mean) / std, as the metadata count, is raw / 255, and the tensor's own quantization of
    [0, 1] gives the raw pixel back where it takes integers."""
    model = origin.model
    size = Table({0: Uint(model.width), 1: Uint(model.height)})
    content = Table({0: Byte(IMAGE_PROPERTIES), 1: Table({0: Byte(RGB), 1: size})})
    normalization = Table({0: Byte(NORMALIZATION_OPTIONS), 1: Table({0: (0.0,), 1: (1 / SCALE,)})})
    return Table(
        {
            0: "image",
            1: f"RGB, resized to {model.size} (height x width) without keeping its proportions, values from 0 to 1",
            3: content,
            4: [normalization],
            5: Table({0: (1.0,), 1: (0.0,)}),
        }
    )


def _output(recipe: Recipe) -> Table:
    spec = recipe.file
    where = "" if spec.stride == 1 else f", one sample for {spec.stride} pixels along each axis"
    return Table(
        {
            0: spec.output,
            1: f"one value for each class, in the order of {LABELS}{where}. {MASK}",
            3: Table({0: Byte(FEATURE_PROPERTIES), 1: Table({})}),
            6: [Table({0: LABELS, 1: "the name of each class", 2: Byte(TENSOR_AXIS_LABELS)})],
        }
    )


def written(table: Table, identifier: bytes) -> bytes:
    """The table as a flatbuffer."""
    builder = flatbuffers.Builder(4096)
    builder.Finish(_put(builder, table), identifier)
    return bytes(builder.Output())


def _put(builder: flatbuffers.Builder, table: Table) -> int:
    """Writes a table behind what it points to; returns its place."""
    places = {at: _pointed(builder, value) for at, value in table.fields.items() if not isinstance(value, Byte | Uint)}
    builder.StartObject(max(table.fields, default=-1) + 1)
    for at, value in table.fields.items():
        if isinstance(value, Byte):
            builder.PrependUint8Slot(at, value.number, 0)
        elif isinstance(value, Uint):
            builder.PrependUint32Slot(at, value.number, 0)
        else:
            builder.PrependUOffsetTRelativeSlot(at, places[at], 0)
    return int(builder.EndObject())


def _pointed(builder: flatbuffers.Builder, value: str | bytes | tuple[float, ...] | Table | Sequence[Table]) -> int:
    if isinstance(value, Table):
        return _put(builder, value)
    if isinstance(value, str):
        return int(builder.CreateString(well_formed(value)))
    if isinstance(value, bytes):
        builder.StartVector(1, len(value), ALIGNED_BYTES)
        for byte in reversed(value):
            builder.PrependByte(byte)
        return int(builder.EndVector())
    places = [_put(builder, table) for table in value if isinstance(table, Table)]
    if not places:
        return int(builder.CreateNumpyVector(np.asarray(value, np.float32)))
    builder.StartVector(4, len(places), 4)
    for place in reversed(places):
        builder.PrependUOffsetTRelative(place)
    return int(builder.EndVector())
