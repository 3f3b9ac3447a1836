"""Pictures of masks: an overlay, the mask itself, what is wrong in it, side by side, and the legend of the classes.

All take and give arrays or Pillow images in memory; RGB, uint8.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from pipeline.core.dataset import IGNORE
from pipeline.core.printable import LONGEST_NAME, printable

Colours = Sequence[tuple[int, int, int]]

WRONG = (213, 94, 0)
"""Vermilion of Okabe and Ito's palette (Color Universal Design, 2002): told from grey with any colour vision."""
UNLABELLED = (0, 60, 90)
PAPER, INK = (255, 255, 255), (30, 30, 30)
LEAST_TEXT_PIXELS, MOST_TEXT_PIXELS = 12, 48


def palette_of(colours: Colours) -> np.ndarray:
    """uint8 [256, 3]: the colour of each id; black where there is no class, and for IGNORE what no class has."""
    table = np.zeros((256, 3), np.uint8)
    table[: len(colours)] = np.asarray(colours, np.uint8).reshape(-1, 3)
    table[IGNORE] = colour_of_ignored(colours)
    return table


def colour_of_ignored(colours: Colours) -> tuple[int, int, int]:
    """Black, or where a class has that, as in PASCAL VOC, the first of some others that no class has."""
    taken = {tuple(colour) for colour in colours}
    others = ((value, value, 192) for value in range(224, -1, -1))  # VOC's void is (224, 224, 192)
    return next(colour for colour in ((0, 0, 0), *others) if colour not in taken)


def indexed(mask: np.ndarray, colours: Colours) -> Image.Image:
    """The mask, uint8 [h, w] of ids, as a palette image: its values are the ids, and viewers show the colours."""
    picture = Image.fromarray(mask)
    picture.putpalette(palette_of(colours).tobytes())
    return picture


def overlay(image: np.ndarray, mask: np.ndarray, colours: Colours, opacity: float = 0.5) -> np.ndarray:
    """The image, uint8 [h, w, 3], tinted by the class of each pixel; IGNORE stays as it is."""
    tint = indexed(mask, colours).convert("RGB")
    mixed = np.array(Image.blend(Image.fromarray(image), tint, opacity))
    if (unlabelled := mask == IGNORE).any():
        mixed[unlabelled] = image[unlabelled]
    return mixed


def errors(image: np.ndarray, mask: np.ndarray, label: np.ndarray) -> np.ndarray:
    """The image in grey; vermilion where the mask differs from the label, dark blue where there is no label."""
    grey = image.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601
    shown = np.repeat((80 + grey * 0.6)[..., None], 3, axis=-1)
    wrong = (mask != label) & (label != IGNORE)
    shown[wrong] = 0.25 * shown[wrong] + 0.75 * np.array(WRONG, np.float32)
    unlabelled = label == IGNORE
    shown[unlabelled] = 0.4 * shown[unlabelled] + 0.6 * np.array(UNLABELLED, np.float32)
    return shown.astype(np.uint8)


def legend(entries: Sequence[tuple[str, tuple[int, int, int]]], width: int, text_pixels: int = 16) -> Image.Image:
    """Swatches with names, in as many columns as fit ``width`` pixels."""
    font = ImageFont.load_default(text_pixels)
    margin, swatch = text_pixels // 2, text_pixels
    names = [printable(name, LONGEST_NAME) for name, _ in entries]
    longest = max((int(font.getlength(name)) for name in names), default=0)
    column = margin + swatch + margin + longest + margin
    columns = max(1, min(len(names) or 1, width // column))
    rows = -(-len(names) // columns)
    line = swatch + margin
    picture = Image.new("RGB", (max(width, columns * column), margin + rows * line), PAPER)
    draw = ImageDraw.Draw(picture)
    for index, (name, (_, colour)) in enumerate(zip(names, entries, strict=True)):
        left, top = margin + (index // rows) * column, margin + (index % rows) * line
        draw.rectangle((left, top, left + swatch, top + swatch - 1), fill=colour, outline=INK)
        draw.text((left + swatch + margin, top + swatch // 2), name, fill=INK, font=font, anchor="lm")
    return picture


def text_pixels_for(width: int) -> int:
    """The height of text that can be read in a picture of this width."""
    return min(MOST_TEXT_PIXELS, max(LEAST_TEXT_PIXELS, width // 50))


def side_by_side(
    titled: Sequence[tuple[str, np.ndarray]], entries: Sequence[tuple[str, tuple[int, int, int]]]
) -> Image.Image:
    """Pictures of one size in a row (in two rows from four on), each under its title, and the legend below them."""
    height, width = titled[0][1].shape[:2]
    columns = len(titled) if len(titled) < 4 else 2
    rows = -(-len(titled) // columns)
    text = text_pixels_for(columns * width)
    bar, gap = text + text // 2, text // 2
    key = legend(entries, columns * width + (columns - 1) * gap, text)
    full_width = max(key.width, columns * width + (columns - 1) * gap)
    page = Image.new("RGB", (full_width, rows * (bar + height) + key.height), PAPER)
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(text)
    for index, (title, picture) in enumerate(titled):
        left, top = index % columns * (width + gap), index // columns * (bar + height)
        draw.text((left + gap, top + bar // 2), printable(title, LONGEST_NAME), fill=INK, font=font, anchor="lm")
        page.paste(Image.fromarray(picture), (left, top + bar))
    page.paste(key, (0, rows * (bar + height)))
    return page


def contact_sheet(
    rows: Sequence[tuple[str, Sequence[Image.Image]]],
    entries: Sequence[tuple[str, tuple[int, int, int]]],
    width: int,
) -> Image.Image:
    """Rows of pictures of ``width``, two rows beside each other, each under its title; the legend below them."""
    text, gap = text_pixels_for(2 * width), 8
    bar = text + text // 2
    across = max((len(pictures) for _, pictures in rows), default=1) * (width + gap) + gap
    heights = [
        max((picture.height for _, each in rows[i : i + 2] for picture in each), default=0)
        for i in range(0, len(rows), 2)
    ]
    key = legend(entries, 2 * across, text)
    page = Image.new("RGB", (max(2 * across, key.width), sum(heights) + len(heights) * bar + gap + key.height), PAPER)
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(text)
    top = 0
    for i, height in enumerate(heights):
        for side, (title, each) in enumerate(rows[2 * i : 2 * i + 2]):
            left = side * across + gap
            draw.text((left, top + bar // 2), printable(title, LONGEST_NAME), fill=INK, font=font, anchor="lm")
            for n, picture in enumerate(each):
                page.paste(picture, (left + n * (width + gap), top + bar))
        top += bar + height
    page.paste(key, (0, top + gap))
    return page
