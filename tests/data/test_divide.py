"""The test split, which nothing learns from, and other divisions of the labelled images."""

import ast
from pathlib import Path

import numpy as np
import pytest

import pipeline
from pipeline.cli.resolve import Wanted
from pipeline.core.dataset import Dataset, Sample
from pipeline.core.division import UNDIVIDED, Division
from pipeline.core.errors import BadSpec, DataError
from pipeline.core.run import create, open_run
from pipeline.core.spec import ModelSpec
from pipeline.data import TEST, dataset_of, dataset_to_score, split_to_score
from pipeline.data.divide import divide, sequence_of, shared_sequences
from tests.support.small_datasets import MAKERS, opened, write_image, write_label

SPEC = ModelSpec("fast-scnn", 64, 64, 3)


def names(samples):
    return [sample.name for sample in samples]


def dataset(train, val):
    def blank(name):
        return Sample(name, lambda: np.zeros((2, 2, 3), np.uint8), lambda: np.zeros((2, 2), np.uint8))

    return Dataset(
        "drives", ("a", "b"), ((0, 0, 0), (1, 1, 1)), {"train": (*map(blank, train),), "val": (*map(blank, val),)}
    )


DRIVES = dataset(["a_1", "a_2", "b_1", "b_2"], ["b_3", "c_1"])


def test_the_whole_of_train_and_val_is_trained_on():
    divided = divide(DRIVES, Division("train+val"))
    assert names(divided.splits["train"]) == ["a_1", "a_2", "b_1", "b_2", "b_3", "c_1"]
    assert names(divided.splits["val"]) == ["b_3", "c_1"] and "val is trained on" in divided.how_split
    assert Division("train+val").trains_on_val and not Division("train+val", ("b",)).trains_on_val


@pytest.mark.parametrize(
    ("division", "train", "val"),
    [
        (Division("train", ("b",)), ["a_1", "a_2"], ["b_1", "b_2", "b_3"]),
        (Division("train+val", ("b",)), ["a_1", "a_2", "c_1"], ["b_1", "b_2", "b_3"]),
        (Division("train+val", ("b_3", "c")), ["a_1", "a_2", "b_1", "b_2"], ["b_3", "c_1"]),
        (UNDIVIDED, ["a_1", "a_2", "b_1", "b_2"], ["b_3", "c_1"]),
    ],
)
def test_what_is_held_out_is_the_validation_and_nothing_of_it_is_trained_on(division, train, val):
    divided = divide(DRIVES, division)
    assert (names(divided.splits["train"]), names(divided.splits["val"])) == (train, val)


def test_a_division_that_leaves_nothing_is_refused():
    with pytest.raises(DataError, match="'x': names begin with 'b', 'a', 'c'"):
        divide(DRIVES, Division(hold_out=("x",)))
    with pytest.raises(DataError, match="none is left to train on"):
        divide(DRIVES, Division(hold_out=("a", "b")))
    with pytest.raises(BadSpec, match="empty"):
        Division(hold_out=("",))
    with pytest.raises(BadSpec, match="'val': choose one of train, train"):
        Division("val")  # type: ignore[arg-type]


def test_a_run_keeps_its_division_and_one_of_an_earlier_version_has_none(tmp_path):
    MAKERS["folder"](tmp_path / "set")
    data = opened("folder", tmp_path / "set")
    division = Division("train+val", ("a",))
    run = create(tmp_path / "run", SPEC, data.text, data.classes, data.colours, 0, division)
    assert open_run(run.path).config.division == division
    assert names(dataset_of(run).splits["val"]) == ["a", "a"] and names(dataset_of(run).splits["train"]) == ["b", "b"]
    text = run.path.joinpath("run.json").read_text()
    earlier = text[: text.index(',\n  "division"')] + text[text.index(',\n  "preprocessing"') :]
    (run.path / "run.json").write_text(earlier)
    assert open_run(run.path).config.division == UNDIVIDED


def test_what_is_held_out_may_be_named_in_any_order(tmp_path):
    run = create(tmp_path, SPEC, "synthetic", "abc", (), 0, Division("train", ("a", "b")))
    assert Wanted(hold_out=("b", "a", "b")).differences(run) == [] == Wanted().differences(run)
    assert Wanted(hold_out=("b",), train_on="train+val").differences(run) == [
        "train on train, not train+val",
        "hold out a, b, not b",
    ]


@pytest.mark.parametrize(
    ("name", "sequence"),
    [
        ("0016E5_07959", "0016E5"),
        ("Seq05VD_f00150", "Seq05VD"),
        ("aachen_000000_000019", "aachen_000000"),
        ("0042", ""),
        ("cat", "cat"),
        ("site-b 12", "site-b"),
    ],
)
def test_a_sequence_is_what_comes_before_the_frame(name, sequence):
    assert sequence_of(name) == sequence


def test_shared_sequences_are_named_where_names_tell():
    assert shared_sequences(DRIVES) == ("b",)
    assert shared_sequences(dataset(["a_1", "a_2", "b_1"], ["c_1"])) == ()
    assert shared_sequences(dataset(["1", "2", "3"], ["4"])) == ()  # numbers alone
    assert shared_sequences(dataset(["img_1", "img_2"], ["img_3"])) == ()  # one sequence in all
    assert shared_sequences(dataset(["cat", "dog"], ["cow", "cat2"])) == ()  # each a name of its own


# The test split


def test_the_test_split_is_opened_for_a_score_alone():
    """Training, calibration and choosing cannot meet it: one function opens it, and only scoring calls that."""
    home = Path(pipeline.__file__).parent

    def users(name):
        return {
            str(file.relative_to(home))
            for file in home.rglob("*.py")
            if any(
                (isinstance(node, ast.Attribute) and node.attr == name)
                or (isinstance(node, ast.Name) and node.id == name)
                for node in ast.walk(ast.parse(file.read_text()))
            )
        }

    assert {file for file in users("open_test") if not file.startswith("core/dataset")} <= {
        "data/__init__.py",
        "data/folder.py",
    }
    assert users("dataset_to_score") == {
        "measure/evaluation.py",
        "measure/score_shards.py",
        "cli/evaluate.py",
        "data/bad_images.py",  # looks for files that cannot be decoded
    }


@pytest.mark.parametrize("kind", sorted(MAKERS))
def test_each_dataset_has_its_test_split_or_says_why_not(kind, tmp_path):
    root = tmp_path / "set"
    MAKERS[kind](root)
    before = opened(kind, root)
    image, mask = {
        "camvid": (root / "test" / "x.png", root / "testannot" / "x.png"),
        "folder": (root / "test" / "images" / "x.png", root / "test" / "masks" / "x.png"),
    }.get(kind, (root / "unused.png", root / "unused.png"))
    if kind in ("camvid", "folder", "cityscapes"):
        with pytest.raises(DataError, match="test"):
            before.open_test()
    else:
        assert "not public" in before.val_is_test
    write_image(image)
    write_label(mask, [0, 1, 2])
    after = opened(kind, root)
    assert {s: names(after.splits[s]) for s in after.splits} == {s: names(before.splits[s]) for s in before.splits}
    if kind in ("camvid", "folder"):
        assert names(after.open_test()) == ["x"] and after.open_test()[0].label().ravel()[:3].tolist() == [0, 1, 2]


def test_the_built_in_test_scenes_are_others(tmp_path):
    run = create(
        tmp_path / "run", SPEC, "synthetic", opened_classes := dataset_classes(), ((0, 0, 0),) * len(opened_classes), 0
    )
    test, val = (dataset_to_score(run, split).splits[split] for split in (TEST, "val"))
    assert len(test) == 64 and not set(names(test)) & set(names(val))
    assert not np.array_equal(test[0].image(), val[0].image())
    assert split_to_score(run, TEST, print) == TEST


def dataset_classes():
    from pipeline.data import open_dataset

    return open_dataset("synthetic").classes


def test_val_stands_for_the_test_split_where_its_labels_are_not_public(tmp_path):
    MAKERS["voc"](tmp_path / "set")
    data = opened("voc", tmp_path / "set")
    run = create(tmp_path / "run", SPEC, data.text, data.classes, data.colours, 0)
    said: list[str] = []
    assert split_to_score(run, TEST, said.append) == "val" and "val stands for it" in said[0]
