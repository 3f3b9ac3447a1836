"""The contact sheet: some images with their masks, to be looked at."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from pipeline.core.dataset import Dataset, Sample
from pipeline.core.errors import DataError
from pipeline.report.pictures import contact_sheet, indexed, overlay

ROWS = 12
THUMBNAIL_WIDTH = 320
TALLEST = 4 * THUMBNAIL_WIDTH
"""Pixels; a taller strip is squeezed, because the sheet would not fit into memory."""


def sheet(dataset: Dataset, rows: int = ROWS) -> Image.Image:
    """Rows of image, mask and overlay, evenly spread over the splits; what cannot be decoded is left out."""
    samples = [(split, sample) for split, each in dataset.splits.items() for sample in each]
    chosen = [samples[i] for i in np.unique(np.linspace(0, len(samples) - 1, rows).astype(int))]
    shown = [row for split, sample in chosen if (row := _row(split, sample, dataset.colours)) is not None]
    legend = list(zip(dataset.classes, dataset.colours, strict=True))
    return contact_sheet(shown, legend, THUMBNAIL_WIDTH)


def _row(
    split: str, sample: Sample, colours: Sequence[tuple[int, int, int]]
) -> tuple[str, tuple[Image.Image, ...]] | None:
    try:
        image, label = sample.image(), sample.label()
    except DataError:
        return None
    if image.shape[:2] != label.shape:
        return None
    height = round(THUMBNAIL_WIDTH * image.shape[0] / image.shape[1])
    size = THUMBNAIL_WIDTH, min(max(1, height), TALLEST)
    photo = Image.fromarray(image).resize(size, Image.Resampling.BILINEAR)
    mask = Image.fromarray(label).resize(size, Image.Resampling.NEAREST)
    ids = np.asarray(mask)
    tinted = Image.fromarray(overlay(np.asarray(photo), ids, colours))
    return f"{split}: {sample.name}", (photo, indexed(ids, colours).convert("RGB"), tinted)
