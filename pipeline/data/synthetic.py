"""The built-in dataset: procedural road scenes, drawn when they are read, so that a first run needs no download.

Base colours come from wide, shared distributions, and the light changes from scene to scene: classes differ by shape,
texture, place and context, so a network can learn more than a table of colours could.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable

import numpy as np

from pipeline.core.dataset import IGNORE, Dataset, DatasetSource, Sample, TrainingDefaults
from pipeline.core.errors import DataError
from pipeline.data import scenery
from pipeline.data.scenery import (
    COLUMNS,
    FARTHEST_M,
    HEIGHT,
    ROWS,
    WIDTH,
    Camera,
    Canvas,
    any_colour,
    fraction,
    leaf_colour,
    planes,
    tint,
)

CLASSES = ("sky", "building", "road", "pavement", "vegetation", "car", "pole", "pedestrian", "sign")
COLOURS = (
    (70, 130, 180),
    (70, 70, 70),
    (128, 64, 128),
    (244, 35, 232),
    (107, 142, 35),
    (0, 0, 142),
    (153, 153, 153),
    (220, 20, 60),
    (220, 220, 0),
)
"""The colours of the same classes in Cityscapes."""

TRAINING = TrainingDefaults(
    size="192x256",
    steps=440,
    qat_steps=40,
    learning_rate=4e-3,
    qat_learning_rate=4e-4,
    evaluations=2,
    scale=(0.9, 1.2),
    colour=0.1,
)
SPLIT_SIZES = {"train": 400, "val": 64, "test": 64}
SEED = 0
CACHED_SCENES = sum(SPLIT_SIZES.values())
"""All of them, 90 MB: a command reads a scene several times, and painting one takes long beside a training step."""


@dataclasses.dataclass(frozen=True)
class Street:
    """Cross-section of the scene in metres, seen along the road; side −1 is left, 1 right.

    Attributes:
      centre_m, half_m: middle of the road relative to the camera, and half its width.
      pavement_m, verge_m: widths beside the road, and between pavement and wall, per side.
      verge_class: train id of the strip between pavement and wall.
    """

    centre_m: float
    half_m: float
    pavement_m: dict[int, float]
    verge_m: dict[int, float]
    verge_class: dict[int, int]

    def kerb(self, side: int) -> float:
        return self.centre_m + side * self.half_m

    def wall(self, side: int) -> float:
        return self.kerb(side) + side * (self.pavement_m[side] + self.verge_m[side])


def place_camera(rng: np.random.Generator) -> Camera:
    return Camera(
        focal_px=float(rng.uniform(150, 210)),
        height_m=float(rng.uniform(1.7, 2.8)),
        horizon_px=float(rng.uniform(0.32, 0.5)) * HEIGHT,
        tilt=float(rng.uniform(-0.06, 0.06)),
        vanishing_px=float(rng.uniform(0.35, 0.65)) * WIDTH,
        bend=float(rng.uniform(-0.004, 0.004)),
    )


def plan_street(rng: np.random.Generator) -> Street:
    return Street(
        centre_m=float(rng.uniform(-1.5, 1.5)),
        half_m=float(rng.uniform(3.0, 4.6)),
        pavement_m={s: float(rng.uniform(1.8, 3.2)) for s in (-1, 1)},
        verge_m={s: float(rng.choice([0.0, rng.uniform(1.5, 5.0)])) for s in (-1, 1)},
        verge_class={s: int(rng.choice([scenery.VEGETATION, scenery.VEGETATION, scenery.PAVEMENT])) for s in (-1, 1)},
    )


def paint_sky(canvas: Canvas) -> None:
    rng = canvas.rng
    blue = np.array([1, 1, 1], np.float32) + np.float32(rng.uniform(-0.1, 0.45)) * np.array([-0.8, -0.2, 1], np.float32)
    top, low = np.float32(rng.uniform(0.4, 0.9)) * tint(rng, 0.1) * blue, canvas.haze_colour
    down = np.clip(ROWS / np.float32(canvas.camera.horizon_px), 0, 1)
    cover = np.clip(canvas.clouds * np.float32(rng.uniform(0, 0.5)) + np.float32(rng.uniform(-0.2, 0.2)), 0, 1)
    sky = planes(top) * (1 - down) + planes(low) * down
    canvas.pixels[:] = sky + cover * (np.float32(rng.uniform(0.5, 1.0)) - sky)
    canvas.label[:] = scenery.SKY


def paint_skyline(canvas: Canvas) -> None:
    """The strip of woods or of roofs at the horizon."""
    rng, camera = canvas.rng, canvas.camera
    horizon = np.float32(camera.horizon_px) + np.float32(camera.tilt) * (COLUMNS - WIDTH / 2)
    box = canvas.box(0, 0, WIDTH, HEIGHT)
    assert box is not None
    if rng.random() < 0.5:
        top = rng.uniform(6, 16) + 5 * canvas.clouds[:1] + 3 * canvas.leaves[:1]
        colour, shade, klass = leaf_colour(rng), 1 + np.float32(0.35) * canvas.leaves, scenery.VEGETATION
    else:
        top = np.repeat(rng.uniform(5, 24, (1, WIDTH // 16)), 16, axis=1)
        panes = ((COLUMNS // 2) % 2 < 1) & ((ROWS // 2) % 2 < 1)
        colour, klass = any_colour(rng), scenery.BUILDING
        shade = np.where(panes, np.float32(rng.uniform(0.5, 0.8)), np.float32(1)) + np.float32(0.05) * canvas.grain
    canvas.paint(box, (horizon + 1 > ROWS) & (horizon - top < ROWS), colour, shade, klass, FARTHEST_M)


def paint_ground(canvas: Canvas, street: Street) -> None:
    """Road with markings, kerbs, pavements and verges: all functions of the position in metres under each pixel."""
    rng, camera = canvas.rng, canvas.camera
    first = max(0, math.floor(camera.horizon_px - abs(camera.tilt) * WIDTH / 2))
    below = ROWS[first:] - np.float32(camera.horizon_px) - np.float32(camera.tilt) * (COLUMNS - WIDTH / 2)
    z = np.float32(camera.focal_px * camera.height_m) / np.maximum(below, np.float32(0.5))
    side = ((COLUMNS - np.float32(camera.vanishing_px)) / np.float32(camera.focal_px) - np.float32(camera.bend) * z) * z
    grain, leaves, patches = canvas.grain[first:], canvas.leaves[first:], canvas.clouds[first:]

    road = np.float32(rng.uniform(0.16, 0.5)) * tint(rng, 0.06)
    paved = np.float32(rng.uniform(0.35, 0.75)) * tint(rng, 0.2)
    marking = np.float32(rng.uniform(0.6, 0.95)) * tint(rng, 0.1)
    materials = np.stack(
        [road, marking, paved, paved * np.float32(rng.choice([0.6, 1.4])), paved * np.float32(rng.choice([0.6, 1.35]))]
    )
    on_road, painted, slabs, kerb, joint, verges = 0, 1, 2, 3, 4, {-1: 5, 1: 6}
    classes = np.array([scenery.ROAD] * 2 + [scenery.PAVEMENT] * 3 + [street.verge_class[s] for s in (-1, 1)], np.uint8)
    green = {s: street.verge_class[s] == scenery.VEGETATION for s in (-1, 1)}
    material = np.full(below.shape, on_road, np.uint8)

    lanes, dash_m = int(rng.integers(2, 4)), float(rng.uniform(2.5, 5))
    dashes = fraction(z / np.float32(dash_m)) < 0.55
    for lane in range(lanes + 1):
        middle_m = street.centre_m + street.half_m * (2 * lane / lanes - 1) * 0.94
        line = np.abs(side - np.float32(middle_m)) < 0.11
        np.copyto(material, np.uint8(painted), where=line & dashes if 0 < lane < lanes else line)
    if rng.random() < 0.3:  # a zebra crossing
        near_m = rng.uniform(6, 14)
        material[(np.abs(z - np.float32(near_m + 1.5)) < 1.5) & (fraction(side) < 0.5)] = painted

    tile_m = np.float32(rng.uniform(0.6, 1.1))
    joints = ((fraction(side / tile_m) < 0.13) | (fraction(z / tile_m) < 0.13)) & (z < 16)  # finer than a pixel beyond
    for s in (-1, 1):
        beyond_m = side - np.float32(street.kerb(s))
        beyond_m *= s
        pavement = beyond_m > 0
        for kind, where in (
            (slabs, pavement),
            (joint, pavement & joints),
            (kerb, pavement & (beyond_m < 0.28)),
            (verges[s], beyond_m > street.pavement_m[s]),
        ):
            np.copyto(material, np.uint8(kind), where=where)
        materials = np.vstack([materials, leaf_colour(rng) if green[s] else paved * np.float32(0.8)])
    rough = np.array([rng.uniform(0.03, 0.1), 0.03, 0.04, 0.04, 0.04, 0.1, 0.1], np.float32)
    blotch = np.array([0.05, 0, 0, 0, 0, *(0.32 if green[s] else 0.05 for s in (-1, 1))], np.float32)
    shade = 1 + np.take(rough, material) * grain + np.take(blotch, material) * leaves
    shade += np.float32(rng.uniform(0, 0.1)) * patches
    if rng.random() < 0.5:  # shadows of objects outside the image
        slant, near_m, reach_m = rng.uniform(-1.5, 1.5), rng.uniform(4, 14), rng.uniform(0.8, 3)
        shadow = np.abs(z + np.float32(slant) * side + np.float32(0.6) * leaves - np.float32(near_m)) < reach_m
        shade *= np.where(shadow, np.float32(rng.uniform(0.45, 0.75)), np.float32(1))
    visibility = np.exp(np.float32(-canvas.haze_per_m) * np.minimum(z, np.float32(FARTHEST_M)))
    palette = np.ascontiguousarray(materials.T, np.float32)
    ground = below > 0
    for channel in range(3):
        fog = canvas.haze_colour[channel]
        lit = np.take(palette[channel], material) * shade
        np.copyto(canvas.pixels[channel, first:], fog + (lit - fog) * visibility, where=ground)
    np.copyto(canvas.label[first:], np.take(classes, material), where=ground)


def paint_objects(canvas: Canvas, street: Street) -> None:
    """The objects on the ground: first those behind the line of the walls; each group from far to near."""
    rng = canvas.rng
    objects: list[tuple[bool, float, Callable[[], None]]] = []

    def put(z_m: float, paint: Callable[..., None], *how: object, behind: bool = False) -> None:
        objects.append((behind, z_m, functools.partial(paint, canvas, *how)))

    lamp = any_colour(rng)
    for side in (-1, 1):
        wall_m, kerb_m = street.wall(side), street.kerb(side)
        built = rng.uniform(0.35, 1.0)
        near_m = rng.uniform(2.5, 8.0)
        while near_m < FARTHEST_M:
            far_m = near_m + rng.uniform(8, 22)
            if rng.random() < built:
                edges = sorted((wall_m, wall_m + side * rng.uniform(6, 14)))
                put(near_m, scenery.paint_building, *edges, near_m, far_m, rng.uniform(4.5, 13), -side, behind=True)
            else:
                for z_m in rng.uniform(near_m, far_m, 3):
                    side_m = wall_m + side * rng.uniform(1, 4)
                    put(z_m, scenery.paint_foliage, side_m, z_m, rng.uniform(5, 8), 6.5, True, behind=True)
            near_m = far_m + rng.choice([0.0, rng.uniform(1, 6)])

        on_pavement = kerb_m + side * 0.6
        paved = sorted((kerb_m + side * 0.5, wall_m - side * 0.5))
        for z_m in rng.uniform(6, 22, rng.integers(0, 3)):
            put(z_m, scenery.paint_foliage, paved[side > 0], z_m, rng.uniform(3.0, 5.0), rng.uniform(4.5, 7), True)
        for z_m in rng.uniform(5, 15, rng.integers(0, 3)):
            put(z_m, scenery.paint_foliage, paved[side > 0], z_m, rng.uniform(1.8, 3.2), rng.uniform(1, 2), False)
        for z_m in rng.uniform(5, 16, rng.integers(0, 3)):
            put(z_m, scenery.paint_pole, on_pavement, z_m, rng.uniform(4.0, 7.0), lamp, int(rng.choice([0, -side])))
        for z_m in rng.uniform(5.5, 11, rng.integers(0, 2)):
            put(z_m, scenery.paint_sign, on_pavement, z_m)
        for z_m in rng.uniform(6, 11, rng.integers(0, 3)):
            put(z_m, scenery.paint_pedestrian, kerb_m + side * rng.uniform(0.3, 1.6), z_m)
        for z_m in rng.uniform(6, 18, rng.integers(0, 2)):  # parked
            put(z_m, scenery.paint_car, kerb_m - side * 1.1, z_m)
    for z_m in rng.uniform(7, 18, rng.integers(0, 3)):  # on their way
        put(z_m, scenery.paint_car, street.centre_m + rng.uniform(-0.5, 0.5) * street.half_m, z_m)
    if rng.random() < 0.3:
        z_m = rng.uniform(6, 10)
        put(z_m, scenery.paint_pedestrian, street.centre_m + rng.uniform(-1, 1) * street.half_m, z_m)
    for _, _, paint in sorted(objects, key=lambda item: (not item[0], -item[1])):
        paint()


def paint_hood(canvas: Canvas) -> None:
    """The bonnet of the car that carries the camera, which belongs to no class."""
    rng = canvas.rng
    rise = rng.uniform(8, 20)
    box = canvas.box(WIDTH * rng.uniform(-0.1, 0.1), HEIGHT - rise, WIDTH * rng.uniform(0.9, 1.1), HEIGHT + rise)
    if box is not None:
        mask = box.disc(0.5, 0.5, 0.5, 0.5)
        canvas.paint(box, mask, any_colour(rng), 1.3 - box.down, IGNORE, 0.0)


def photograph(canvas: Canvas) -> np.ndarray:
    """uint8 [HEIGHT, WIDTH, 3]: the painted scene with the effects of its light, lens and sensor.

    Overwrites the canvas.
    """
    rng, pixels = canvas.rng, canvas.pixels
    gains = np.float32(rng.uniform(0.7, 1.25)) * tint(rng, 0.12)
    contrast = np.float32(rng.uniform(0.75, 1.25))
    slope = np.float32(rng.uniform(-0.35, 0.35) * (rng.random() < 0.6))  # sun from one side
    blur = np.float32(rng.uniform(0.08, 0.22))
    pixels[:, 1:-1] += blur * (pixels[:, :-2] + pixels[:, 2:] - 2 * pixels[:, 1:-1])
    pixels[:, :, 1:-1] += blur * (pixels[:, :, :-2] + pixels[:, :, 2:] - 2 * pixels[:, :, 1:-1])
    pixels *= planes(gains)
    mean = np.float32(pixels.mean(dtype=np.float64))
    pixels -= mean
    pixels *= contrast * (1 + slope * (COLUMNS / WIDTH - np.float32(0.5)))
    pixels += mean
    noise = rng.random(pixels.shape, np.float32)
    noise -= np.float32(0.5)
    noise *= np.float32(rng.uniform(0.02, 0.08))
    pixels += noise
    np.clip(pixels, 0, 1, out=pixels)
    pixels *= 255
    return np.ascontiguousarray(np.rint(pixels, out=pixels).astype(np.uint8).transpose(1, 2, 0))


@functools.lru_cache(CACHED_SCENES)
def render(split: str, index: int) -> tuple[np.ndarray, np.ndarray]:
    """uint8 [HEIGHT, WIDTH, 3] and uint8 [HEIGHT, WIDTH] of train ids; depends on SEED, split and index alone."""
    rng = np.random.default_rng((SEED, list(SPLIT_SIZES).index(split), index))
    canvas = Canvas(rng, place_camera(rng))
    street = plan_street(rng)
    paint_sky(canvas)
    paint_skyline(canvas)
    paint_ground(canvas, street)
    paint_objects(canvas, street)
    if rng.random() < 0.4:
        paint_hood(canvas)
    image = photograph(canvas)
    image.flags.writeable = canvas.label.flags.writeable = False
    return image, canvas.label


def _sample(split: str, index: int) -> Sample:
    return Sample(f"{split}-{index:04d}", lambda: render(split, index)[0], lambda: render(split, index)[1])


def open_synthetic(argument: str) -> Dataset:
    if argument:
        raise DataError(f"dataset synthetic:{argument} names a folder, but synthetic needs none: write synthetic.")
    splits = {split: _split(split) for split in ("train", "val")}
    return Dataset("synthetic", CLASSES, COLOURS, splits, open_test=lambda: _split("test"))


def _split(split: str) -> tuple[Sample, ...]:
    return tuple(_sample(split, i) for i in range(SPLIT_SIZES[split]))


SYNTHETIC = DatasetSource("synthetic", "procedural road scenes, 9 classes", "", open_synthetic, TRAINING)
