"""Segments images with the .tflite file of this folder; without arguments it checks itself against the golden files.

pip install ai-edge-litert numpy pillow
python segment.py                       the golden check: exit code 0 where it passes
python segment.py photo.jpg mask.png    the mask of a photo, as a palette PNG whose values are the class ids
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from PIL import Image, ImageOps

HOME = Path(__file__).resolve().parent.parent
NETWORK: dict[str, Any] = json.loads((HOME / "network.json").read_text("utf-8"))
BAND_ROWS = 32
FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "TIFF")
"""Whatever a file's name: Pillow gives some others to programs outside, such as Ghostscript."""


def read_image(path: Path) -> np.ndarray:
    """uint8 [height, width, 3], RGB, turned as its EXIF data say."""
    return np.asarray(ImageOps.exif_transpose(Image.open(path, formats=FORMATS)).convert("RGB"))


def to_input(image: np.ndarray) -> np.ndarray:
    """Resized to the network's size, whatever the proportions; real = raw / 255, quantized as the input is."""
    network_input = NETWORK["input"]
    height, width = network_input["height"], network_input["width"]
    if image.shape[:2] != (height, width):
        image = np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))
    if network_input["dtype"] == "float32":
        return image[None].astype(np.float32) * np.float32(1 / 255)
    return (image[None].astype(np.int16) + network_input["zero_point"]).astype(network_input["dtype"])


def infer(tensor: np.ndarray) -> np.ndarray:
    interpreter = Interpreter(str(HOME / NETWORK["file"]))
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], tensor)
    interpreter.invoke()
    return np.asarray(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]))


def axis(samples: int, pixels: int, resize: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """Along one axis: the sample before each pixel, the one behind it, and the latter's share as a fraction."""
    pixel = np.arange(pixels)
    if resize == "half_pixel":
        den = 2 * pixels
        place = np.clip((2 * pixel + 1) * samples - pixels, 0, (samples - 1) * den)
    else:
        place, den = pixel * (samples - 1 if pixels > 1 else 0), max(1, pixels - 1)
    divisor = math.gcd(den, *place.tolist())
    place, den = place // divisor, den // divisor
    low = place // den
    return low, np.minimum(low + 1, samples - 1), place - low * den, den


def exact_mask(output: np.ndarray, height: int, width: int, resize: str) -> np.ndarray:
    """int8 [h, w, classes] → uint8 [height, width]: bilinear in integers, then argmax, the lowest class on ties."""
    top, bottom, below, rows = axis(output.shape[0], height, resize)
    left, right, beside, columns = axis(output.shape[1], width, resize)
    mask = np.empty((height, width), np.uint8)
    for begin in range(0, height, BAND_ROWS):
        band = slice(begin, begin + BAND_ROWS)
        share = below[band, None, None]
        between = output[top[band]].astype(np.int64) * (rows - share) + output[bottom[band]].astype(np.int64) * share
        mask[band] = (between[:, left] * (columns - beside[:, None]) + between[:, right] * beside[:, None]).argmax(-1)
    return mask


def interpolated(values: np.ndarray, at: int, size: int, resize: str, band: slice = slice(None)) -> np.ndarray:
    """Bilinear along one axis, in float32; ``band``: a part of the result."""
    if values.shape[at] == size:
        return values[(slice(None),) * at + (band,)]
    low, high, share, den = axis(values.shape[at], size, resize)
    low, high, share = low[band], high[band], share[band]
    part = (share / den).astype(np.float32).reshape([-1 if i == at else 1 for i in range(values.ndim)])
    return (
        np.take(values, low, at).astype(np.float32) * (1 - part) + np.take(values, high, at).astype(np.float32) * part
    )


def to_mask(output: np.ndarray, height: int, width: int) -> np.ndarray:
    """The file's output → uint8 [height, width] of class ids."""
    output, network = output[0], NETWORK["input"]
    steps = [(height, width, "half_pixel")]
    if output.shape[:2] != (network["height"], network["width"]):
        steps.insert(0, (network["height"], network["width"], NETWORK["output"]["resize"]))
    if output.ndim == 2:  # a finished mask: each pixel takes its nearest sample
        for rows, columns, resize in steps:
            for at, size in enumerate((rows, columns)):
                low, high, share, den = axis(output.shape[at], size, resize)
                output = np.take(output, np.where(2 * share >= den, high, low), at)
        return output.astype(np.uint8)
    if output.dtype == np.int8 and steps[0][:2] == (height, width) != output.shape[:2]:
        return exact_mask(output, *steps[0])
    for rows, columns, resize in steps[:-1]:
        output = interpolated(interpolated(output, 0, rows, resize), 1, columns, resize)
    mask = np.empty((height, width), np.uint8)
    for begin in range(0, height, BAND_ROWS):  # the whole would not fit the memory for a large photo
        band = slice(begin, min(begin + BAND_ROWS, height))
        between = interpolated(output, 0, height, "half_pixel", band)
        mask[band] = interpolated(between, 1, width, "half_pixel").argmax(-1)
    return mask


def save_mask(mask: np.ndarray, path: Path) -> None:
    picture = Image.fromarray(mask)
    picture.putpalette([value for colour in NETWORK["colours"] for value in colour])
    picture.save(path)


def check() -> bool:
    """Whether the file gives the golden output, and this program the golden mask of the golden image."""
    golden = HOME / "golden"
    image = read_image(golden / "image.png")
    output = infer(to_input(image))
    expected = np.fromfile(golden / "output.bin", output.dtype).reshape(output.shape)
    mask, expected_mask = to_mask(output, *image.shape[:2]), np.asarray(Image.open(golden / "mask.png"))
    same = float((mask == expected_mask).mean())
    if output.dtype == np.float32:
        difference, allowed = float(np.abs(output - expected).max()), NETWORK["golden"]["tolerance"]
        passed = difference <= allowed and same >= NETWORK["golden"]["least_equal_pixels"]
        print(f"golden output: differs by at most {difference:.3g}, {allowed:.3g} is allowed")
    else:
        equal = int((output == expected).sum())
        passed = equal == output.size and same == 1
        print(f"golden output: {equal} of {output.size} values are equal")
    print(f"golden mask: {100 * same:.4f} % of the pixels are equal")
    print("PASSED" if passed else "FAILED")
    return passed


def main() -> int:
    if len(sys.argv) == 1:
        return 0 if check() else 1
    if len(sys.argv) != 3:
        print(__doc__)
        return 2
    image = read_image(Path(sys.argv[1]))
    mask = to_mask(infer(to_input(image)), *image.shape[:2])
    save_mask(mask, Path(sys.argv[2]))
    shares = np.bincount(mask.ravel(), minlength=len(NETWORK["classes"])) / mask.size
    for name, share in zip(NETWORK["classes"], shares, strict=True):
        print(f"{100 * share:5.1f} %  {name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
