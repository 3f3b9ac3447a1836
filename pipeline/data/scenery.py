"""Paints the objects of a procedural road scene; ``synthetic`` decides where they stand and in which light.

Sizes on the ground are in metres, sizes in the image in pixels; what is painted later is in front.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import numpy as np
from PIL import Image

SKY, BUILDING, ROAD, PAVEMENT, VEGETATION, CAR, POLE, PEDESTRIAN, SIGN = range(9)
"""Train ids."""

HEIGHT, WIDTH = 192, 256
FARTHEST_M = 45.0

POLE_MIN_PX, SIGN_MIN_PX, PERSON_MIN_PX, CAR_MIN_PX = 9.0, 24.0, 20.0, 24.0
"""Minimum widths: narrower objects vanish in logits of stride 8, so scores would measure that stride only."""

ROWS = np.arange(HEIGHT, dtype=np.float32)[:, None] + np.float32(0.5)
COLUMNS = np.arange(WIDTH, dtype=np.float32)[None, :] + np.float32(0.5)


@dataclasses.dataclass(frozen=True)
class Camera:
    """Maps the road's metres to pixels.

    Attributes:
      focal_px, height_m: pinhole focal length and height over the ground.
      horizon_px, tilt: row of the horizon in the middle column, and its slope.
      vanishing_px: column towards which the road runs.
      bend: sideways shift in metres per squared metre of distance.
    """

    focal_px: float
    height_m: float
    horizon_px: float
    tilt: float
    vanishing_px: float
    bend: float

    def column(self, side_m: float, z_m: float) -> float:
        return self.vanishing_px + self.focal_px * (side_m + self.bend * z_m * z_m) / z_m

    def row(self, up_m: float, z_m: float, column: float) -> float:
        return self.horizon_px + self.tilt * (column - WIDTH / 2) + self.focal_px * (self.height_m - up_m) / z_m


class Canvas:
    """The image while it is painted, and the noise and haze that all objects share.

    Attributes:
      pixels: float32 [3, HEIGHT, WIDTH] in about [0, 1]; channels first, as masked copies are then ten times faster.
      label: uint8 [HEIGHT, WIDTH].
      grain, leaves, clouds: float32 [HEIGHT, WIDTH], noise around 0 of fine, medium and coarse grain.
      haze_colour, haze_per_m: float32 [3], the colour that objects fade into with distance, and how fast.
    """

    def __init__(self, rng: np.random.Generator, camera: Camera) -> None:
        self.rng = rng
        self.camera = camera
        self.pixels = np.zeros((3, HEIGHT, WIDTH), np.float32)
        self.label = np.zeros((HEIGHT, WIDTH), np.uint8)
        self.grain = np.float32(3.4) * (rng.random((HEIGHT, WIDTH), np.float32) - np.float32(0.5))
        self.leaves = smooth_noise(rng, 3) + np.float32(0.6) * smooth_noise(rng, 7)
        self.clouds = smooth_noise(rng, 48) + np.float32(0.4) * smooth_noise(rng, 16)
        self.haze_colour = np.float32(rng.uniform(0.45, 0.9)) * tint(rng, 0.12)
        self.haze_per_m = float(rng.uniform(0, 0.02))

    def box(self, left: float, top: float, right: float, bottom: float) -> Box | None:
        """The part of the image in a rectangle given in pixels; None where that part is empty."""
        rows = slice(max(0, math.floor(top)), min(HEIGHT, math.ceil(bottom)))
        columns = slice(max(0, math.floor(left)), min(WIDTH, math.ceil(right)))
        if rows.start >= rows.stop or columns.start >= columns.stop:
            return None
        across = (COLUMNS[:, columns] - np.float32(left)) / np.float32(right - left)
        down = (ROWS[rows] - np.float32(top)) / np.float32(bottom - top)
        return Box(rows, columns, across, down)

    def paint(
        self, box: Box, mask: np.ndarray, colour: np.ndarray, shade: np.ndarray | float, klass: int, z_m: float
    ) -> None:
        """Paints ``colour`` [3] times ``shade`` [h, w] where ``mask`` [h, w] is set, and labels it."""
        visibility = np.float32(math.exp(-self.haze_per_m * z_m))
        values = planes(colour * visibility) * np.float32(shade) + planes(self.haze_colour * (1 - visibility))
        np.copyto(self.pixels[box.at_planes], values, where=mask)
        np.copyto(self.label[box.at], np.uint8(klass), where=mask)

    def darken(self, box: Box | None, mask: Callable[[Box], np.ndarray], factor: float) -> None:
        if box is not None:
            self.pixels[box.at_planes] *= np.where(mask(box), np.float32(factor), np.float32(1))


@dataclasses.dataclass(frozen=True)
class Box:
    """A rectangle of the image; ``across`` [1, w] and ``down`` [h, 1] run from 0 to 1 over the object in it."""

    rows: slice
    columns: slice
    across: np.ndarray
    down: np.ndarray

    @property
    def at(self) -> tuple[slice, slice]:
        return self.rows, self.columns

    @property
    def at_planes(self) -> tuple[slice, slice, slice]:
        return slice(None), self.rows, self.columns

    @property
    def all_pixels(self) -> np.ndarray:
        return np.ones((len(self.down), self.across.shape[1]), bool)

    def disc(self, x: float, y: float, half_width: float, half_height: float) -> np.ndarray:
        return ((self.across - x) / half_width) ** 2 + ((self.down - y) / half_height) ** 2 < 1

    def rectangle(self, left: float, top: float, right: float, bottom: float) -> np.ndarray:
        return (self.across >= left) & (self.across < right) & (self.down >= top) & (self.down < bottom)


def planes(colour: np.ndarray) -> np.ndarray:
    """float32 [3] → [3, 1, 1]."""
    return colour[:, None, None]


def fraction(x: np.ndarray) -> np.ndarray:
    """x modulo 1; NumPy's own operator for it takes twenty times longer."""
    part: np.ndarray = x - np.floor(x)
    return part


def smooth_noise(rng: np.random.Generator, grain_px: int) -> np.ndarray:
    """float32 [HEIGHT, WIDTH] in about [−1, 1] that varies over ``grain_px`` pixels."""
    coarse = rng.uniform(-1, 1, (HEIGHT // grain_px + 2, WIDTH // grain_px + 2)).astype(np.float32)
    return np.asarray(Image.fromarray(coarse).resize((WIDTH, HEIGHT), Image.Resampling.BILINEAR))


def tint(rng: np.random.Generator, strength: float) -> np.ndarray:
    """float32 [3] around 1."""
    return (1 + strength * rng.uniform(-1, 1, 3)).astype(np.float32)


def any_colour(rng: np.random.Generator, darkest: float = 0.14, brightest: float = 0.8) -> np.ndarray:
    """float32 [3], from one distribution for all man-made objects; two thirds of them are near grey."""
    strength = rng.uniform(0.0, 0.15) if rng.random() < 0.65 else rng.uniform(0.15, 0.55)
    return np.float32(rng.uniform(darkest, brightest)) * tint(rng, strength)


def leaf_colour(rng: np.random.Generator) -> np.ndarray:
    """float32 [3]: green, yellow or brown."""
    hue = np.array([rng.uniform(0.5, 1.0), rng.uniform(0.95, 1.15), rng.uniform(0.35, 0.65)], np.float32)
    return np.float32(rng.uniform(0.22, 0.6)) * hue


def vivid_colour(rng: np.random.Generator) -> np.ndarray:
    """float32 [3]: for plates and clothes; one of the three channels is low, one is high."""
    return rng.permutation(
        np.array([rng.uniform(0.6, 0.95), rng.uniform(0.1, 0.9), rng.uniform(0.05, 0.3)], np.float32)
    )


def facade(canvas: Canvas, along_m: np.ndarray, up_m: np.ndarray, style: np.ndarray, box: Box) -> np.ndarray:
    """float32 [h, w]: brightness of a wall with windows at metres ``along_m`` and ``up_m``."""
    period_m, storey_m, wide, high, window, ledge = style
    x, y = fraction(along_m / period_m), fraction(up_m / storey_m)
    shade = 1 + np.float32(0.05) * canvas.grain[box.at] + np.float32(0.08) * canvas.clouds[box.at]
    shade = np.where((x < wide) & (y > 0.3) & (y < 0.3 + high) & (up_m > 0.8), np.float32(window), shade)
    return np.where(y < 0.08, shade * np.float32(ledge), shade)


def paint_building(
    canvas: Canvas, left_m: float, right_m: float, near_m: float, far_m: float, height_m: float, inner: int
) -> None:
    """A block of houses: the wall along the road on its ``inner`` side (−1 left, 1 right) and its front."""
    rng, camera = canvas.rng, canvas.camera
    colour = any_colour(rng)
    window = rng.uniform(0.25, 0.7) if rng.random() < 0.7 else rng.uniform(1.3, 1.8)
    style = np.array(
        [
            rng.uniform(1.8, 3.2),
            rng.uniform(2.6, 3.6),
            rng.uniform(0.4, 0.65),
            rng.uniform(0.4, 0.6),
            window,
            rng.choice([0.75, 1.0, 1.25]),
        ],
        np.float32,
    )
    light = {"wall": np.float32(rng.uniform(0.6, 1.15)), "front": np.float32(rng.uniform(0.6, 1.15))}

    inner_m = left_m if inner < 0 else right_m
    x_near, x_far = camera.column(inner_m, near_m), camera.column(inner_m, far_m)
    if abs(x_near - x_far) > 0.5:
        inverse_z = np.float32(1 / near_m) + (COLUMNS - np.float32(x_near)) * np.float32(
            (1 / far_m - 1 / near_m) / (x_far - x_near)
        )
        ends = min(x_near, x_far), max(x_near, x_far)
        _paint_wall(canvas, ends, inverse_z, None, height_m, colour * light["wall"], style)
    x_left, x_right = camera.column(left_m, near_m), camera.column(right_m, near_m)
    flat = np.full((1, WIDTH), 1 / near_m, np.float32)
    along = (COLUMNS - np.float32(x_left)) * np.float32(near_m / camera.focal_px)
    _paint_wall(canvas, (x_left, x_right), flat, along, height_m, colour * light["front"], style)


def _paint_wall(
    canvas: Canvas,
    ends_px: tuple[float, float],
    inverse_z: np.ndarray,
    along_m: np.ndarray | None,
    height_m: float,
    colour: np.ndarray,
    style: np.ndarray,
) -> None:
    """A wall between two columns; ``inverse_z`` [1, WIDTH] is 1 / its distance, ``along_m`` None = into depth."""
    camera = canvas.camera
    inverse_z = np.maximum(inverse_z, np.float32(1e-3))
    ends = [(1 / float(inverse_z[0, min(WIDTH - 1, max(0, int(x)))]), min(WIDTH, max(0.0, x))) for x in ends_px]
    top = min(camera.row(height_m, z, x) for z, x in ends)
    base = max(camera.row(0, z, x) for z, x in ends)
    box = canvas.box(ends_px[0], top - 2, ends_px[1], base + 2)
    if box is None:
        return
    inverse = inverse_z[:, box.columns]
    horizon = np.float32(camera.horizon_px) + np.float32(camera.tilt) * (COLUMNS[:, box.columns] - WIDTH / 2)
    up_m = np.float32(camera.height_m) - (ROWS[box.rows] - horizon) / (np.float32(camera.focal_px) * inverse)
    along = 1 / inverse if along_m is None else along_m[:, box.columns]
    mask = (up_m > 0) & (up_m < height_m)
    canvas.paint(box, mask, colour, facade(canvas, along, up_m, style, box), BUILDING, float((1 / inverse).mean()))


def paint_foliage(canvas: Canvas, side_m: float, z_m: float, width_m: float, height_m: float, trunk: bool) -> None:
    """A tree, or a bush when it has no trunk: overlapping discs with a ragged edge."""
    rng, camera = canvas.rng, canvas.camera
    x = camera.column(side_m, z_m)
    base, top = camera.row(0, z_m, x), camera.row(height_m, z_m, x)
    half = camera.focal_px * width_m / z_m / 2
    shadow = canvas.box(x - half, base - half * 0.12, x + half * 1.3, base + half * 0.18)
    canvas.darken(shadow, lambda b: b.disc(0.5, 0.5, 0.5, 0.5), 0.6)
    colour = leaf_colour(rng)
    box = canvas.box(x - half, top, x + half, base)
    if box is None:
        return
    if trunk:
        thick = max(0.07, POLE_MIN_PX / (5 * half))
        bark = any_colour(rng, 0.12, 0.4)
        mask = box.rectangle(0.5 - thick, 0.5, 0.5 + thick, 1)
        canvas.paint(box, mask, bark, 1 + np.float32(0.2) * canvas.grain[box.at], VEGETATION, z_m)
    leaves = canvas.leaves[box.at]
    crown = 0.68 if trunk else 1.0
    mask = np.zeros(leaves.shape, bool)
    for _ in range(5):
        x0, y0 = rng.uniform(0.28, 0.72), crown * rng.uniform(0.3, 0.72)
        size = rng.uniform(0.24, 0.34)
        distance = ((box.across - x0) / size) ** 2 + ((box.down - y0) / (crown * size * 1.05)) ** 2
        mask |= distance + np.float32(0.25) * leaves < 1
    if not trunk:
        mask |= box.rectangle(0.12, 0.55, 0.88, 1)
    shade = 1.15 - np.float32(0.4) * box.down + np.float32(0.42) * leaves + np.float32(0.08) * canvas.grain[box.at]
    canvas.paint(box, mask, colour, np.maximum(shade, np.float32(0.15)), VEGETATION, z_m)


def paint_car(canvas: Canvas, side_m: float, z_m: float) -> None:
    """A car from behind or in front (half of them), or from its side; some are vans."""
    rng, camera = canvas.rng, canvas.camera
    across_road = rng.random() < 0.3
    van = rng.random() < 0.25
    pixels_per_m = max(camera.focal_px / z_m, CAR_MIN_PX / 1.8)
    width = (4.2 if across_road else 1.85) * pixels_per_m
    height = (2.2 if van else 1.55) * pixels_per_m
    x = camera.column(side_m, z_m)
    base = camera.row(0, z_m, x)
    shadow = canvas.box(x - width * 0.56, base - height * 0.16, x + width * 0.56, base + height * 0.1)
    canvas.darken(shadow, lambda b: b.disc(0.5, 0.5, 0.5, 0.5), 0.4)
    box = canvas.box(x - width / 2, base - height, x + width / 2, base)
    if box is None:
        return
    colour = any_colour(rng)
    centred = np.abs(box.across - 0.5)
    roof, flank = (0.44, 0.1) if van else (0.3, 0.3)
    waist = 0.5 if van else 0.44
    cabin = (box.down > 0.02) & (box.down < waist + 0.05) & (centred < roof + flank * box.down / waist * 0.6)
    body = (box.down > waist) & (box.down < 0.9) & (centred < 0.5)
    pane = (box.down > 0.08) & (box.down < waist - 0.03) & (centred < roof - 0.06 + flank * box.down / waist * 0.6)
    shade = np.where(box.down > 0.8, np.float32(0.7), np.float32(1.1) - np.float32(0.25) * box.down)
    shade = np.where(np.abs(box.down - waist) < 0.03, np.float32(1.3), shade)
    glass = float(rng.uniform(0.12, 0.4))
    if across_road:
        pane &= (centred > 0.03) | (box.down > waist)
        wheels = box.disc(0.2, 0.84, 0.105, 0.16) | box.disc(0.8, 0.84, 0.105, 0.16)
    else:
        wheels = (box.down > 0.78) & (box.down <= 1) & (centred > 0.27) & (centred < 0.47)
        lamps = (np.abs(box.down - 0.6) < 0.07) & (centred > 0.32) & (centred < 0.47)
        plate = (np.abs(box.down - 0.72) < 0.05) & (centred < 0.14)
    canvas.paint(box, cabin | body, colour, shade, CAR, z_m)
    canvas.paint(box, pane & cabin, tint(rng, 0.1), glass, CAR, z_m)
    canvas.paint(box, wheels, np.full(3, 0.07, np.float32), 1.0, CAR, z_m)
    if not across_road:
        rear = rng.random() < 0.5
        canvas.paint(box, lamps, np.array([0.85, 0.12, 0.1] if rear else [0.95, 0.93, 0.8], np.float32), 1.0, CAR, z_m)
        canvas.paint(box, plate, np.array([0.85, 0.85, 0.7], np.float32), 1.0, CAR, z_m)


def paint_pole(canvas: Canvas, side_m: float, z_m: float, height_m: float, colour: np.ndarray, arm: int = 0) -> None:
    """A post; with an ``arm`` towards −1 left or 1 right it is a street lamp."""
    camera = canvas.camera
    x = camera.column(side_m, z_m)
    half = max(POLE_MIN_PX, 0.5 * camera.focal_px / z_m) / 2
    base, top = camera.row(0, z_m, x), camera.row(height_m, z_m, x)
    box = canvas.box(x - half, top, x + half, base)
    if box is not None:
        # A bright stripe along a darker cylinder: the one texture that all poles share.
        canvas.paint(box, box.all_pixels, colour, 1.35 - np.float32(1.4) * np.abs(box.across - 0.35), POLE, z_m)
    if arm:
        reach = arm * 1.6 * camera.focal_px / z_m
        box = canvas.box(min(x, x + reach), top - half, max(x, x + reach), top + half)
        if box is not None:
            canvas.paint(box, box.all_pixels, colour, 1.35 - np.float32(1.4) * np.abs(box.down - 0.35), POLE, z_m)


def paint_sign(canvas: Canvas, side_m: float, z_m: float) -> None:
    """A round, square or triangular plate with a border and a bar, on a post."""
    rng, camera = canvas.rng, canvas.camera
    up_m = float(rng.uniform(2.2, 3.0))
    paint_pole(canvas, side_m, z_m, up_m, any_colour(rng))
    x = camera.column(side_m, z_m)
    half = max(SIGN_MIN_PX, 1.4 * camera.focal_px / z_m) / 2
    y = camera.row(up_m, z_m, x)
    box = canvas.box(x - half, y - half, x + half, y + half)
    if box is None:
        return
    plate, border, bar = vivid_colour(rng), any_colour(rng, 0.12, 0.4), any_colour(rng, 0.12, 0.4)
    shape = rng.integers(3)
    if shape == 0:
        radius = np.hypot(box.across - 0.5, box.down - 0.5) * 2
    elif shape == 1:
        radius = np.maximum(np.abs(box.across - 0.5), np.abs(box.down - 0.5)) * 2
    else:
        radius = np.maximum(2 * np.abs(box.across - 0.5) + 1 - box.down, box.down)
    canvas.paint(box, radius < 1, border, 1.0, SIGN, z_m)
    canvas.paint(box, radius < 0.74, plate, 1.0, SIGN, z_m)
    upright = rng.random() < 0.5
    low = box.rectangle(0.42, 0.35, 0.58, 0.75) if upright else box.rectangle(0.28, 0.48, 0.72, 0.64)
    canvas.paint(box, low & (radius < 0.74), bar, 1.0, SIGN, z_m)


def paint_pedestrian(canvas: Canvas, side_m: float, z_m: float) -> None:
    rng, camera = canvas.rng, canvas.camera
    x = camera.column(side_m, z_m)
    base = camera.row(0, z_m, x)
    width = max(PERSON_MIN_PX, 0.95 * camera.focal_px / z_m)
    height = width * rng.uniform(2.1, 2.4)
    shadow = canvas.box(x - width * 0.5, base - width * 0.12, x + width * 0.9, base + width * 0.14)
    canvas.darken(shadow, lambda b: b.disc(0.5, 0.5, 0.5, 0.5), 0.5)
    box = canvas.box(x - width / 2, base - height, x + width / 2, base)
    if box is None:
        return
    stride = rng.uniform(0.02, 0.1)
    centred = np.abs(box.across - 0.5)
    legs = (box.down > 0.5) & (box.down < 1) & (centred < 0.38) & (centred > stride * (box.down - 0.5) * 2)
    torso = (box.down > 0.17) & (box.down < 0.58) & (centred < 0.46 - np.maximum(0, 0.25 - box.down))
    head = box.disc(0.5, 0.09, 0.24, 0.1)
    skin = np.array([0.8, 0.6, 0.48], np.float32) * np.float32(rng.uniform(0.45, 1.05))
    folds = 1 - np.float32(0.5) * (centred > 0.3) * (box.down > 0.24)
    canvas.paint(box, legs, any_colour(rng, 0.1, 0.6), 1.0, PEDESTRIAN, z_m)
    canvas.paint(box, torso, vivid_colour(rng), folds.astype(np.float32), PEDESTRIAN, z_m)
    canvas.paint(box, head, skin, 1.0, PEDESTRIAN, z_m)
