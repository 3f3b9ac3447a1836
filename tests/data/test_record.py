"""What a run keeps of its dataset: changed files are noticed, and images that cannot be used are skipped the same way
by every command."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.core.errors import DataError, RunError
from pipeline.core.run import DATA, LABELS, Run, create
from pipeline.core.spec import ModelSpec
from pipeline.data import census, dataset_of
from pipeline.data.bad_images import settle, skipped_lines
from pipeline.data.decoded import Decoded
from pipeline.data.unlabelled import unlabelled
from pipeline.quantize.observe import samples_for
from tests.conftest import ROOT


def picture(path: Path, seed: int) -> None:
    """An image of noise and its mask of three classes, of which the third is in image 0 alone.

    Images are of one size in bytes, and of times of their own: on some file systems a clock's tick is longer than it
    takes to write several.
    """
    rng = np.random.default_rng(seed)
    for kind in ("images", "masks"):
        (path / kind).mkdir(parents=True, exist_ok=True)
    Image.fromarray(rng.integers(0, 256, (12, 16, 3), np.uint8)).save(path / "images" / f"i{seed}.png")
    ids = rng.integers(0, 2, (12, 16), np.uint8)
    ids[0, 0] = 2 if seed == 0 else 0
    Image.fromarray(ids).save(path / "masks" / f"i{seed}.png")
    for kind in ("images", "masks"):
        os.utime(path / kind / f"i{seed}.png", ns=(seed + 10, seed + 10))


@pytest.fixture
def run(tmp_path: Path) -> Run:
    home = tmp_path / "data"
    for split, count in (("train", 6), ("val", 2)):
        for seed in range(count):
            picture(home / split, seed)
    (home / "classes.txt").write_text("a\nb\nc\n")
    return create(tmp_path / "run", ModelSpec("fast-scnn", 64, 64, 3), f"folder:{home}", "abc", [(0, 0, 0)] * 3, 0)


def home(run: Run) -> Path:
    return run.path.parent / "data"


def names(run: Run, split: str = "train") -> list[str]:
    return [sample.name for sample in dataset_of(run, split).splits[split]]


def gone(train: Path) -> None:
    for kind in ("images", "masks"):
        (train / kind / "i1.png").unlink()


def new(train: Path) -> None:
    picture(train, 9)


def renamed(train: Path) -> None:
    for kind in ("images", "masks"):
        (train / kind / "i1.png").rename(train / kind / "i8.png")


def other_mask(train: Path) -> None:
    shutil.copy(train / "masks/i2.png", train / "masks/i1.png")


def swapped_images(train: Path) -> None:
    a, b, c = (train / "images" / name for name in ("i1.png", "i2.png", "i1.old"))
    a.rename(c), b.rename(a), c.rename(b)


CHANGES = {
    gone: ["train: 1 of 6 images is gone: i1"],
    new: ["train: 1 image new: i9"],
    renamed: ["train: 1 of 6 images is gone: i1", "train: 1 image new: i8"],
    other_mask: ["train: 1 of 6 images is of other content (image or label): i1"],
    swapped_images: ["train: 2 of 6 images are of other content (image or label): i1, i2"],
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_dataset_is_named_and_not_used(change, run: Run) -> None:
    dataset_of(run)
    change(home(run) / "train")
    with pytest.raises(RunError, match=r"--run DIR.*--force.*data\.json") as error:
        dataset_of(run)
    assert list(error.value.details) == CHANGES[change]
    assert len(dataset_of(run, "val").splits["val"]) == 2, "the other split is as it was"
    dataset_of(run, renew=True)
    dataset_of(run)


def test_a_copy_of_the_dataset_is_the_same_dataset(run: Run) -> None:
    dataset_of(run)
    for file in home(run).rglob("*.png"):
        os.utime(file, ns=(1, 1))
    dataset_of(run)
    os.utime(home(run) / "train/images/i1.png", ns=(2, 2))
    dataset_of(run)


def test_other_classes_are_refused_and_a_record_that_is_none(run: Run) -> None:
    dataset_of(run)
    (run.path / DATA).write_text('{"splits": {"train": {"i1": 7}}}')
    with pytest.raises(RunError, match=r"data\.json is broken \(DataRecord.splits.*delete it"):
        dataset_of(run)
    (run.path / DATA).write_bytes(b"[" * 100_000)
    with pytest.raises(RunError, match=r"data\.json is broken"):
        dataset_of(run)
    (home(run) / "classes.txt").write_text("a\nb\nc\nd\n")
    with pytest.raises(RunError, match="has the classes a, b, c, d"):
        dataset_of(run)


def test_bad_images_are_skipped_by_every_command_alike(run: Run) -> None:
    train = home(run) / "train"
    (train / "images/i1.png").write_bytes((train / "images/i1.png").read_bytes()[:-1])
    (train / "masks/i4.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match="i1"):
        Decoded(dataset_of(run).splits["train"])[1]
    settle(run, "skip", ("train", "val"), None, print)
    assert names(run) == ["i0", "i2", "i3", "i5"]
    assert [sample.name for sample in samples_for(run, None, print)] == names(run)
    skipped = dataset_of(run).skipped
    assert set(skipped) == {"train"} and set(skipped["train"]) == {"i1", "i4"}
    assert dataset_of(run).counted("train", 4) == "4 of 6 (2 skipped)"
    assert dataset_of(run).counted("val", 2) == "2"
    first, *each = skipped_lines(skipped)
    assert (
        first == "skipped 2 train images:" and each[0].startswith("  i1: image ") and each[1].startswith("  i4: label ")
    )
    settle(run, None, ("train",), None, print)
    with pytest.raises(RunError, match=r"skips 2 images \(i1, i4\), and --on-bad-image fail forbids it"):
        settle(run, "fail", ("train",), None, print)


def test_the_list_is_not_written_while_another_process_writes_into_the_run(run: Run) -> None:
    dataset_of(run)
    before = (run.path / DATA).read_bytes()
    held = "import sys; from pathlib import Path; from pipeline.core.lock import writing\n"
    held += "with writing(Path(sys.argv[1]), 'train'): print(1, flush=True); sys.stdin.read()"
    other = subprocess.Popen(
        (sys.executable, "-c", held, str(run.path)), stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT
    )
    assert other.stdout.readline()
    with pytest.raises(RunError, match="in use by another process: `train`"):
        settle(run, "skip", ("train",), None, print)
    other.communicate()
    assert (run.path / DATA).read_bytes() == before
    settle(run, "skip", ("train",), None, print)


def test_the_list_is_made_once_and_again_for_other_files(run: Run) -> None:
    train, lines = home(run) / "train", list[str]()
    settle(run, "skip", ("train",), None, lines.append)
    (train / "masks/i4.png").write_bytes(b"no picture")
    with pytest.raises(RunError, match="changed since"):
        settle(run, "skip", ("train",), None, lines.append)
    settle(run, "skip", ("train",), None, lines.append, renew=True)
    assert "i4" not in names(run) and len(names(run)) == 5
    for mask in (train / "masks").iterdir():
        mask.write_bytes(b"no picture")
    settle(run, "skip", ("train",), None, lines.append, renew=True)
    with pytest.raises(DataError, match="every train image"):
        names(run)


def test_photos_without_labels_are_skipped_as_well(run: Run, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    for i in range(3):
        picture(photos, i)
    shutil.rmtree(photos / "masks")
    (photos / "images/i1.png").write_bytes(b"")
    with pytest.raises(DataError, match="i1"):
        samples_for(run, str(photos), print)
    settle(run, "skip", (), str(photos), print)
    assert [s.name for s in samples_for(run, str(photos), print)] == ["images/i0.png", "images/i2.png"]
    with pytest.raises(DataError):
        unlabelled(str(photos), print)


def test_a_large_split_is_counted_by_a_sample_that_is_kept(run: Run, monkeypatch) -> None:
    decoded = Decoded(dataset_of(run).splits["train"])
    whole = census.take_census(run, "train", decoded, 2, print)
    each = [np.bincount(sample.label().ravel(), minlength=3) for sample in decoded.samples]
    assert not whole.sampled and whole.pixels == tuple(np.sum(each, 0))
    assert json.loads((run.path / LABELS).read_text())["known"]
    (run.path / LABELS).unlink()
    monkeypatch.setattr(census, "MOST_PIXELS", 4 * 12 * 16)
    some = census.take_census(run, "train", decoded, 2, print)
    chosen = np.random.default_rng(census.SEED).permutation(6)[:4]
    assert (some.counted, some.of) == (4, 6) and some.pixels == tuple(np.sum([each[i] for i in chosen], 0))
    (run.path / LABELS).unlink()
    whole_after_all = census.take_census(run, "train", decoded, 3, print)  # the sample lacks a class
    assert whole_after_all.pixels == whole.pixels


def test_what_was_counted_is_not_counted_again(run: Run, monkeypatch) -> None:
    decoded = Decoded(dataset_of(run).splits["val"])
    first = census.take_census(run, "val", decoded, 1, print)
    monkeypatch.setattr(census, "_count_some", None)
    assert census.take_census(run, "val", decoded, 1, print) == first
    (run.path / LABELS).write_text("{}")
    with pytest.raises(TypeError):
        census.take_census(run, "val", decoded, 1, print)


@pytest.mark.parametrize(
    "wrong",
    [
        {"pixels": []},
        {"pixels": [1, 2]},
        {"pixels": [-1, 5, 5]},
        {"pixels": [1 << 70, 1, 1]},
        {"of": 7},
        {"counted": 0},
    ],
)
def test_counts_that_cannot_be_are_counted_again(wrong, run: Run) -> None:
    decoded = Decoded(dataset_of(run).splits["val"])
    first = census.take_census(run, "val", decoded, 1, print)
    kept = json.loads((run.path / LABELS).read_text())
    ((key, counts),) = kept["known"].items()
    (run.path / LABELS).write_text(json.dumps({"known": {key: {**counts, **wrong}}}))
    assert census.take_census(run, "val", decoded, 1, print) == first
    assert json.loads((run.path / LABELS).read_text()) == kept


@pytest.mark.parametrize("broken", ["cut", "size", "text", "jpeg"])
def test_the_headers_of_all_files_are_checked_before_training(broken: str, run: Run, monkeypatch) -> None:
    monkeypatch.setattr(census, "MOST_PIXELS", 12 * 16)
    decoded, train = Decoded(dataset_of(run).splits["train"]), home(run) / "train"
    for seed in range(6):  # whichever label is drawn
        mask = train / "masks" / f"i{seed}.png"
        if broken == "cut":
            (train / "images" / f"i{seed}.png").write_bytes((train / "images" / f"i{seed}.png").read_bytes()[:-1])
        elif broken == "size":
            Image.new("L", (16, 13)).save(mask)
        elif broken == "text":
            (train / "images" / f"i{seed}.png").write_text("hello")
        else:
            Image.new("L", (16, 12)).save(mask, "JPEG")
    with pytest.raises(DataError, match=r"truncated|they must have one size|cannot be decoded|is a JPEG"):
        census.take_census(run, "train", decoded, 2, print)
