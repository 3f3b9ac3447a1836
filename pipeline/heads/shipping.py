"""What ships beside an artifact whose mask is made outside the network: the C code, and a header with its sizes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from pipeline.core.artifact import Artifact
from pipeline.core.errors import ArtifactError
from pipeline.core.file_spec import EXACT, NEAREST
from pipeline.core.files import write_atomically
from pipeline.core.printable import LONGEST_NAME, printable, well_formed
from pipeline.core.recipe import Recipe
from pipeline.tflite.read import read

SOURCES = tuple(Path(__file__).with_name(name) for name in ("segquant_mask.c", "segquant_mask.h"))

HEADER = """\
/* {file}: what segquant_mask.h needs to know of it.
 *
 *     static uint8_t mask[SEGQUANT_IMAGE_HEIGHT * SEGQUANT_IMAGE_WIDTH];
 *     static int32_t scratch[SEGQUANT_MASK_SCRATCH(SEGQUANT_OUTPUT_WIDTH)];
 *     {call}
 *         mask, SEGQUANT_IMAGE_HEIGHT, SEGQUANT_IMAGE_WIDTH, SEGQUANT_IMAGE_WIDTH, SEGQUANT_RESIZE, scratch);
 *
 *     static const char *const names[SEGQUANT_CLASSES] = SEGQUANT_CLASS_NAMES;
 *     static const uint8_t colours[SEGQUANT_CLASSES][3] = SEGQUANT_CLASS_COLOURS;
 */
#define SEGQUANT_OUTPUT_HEIGHT {rows}
#define SEGQUANT_OUTPUT_WIDTH {columns}
#define SEGQUANT_CLASSES {classes}
#define SEGQUANT_IMAGE_HEIGHT {height}
#define SEGQUANT_IMAGE_WIDTH {width}
#define SEGQUANT_RESIZE {resize}
"""
NAMES = """\
/* UTF-8, in the order of the ids. */
#define SEGQUANT_CLASS_NAMES {{ \\
{names} \\
}}
"""
COLOURS = """\
/* Red, green, blue. */
#define SEGQUANT_CLASS_COLOURS {{ \\
{colours} \\
}}
"""
CALLS = {
    EXACT: "segquant_mask(output, SEGQUANT_OUTPUT_HEIGHT, SEGQUANT_OUTPUT_WIDTH, SEGQUANT_CLASSES,\n"
    " *         SEGQUANT_OUTPUT_WIDTH * SEGQUANT_CLASSES,",
    NEAREST: "segquant_expand(output, SEGQUANT_OUTPUT_HEIGHT, SEGQUANT_OUTPUT_WIDTH,",
}


def shipped(path: Path, data: bytes, recipe: Recipe) -> dict[str, bytes]:
    """Name → content of the C code and the header with the sizes, for an artifact whose recipe asks for it; else {}.

    ``path``, ``data``: of the artifact.
    """
    postprocess = recipe.file.postprocess
    if postprocess is None:
        return {}
    graph = read(data, str(path))
    if len(shape := graph.output_tensor.shape) < 3:
        raise ArtifactError(f"{path} gives {list(shape)}, which is no output of a segmentation: convert again.")
    rows, columns = shape[1:3]
    origin = recipe.known_origin
    model = origin.model
    header = HEADER.format(
        file=c_comment(path.name),
        call=CALLS[postprocess],
        rows=rows,
        columns=columns,
        classes=model.num_classes,
        height=model.height,
        width=model.width,
        resize=f"SEGQUANT_{model.resize.upper()}",
    ) + class_macros(origin.classes, origin.colours)
    return {**{source.name: source.read_bytes() for source in SOURCES}, path.with_suffix(".h").name: header.encode()}


def ship(artifact: Artifact) -> None:
    """Writes beside an existing artifact what ships with it, where that is missing or of an earlier version."""
    for name, content in shipped(artifact.path, artifact.path.read_bytes(), artifact.recipe).items():
        file = artifact.path.with_name(name)
        if not file.is_file() or file.read_bytes() != content:
            write_atomically(file, content)


def class_macros(classes: Sequence[str], colours: Sequence[tuple[int, int, int]]) -> str:
    """Names and colours of the classes as initializers for C; no colours where not each class has one."""
    names = NAMES.format(names=_lines(map(c_string, classes)))
    if len(colours) != len(classes):
        return names
    return names + COLOURS.format(colours=_lines(f"{{{r}, {g}, {b}}}" for r, g, b in colours))


def _lines(values: Iterable[str]) -> str:
    return ", \\\n".join(f"    {value}" for value in values)


def c_string(text: str) -> str:
    """A C string literal of the text in UTF-8: all but plain ASCII in octal, so that no compiler reads it otherwise."""
    data = well_formed(text).encode()
    plain = (chr(byte) if 32 <= byte < 127 and chr(byte) not in '\\"?' else f"\\{byte:03o}" for byte in data)
    return f'"{"".join(plain)}"'


def c_comment(text: str) -> str:
    """The text for a comment in C, which it does not end."""
    shown = printable(text, LONGEST_NAME)
    return shown.replace("*/", "*\u2215").replace("/*", "\u2215*").replace("??/", "??\u2215")
