"""The loaders, on small trees made in each dataset's official layout; CamVid's also on the real one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pipeline.core.dataset import IGNORE
from pipeline.core.errors import DataError, UnknownName
from pipeline.data import open_dataset, sources
from tests.support.small_datasets import MAKERS, SIZE, a_label, an_image, one_sentence, opened, write_image, write_label


@pytest.fixture(params=sorted(MAKERS))
def small_dataset(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Path]:
    """(kind, folder) of a small, good dataset."""
    MAKERS[request.param](tmp_path / "set")
    return request.param, tmp_path / "set"


def test_every_dataset_that_needs_a_folder_is_tested_here() -> None:
    assert {name for name, source in sources().items() if source.layout} == set(MAKERS)


# What all of them do


def test_a_good_dataset_opens(small_dataset: tuple[str, Path]) -> None:
    kind, root = small_dataset
    dataset = opened(kind, root)
    assert dataset.text == f"{kind}:{root}"
    assert set(dataset.splits) == {"train", "val"}
    assert len(dataset.classes) == len(dataset.colours) == len(set(dataset.classes))
    for samples in dataset.splits.values():
        assert len({sample.name for sample in samples}) == len(samples) > 0
        for sample in samples:
            image = sample.image()
            assert image.dtype == np.uint8 and image.shape == (*SIZE, 3)
            np.testing.assert_allclose(image, np.broadcast_to([200, 100, 50], image.shape), atol=3)  # jpg
            label = sample.label()
            assert label.dtype == np.uint8 and label.shape == SIZE
            assert set(np.unique(label)) <= {*range(len(dataset.classes)), IGNORE}


def test_a_folder_without_the_name_of_its_dataset_gets_it(small_dataset: tuple[str, Path]) -> None:
    kind, root = small_dataset
    with pytest.raises(UnknownName, match=f"it is called '{kind}:{root}' \\("):
        open_dataset(str(root))


def test_opening_reads_no_pixels_and_is_deterministic(small_dataset: tuple[str, Path]) -> None:
    kind, root = small_dataset
    names = {split: [s.name for s in samples] for split, samples in opened(kind, root).splits.items()}
    an_image(root).write_bytes(b"")
    names_again = {split: [s.name for s in samples] for split, samples in opened(kind, root).splits.items()}
    assert names == names_again
    assert all(split == sorted(split) for split in names.values())


@pytest.mark.parametrize("kind", sorted(set(MAKERS)))
def test_a_tilde_is_expanded(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    MAKERS[kind](tmp_path / "set")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert open_dataset(f"{kind}:~/set").splits["train"]


@pytest.mark.parametrize("kind", sorted(MAKERS))
@pytest.mark.parametrize("state", ["missing", "empty", "a file"])
def test_a_folder_that_holds_nothing_is_an_error(kind: str, state: str, tmp_path: Path) -> None:
    root = tmp_path / "nothing"
    if state == "empty":
        root.mkdir()
    elif state == "a file":
        root.touch()
    with pytest.raises(DataError) as error:
        opened(kind, root)
    one_sentence(error, root, sources()[kind].layout if kind != "folder" or state != "empty" else "classes.txt")


@pytest.mark.parametrize("kind", sorted(MAKERS))
def test_no_folder_at_all_is_an_error_that_shows_the_layout(kind: str) -> None:
    for text in (kind, f"{kind}:"):
        with pytest.raises(DataError) as error:
            open_dataset(text)
        one_sentence(error, f"{kind}:DIR", sources()[kind].layout)


def test_an_unknown_dataset_suggests_a_known_one() -> None:
    with pytest.raises(UnknownName, match="did you mean 'cityscapes'"):
        open_dataset("cityscape:/data")


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_split_without_images_is_an_error(small_dataset: tuple[str, Path], split: str) -> None:
    kind, root = small_dataset
    if kind == "voc":
        (root / "ImageSets" / "Segmentation" / f"{split}.txt").write_text("\n \n")
    for pattern in (f"{split}/*.png", f"leftImg8bit/{split}/*/*.png", f"{split}/images/*"):
        for image in root.glob(pattern):
            image.unlink()
    with pytest.raises(DataError) as error:
        opened(kind, root)
    one_sentence(error, root, split, sources()[kind].layout)


def test_an_image_without_a_label_is_an_error(small_dataset: tuple[str, Path]) -> None:
    kind, root = small_dataset
    label = a_label(root)
    label.unlink()
    with pytest.raises(DataError) as error:
        opened(kind, root)
    one_sentence(error, an_image(root), label)


@pytest.mark.parametrize("content", [b"", b"no image", "cut"], ids=["empty", "text", "cut"])
@pytest.mark.parametrize("of", [an_image, a_label])
def test_a_file_that_is_no_image_is_an_error(
    small_dataset: tuple[str, Path], of: Callable[[Path], Path], content: bytes | str
) -> None:
    kind, root = small_dataset
    path = of(root)
    path.write_bytes(path.read_bytes()[:-40] if isinstance(content, str) else content)
    first = opened(kind, root).splits["train"][0]
    with pytest.raises(DataError) as error:
        (first.image if of is an_image else first.label)()
    one_sentence(error, path, "cannot be decoded", "replace or remove it")


def test_a_label_beside_an_image_that_is_none_is_an_error(small_dataset: tuple[str, Path]) -> None:
    kind, root = small_dataset
    an_image(root).write_bytes(b"no image")
    with pytest.raises(DataError) as error:
        opened(kind, root).splits["train"][0].label()
    one_sentence(error, an_image(root), "cannot be decoded")


@pytest.mark.parametrize("lost", [an_image, a_label])
def test_a_file_that_goes_away_after_opening_is_an_error(
    small_dataset: tuple[str, Path], lost: Callable[[Path], Path]
) -> None:
    kind, root = small_dataset
    path = lost(root)
    first = opened(kind, root).splits["train"][0]
    path.unlink()
    with pytest.raises(DataError) as error:
        (first.image if lost is an_image else first.label)()
    one_sentence(error, path, "does not exist")


@pytest.mark.parametrize("size", [(6, 9), (8, 6), (1, 1)], ids=str)
def test_a_label_of_another_size_is_an_error(small_dataset: tuple[str, Path], size: tuple[int, int]) -> None:
    kind, root = small_dataset
    write_label(a_label(root), [0], size)
    with pytest.raises(DataError) as error:
        opened(kind, root).splits["train"][0].label()
    one_sentence(error, a_label(root), f"{size[0]}x{size[1]}", "6x8")


@pytest.mark.parametrize("value", [100, 254])
def test_a_label_out_of_range_is_an_error(small_dataset: tuple[str, Path], value: int) -> None:
    kind, root = small_dataset
    write_label(a_label(root), [0, 0, value])
    with pytest.raises(DataError) as error:
        opened(kind, root).splits["train"][0].label()
    one_sentence(error, a_label(root), f"the value {value}", "allowed are")


def test_a_colour_image_for_a_label_is_an_error(small_dataset: tuple[str, Path]) -> None:
    kind, root = small_dataset
    write_image(a_label(root), colour=(1, 2, 3))
    with pytest.raises(DataError) as error:
        opened(kind, root).splits["train"][0].label()
    one_sentence(error, a_label(root), *(["colour (1, 2, 3)"] if kind == "voc" else ["mode RGB", "colour, 1 2 3"]))


@pytest.mark.parametrize("kind", ["camvid", "folder"])
def test_two_images_of_one_stem_are_an_error(kind: str, tmp_path: Path) -> None:
    MAKERS[kind](tmp_path)
    image = an_image(tmp_path)
    write_image(image.with_suffix(".bmp"))
    with pytest.raises(DataError) as error:
        opened(kind, tmp_path)
    one_sentence(error, image, image.with_suffix(".bmp"), "rename or remove")


# Cityscapes
