"""What `predict` is given: an image, a folder of images, a dataset with labels, a video or a camera."""

from __future__ import annotations

import dataclasses
import functools
import os
import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from pipeline.core.dataset import Dataset, Sample
from pipeline.core.errors import DataError, UnknownName
from pipeline.core.printable import well_formed
from pipeline.core.say import Say
from pipeline.data import dataset_in, open_dataset, sources
from pipeline.data.decode import read_image
from pipeline.data.images import IMAGE_SUFFIXES
from pipeline.data.unlabelled import in_label_folder

CAMERA = re.compile(r"camera(?::(?P<number>\d{1,2}))?|(?P<device>/dev/video\d{1,2})")


@dataclasses.dataclass(frozen=True)
class Still:
    """One image, decoded when asked for.

    Attributes:
      name: of its pictures; it may begin with folders.
      image: () → uint8 [h, w, 3] RGB, upright.
      label: () → uint8 [h, w] of class ids; None where there is no label.
    Both raise DataError.
    """

    name: str
    image: Callable[[], np.ndarray]
    label: Callable[[], np.ndarray] | None = None


@dataclasses.dataclass(frozen=True)
class Stills:
    """Images.

    Attributes:
      title: what they are, in words.
      name: of a folder for their pictures.
      classes: the names that their labels count by; None without labels.
    """

    title: str
    name: str
    images: tuple[Still, ...]
    classes: tuple[str, ...] | None = None


@dataclasses.dataclass(frozen=True)
class Moving:
    """A video or a camera.

    Attributes:
      address: the video's path, or the camera's number or device.
      name: of a folder for its pictures.
    """

    title: str
    name: str
    address: str
    camera: bool = False


def source_for(text: str, split: str, say: Say) -> Stills | Moving:
    """What SOURCE names; raises DataError, and UnknownName for a dataset that there is not."""
    if camera := CAMERA.fullmatch(text):
        return _camera(text, camera["device"] or camera["number"] or "0")
    path = Path(os.path.expanduser(text))  # Path.expanduser raises where a file is called ~x
    if path.is_dir():
        return _folder(path, split, say)
    if path.exists():
        if not path.is_file():
            raise DataError(f"{text} is neither a file nor a folder: name an image, a folder, a video or camera:0.")
        if path.suffix.lower() in IMAGE_SUFFIXES:
            name = well_formed(path.stem)
            return Stills(well_formed(path.name), name, (Still(name, functools.partial(read_image, path)),))
        return Moving(well_formed(path.name), well_formed(path.stem), str(path))
    name = text.partition(":")[0]
    if name in sources():
        return _labelled(open_dataset(text), split)
    if ":" in text and "/" not in name:
        raise UnknownName("dataset", name, sources())
    raise DataError(f"{text} does not exist: name an image, a folder, a video, camera:0 or a dataset ({_datasets()}).")


def _camera(text: str, address: str) -> Moving:
    """Raises DataError where this machine has no such camera; other systems than Linux say so when it is opened."""
    device = f"/dev/video{address}" if address.isdecimal() else address
    if sys.platform == "linux" and not Path(device).exists():
        raise DataError(f"there is no camera {device}: attach one, or name a video file.")
    return Moving(text, "camera", address, camera=True)


def _datasets() -> str:
    return ", ".join(f"{name}:DIR" if source.layout else name for name, source in sorted(sources().items()))


def _labelled(dataset: Dataset, split: str) -> Stills:
    text = dataset.text
    if split not in dataset.splits:
        raise DataError(f"{text} has no split {split!r}: choose one of {', '.join(dataset.splits)}.")

    def still(sample: Sample) -> Still:
        return Still(sample.name, sample.image, sample.label)

    return Stills(
        f"{split} of {text}",
        f"{text.partition(':')[0]}-{split}",
        tuple(map(still, dataset.splits[split])),
        dataset.classes,
    )


def _folder(path: Path, split: str, say: Say) -> Stills:
    if (dataset := dataset_in(str(path))) is not None:
        say(f"{path} is a dataset with labels: its {split} images")
        return _labelled(dataset, split)
    images = sorted(p for p in path.iterdir() if _is_image(p)) or _photos_below(path, say)
    if not images:
        raise DataError(f"folder {path} holds no image ({', '.join(IMAGE_SUFFIXES)}), nor does any below it.")
    name = well_formed(path.resolve().name) or "images"
    return Stills(well_formed(f"{len(images)} images of {path}"), name, tuple(_named(images, path)))


def _photos_below(folder: Path, say: Say) -> list[Path]:
    """Without labels: a dataset in which a file is missing is no dataset, but its labels are no photos."""
    images = sorted(path for path in folder.rglob("*") if _is_image(path))
    photos = [path for path in images if not in_label_folder(path, folder)]
    if photos and len(photos) < len(images):
        count = len(images) - len(photos)
        say(f"note: {count} file{'' if count == 1 else 's'} below {folder} lie in folders of labels and are left out")
    return photos or images


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")


def _named(paths: Iterable[Path], root: Path) -> Iterable[Still]:
    """Each by its name below ``root`` without the suffix, which stays where two would have one name."""
    taken: set[str] = set()
    for path in paths:
        name = well_formed(str(path.relative_to(root).with_suffix("")))
        if name in taken:
            name = well_formed(str(path.relative_to(root)))
        taken.add(name)
        yield Still(name, functools.partial(read_image, path))
