"""`check` finds what was done to a small dataset, one fault at a time, and nothing in a good one."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from pipeline.check import findings as compared
from pipeline.check.check import Checked, SplitFacts
from pipeline.check.facts import REACH, edge_fits, facts_of
from pipeline.check.findings import FEW_IMAGES, inverted, sizes
from pipeline.check.sheet import sheet
from pipeline.core.dataset import Dataset, Sample, TrainingDefaults
from pipeline.core.errors import DataError
from pipeline.train.judge import fewest_held_out

HEIGHT, WIDTH = 120, 160
SIZES = {"train": (10, 20), "val": (20, 10)}.items()
COLOURS = np.array([(90, 120, 60), (200, 60, 40), (40, 60, 200)], np.int16)


def scene(seed):
    """A picture of two noisy objects on a background, and its label."""
    rng = np.random.default_rng(seed)
    label = np.zeros((HEIGHT, WIDTH), np.uint8)
    for klass in (1, 2):
        top, left = rng.integers(25, 55), rng.integers(25, 80)
        label[top : top + rng.integers(20, 40), left : left + rng.integers(20, 50)] = klass
    image = COLOURS[label] + rng.integers(-15, 16, (HEIGHT, WIDTH, 1)) + rng.integers(-30, 31)
    return np.clip(image, 0, 255).astype(np.uint8), label


def write(root, name, image, label):
    for kind, pixels in (("images", image), ("masks", label)):
        (root / kind).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(root / kind / f"{name}.png")


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    root = tmp_path_factory.mktemp("good") / "photos"
    for split, count in (("train", FEW_IMAGES), ("val", 8)):
        for i in range(count):
            write(root / split, f"{split}{i:02d}", *scene(i if split == "train" else 100 + i))
    (root / "classes.txt").write_text("ground\nred\nblue\n")
    return root


@pytest.fixture
def photos(good, tmp_path):
    return shutil.copytree(good, tmp_path / "photos")


def run(cli, photos, *arguments, code=0):
    time = () if "--size" in arguments else ("--no-time",)
    result = cli("check", f"folder:{photos}", "--json", "check.json", *time, *arguments, cwd=photos.parent)
    assert result.returncode == code, result.stdout + result.stderr
    return result, json.loads((photos.parent / "check.json").read_text())


def change_masks(photos, change, pattern="*/masks/*.png"):
    paths = sorted(photos.glob(pattern))
    for path in paths:
        Image.fromarray(change(np.asarray(Image.open(path)))).save(path)
    return paths


def test_a_good_dataset_is_counted_as_it_is_and_nothing_is_objected_to(cli, photos):
    result, report = run(cli, photos)
    assert report["findings"] == [] and "nothing to object to" in result.stdout
    for split in ("train", "val"):
        masks = [np.asarray(Image.open(p)) for p in sorted((photos / split / "masks").iterdir())]
        facts = report["splits"][split]
        assert facts["pixels"] == [sum(int((m == k).sum()) for m in masks) for k in range(3)]
        assert facts["images_with"] == [sum(bool((m == k).any()) for m in masks) for k in range(3)]
        assert facts["sizes"] == {"120x160": len(masks)} and facts["images"] == len(masks)
    assert "train/ and val/" in report["how_split"]
    picture = Image.open(photos.parent / "contact-sheet-folder.png")
    assert picture.width > 6 * 160 and str(picture.filename).endswith(result.stdout.split()[-1])
    again, _ = run(cli, photos)
    assert again.stdout.split()[-1] == "contact-sheet-folder-2.png"


def test_upright_images_are_counted_though_both_splits_have_their_name():
    facts = {split: [facts_of("a", np.zeros((*size, 3), np.uint8), np.zeros(size, np.uint8))] for split, size in SIZES}
    (found,) = sizes(facts)
    assert found.text.startswith("1 of 2 images are upright") and found.names == ("a",)


def test_a_strip_of_pixels_makes_no_sheet_of_gigabytes():
    image, label = np.zeros((4000, 1, 3), np.uint8), np.zeros((4000, 1), np.uint8)
    dataset = Dataset("folder:x", ("a",), ((1, 2, 3),), {"train": (Sample("a", lambda: image, lambda: label),)})
    assert sheet(dataset).height < 2000


def test_a_contact_sheet_that_is_there_is_refused_before_all_files_are_read(cli, photos):
    (photos.parent / "sheet.png").write_bytes(b"mine")
    result = cli("check", f"folder:{photos}", "--sheet", "sheet.png", "--json", "check.json", cwd=photos.parent)
    assert result.returncode == 2 and "sheet.png is there already" in result.stderr and not result.stdout
    assert (photos.parent / "sheet.png").read_bytes() == b"mine" and not (photos.parent / "check.json").exists()


def test_images_that_the_camera_says_to_turn_are_listed(cli, photos):
    paths = [photos / "train" / "images" / "train03.png", photos / "val" / "images" / "val01.png"]
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down: the size stays
    for path in paths:
        Image.open(path).save(path, exif=exif)
    _, report = run(cli, photos)
    (found,) = (f for f in report["findings"] if "EXIF" in f["text"])
    assert found["names"] == ["train03", "val01"] and found["text"].startswith(f"2 of {FEW_IMAGES + 8} images")


def test_frames_of_a_sequence_on_both_sides_are_warned_of(cli, photos):
    for split, drive, other in (("train", "a", 12), ("val", "a", 4)):
        for number, kind in ((n, k) for n in range(FEW_IMAGES if split == "train" else 8) for k in ("images", "masks")):
            name = f"{drive if number < other else split}_{number:03d}.png"
            (photos / split / kind / f"{split}{number:02d}.png").rename(photos / split / kind / name)
    _, report = run(cli, photos)
    (found,) = (f for f in report["findings"] if "--hold-out a" in f["text"])
    assert found["level"] == "warning" and found["names"] == ["a"]


def test_as_many_images_are_asked_for_as_qat_needs_by_default_to_choose_a_checkpoint():
    checkpoints = TrainingDefaults().qat_steps // 50
    assert FEW_IMAGES // 5 == fewest_held_out(checkpoints) > (FEW_IMAGES - 1) // 5


MOVES = [((5, -3), "by -5 rows and +3 columns"), ((0, 8), "+0 rows and -8 columns")]


@pytest.mark.parametrize(("move", "words"), MOVES)
def test_shifted_masks_are_noticed_with_the_way_back(cli, photos, move, words):
    change_masks(photos, lambda mask: np.roll(mask, move, (0, 1)))
    _, report = run(cli, photos)
    (finding,) = report["findings"]
    assert finding["level"] == "warning" and "look shifted" in finding["text"] and words in finding["text"]


def test_mirrored_masks_are_noticed(cli, photos):
    change_masks(photos, lambda mask: mask[:, ::-1])
    _, report = run(cli, photos)
    assert ["look mirrored" in f["text"] for f in report["findings"]] == [True]


def test_every_file_that_cannot_be_used_is_named_not_the_first_alone(cli, photos):
    (photos / "train" / "images" / "train03.png").write_bytes(b"no picture")
    cut = photos / "val" / "images" / "val02.png"
    cut.write_bytes(cut.read_bytes()[:-60])
    change_masks(photos, lambda mask: mask + 7, "train/masks/train05.png")
    change_masks(photos, lambda mask: mask[:60], "train/masks/train09.png")
    result, report = run(cli, photos, code=2)
    errors = [f["text"] for f in report["findings"] if f["level"] == "error"]
    assert len(errors) == 4
    for name in ("train03.png", "val02.png", "train05.png", "train09.png"):
        assert sum(name in text for text in errors) == 1, errors
    assert "has 4 errors, listed above" in result.stderr and "Traceback" not in result.stderr


def test_the_same_fault_of_many_files_is_said_once_and_what_follows_from_it_not_at_all(cli, photos):
    change_masks(photos, lambda mask: mask + 100)
    result, report = run(cli, photos, code=2)
    assert [(f["level"], len(f["names"])) for f in report["findings"]] == [("error", FEW_IMAGES + 8 - 1)] + [
        ("error", 0)
    ] * 2
    assert "train00.png holds the value 100" in result.stdout and "and 37 more" in result.stdout
    assert "no image of the val split can be used" in result.stdout and "give 35 or more" not in result.stdout
    assert sum(map(len, report["unusable"].values())) == FEW_IMAGES + 8
    run(cli, photos, "--on-bad-image", "skip", "--no-sheet", code=2)


def test_images_of_train_that_are_in_val_as_well_are_an_error_and_alike_ones_a_warning(cli, photos):
    image = Image.open(photos / "train" / "images" / "train07.png")
    image.save(photos / "val" / "images" / "val01.png", compress_level=0)  # another file, the same picture
    shutil.copy(photos / "train" / "masks" / "train07.png", photos / "val" / "masks" / "val01.png")
    nearly = np.asarray(Image.open(photos / "train" / "images" / "train11.png")).copy()
    nearly[0, 0] ^= 1
    Image.fromarray(nearly).save(photos / "val" / "images" / "val04.png")
    shutil.copy(photos / "train" / "masks" / "train11.png", photos / "val" / "masks" / "val04.png")
    shutil.copy(photos / "train" / "images" / "train00.png", photos / "train" / "images" / "train01.png")
    shutil.copy(photos / "train" / "masks" / "train00.png", photos / "train" / "masks" / "train01.png")
    _, report = run(cli, photos, code=2)
    assert [(f["level"], f["names"]) for f in report["findings"]] == [
        ("error", ["val01 = train07"]),
        ("warning", ["train01 = train00"]),
        ("warning", ["val04 ~ train11"]),
    ]


def test_pairs_too_many_to_compare_are_said(monkeypatch):
    images = np.random.default_rng(0).integers(0, 256, (5, 16, 16, 3), np.uint8)
    facts = [facts_of(str(i), image, np.zeros((16, 16), np.uint8)) for i, image in enumerate(images)]
    splits = {"train": facts[:3], "val": [facts[0], *facts[3:]]}
    monkeypatch.setattr(compared, "COMPARED", 9)
    assert [f.names for f in compared.duplicates(splits)] == [("0 = 0",)]
    monkeypatch.setattr(compared, "COMPARED", 8)
    error, note = compared.duplicates(splits)
    assert (
        error.level == "error" and note.level == "note" and "not for similar pictures: more than 8 pairs" in note.text
    )


def test_absent_and_rare_classes_and_empty_labels_are_named(cli, photos):
    change_masks(photos, lambda mask: np.where(mask == 2, 0, mask).astype(np.uint8))
    change_masks(photos, lambda mask: np.where(mask == 1, 2, mask).astype(np.uint8), "train/masks/train0[01].png")
    change_masks(photos, lambda mask: np.full_like(mask, 255), "train/masks/train29.png")
    _, report = run(cli, photos)
    texts = [f["text"] + str(f["names"]) for f in report["findings"]]
    assert any("'blue'" in t and "in val" in t for t in texts), texts
    assert any("hardly learnt" in t and "'blue' (2)" in t for t in texts), texts
    assert any("no labelled pixel" in t and "train29" in t for t in texts), texts


def test_a_split_without_any_label_is_an_error(cli, photos):
    change_masks(photos, lambda mask: np.full_like(mask, 255), "val/masks/*.png")
    _, report = run(cli, photos, code=2)
    assert any(f["level"] == "error" and "no pixel of the val split" in f["text"] for f in report["findings"])


def test_inverted_masks_are_noticed_all_of_them_or_a_few():
    def facts(mask):
        return facts_of("x", np.zeros((*mask.shape, 3), np.uint8), mask)

    blob = np.zeros((40, 40), np.uint8)
    blob[12:28, 12:28] = 1
    right, wrong = facts(blob), facts(1 - blob)
    classes = ("background", "person")
    assert not list(inverted({"train": [right] * 20, "val": [right] * 5}, classes))
    (finding,) = inverted({"train": [wrong] * 20, "val": [wrong] * 5}, classes)
    assert "look inverted" in finding.text and "'person' surrounds" in finding.sentence()
    (finding,) = inverted({"train": [right] * 20 + [wrong], "val": [right] * 5}, ("sky", "roof"))
    assert "1 mask(s) look inverted compared" in finding.text
    assert not list(inverted({"train": [wrong] * 20, "val": [wrong] * 5}, ("sky", "roof")))  # nobody knows


def test_edge_fit_is_its_definition_by_shifts():
    rng = np.random.default_rng(0)
    image = np.repeat(rng.integers(0, 256, (60, 70, 1), np.uint8), 3, -1)
    label = np.zeros((60, 70), np.uint8)
    label[25:35, 30:45] = 1
    fit = edge_fits(image, label)[0]
    grey = image[..., 0].astype(float)
    edges = np.hypot(*np.gradient(grey))
    edges = (edges - edges.mean()) / edges.std()
    boundary = np.zeros((60, 70), bool)
    boundary[:, :-1] |= label[:, :-1] != label[:, 1:]
    boundary[:-1] |= label[:-1] != label[1:]
    rows, columns = np.nonzero(boundary)
    for dy, dx in ((0, 0), (3, -5), (-REACH, REACH)):
        assert fit[REACH + dy, REACH + dx] == pytest.approx(edges[rows + dy, columns + dx].mean())


def test_an_image_of_any_size_has_fits():
    for shape in ((1, 1), (1, 200), (32, 60), (33, 60)):
        label = np.zeros(shape, np.uint8)
        label[:, : shape[1] // 2] = 1
        assert edge_fits(np.zeros((*shape, 3), np.uint8), label).shape == (3, 2 * REACH + 1, 2 * REACH + 1)


def test_the_time_of_a_training_is_estimated_from_real_steps(cli, photos):
    result, report = run(cli, photos, "--size", "161x193", "--steps", "400", "--batch", "2")
    time = report["training_time"]
    assert (time["size"], time["batch"], time["steps"], time["val_images"]) == ("161x193", 2, 400, 8)
    scoring = time["evaluations"] * 8 * time["image_seconds"]
    assert time["seconds"] == pytest.approx(time["first_step_seconds"] + 400 * time["step_seconds"] + scoring)
    assert 0 < time["step_seconds"] < time["first_step_seconds"] and "(estimated)" in result.stdout
    assert list(photos.parent.iterdir()) and not (photos.parent / "runs").exists()
    wrong = cli("check", f"folder:{photos}", "--size", "72", cwd=photos.parent)
    assert wrong.returncode == 2 and "HEIGHTxWIDTH" in wrong.stderr


def test_a_training_is_timed_at_a_size_that_is_told_where_nobody_gives_one(monkeypatch):
    from pipeline.cli.check import _timed

    specs = []
    monkeypatch.setattr("pipeline.cli.check.quiet_tensorflow", lambda: None)

    def never(spec, *_):
        specs.append(spec.size)
        raise DataError("enough")

    monkeypatch.setattr("pipeline.train.estimate.estimate", never)
    dataset = Dataset("some", ("a", "b"), ((0, 0, 0),) * 2, {"train": (), "val": ()})
    seen = Checked(
        "some", ("a", "b"), "", {"train": SplitFacts(0, {}, (0, 0), 0, (0, 0))}, (), {"train": {}, "val": {}}
    )
    for size in (None, "64x96"):
        with pytest.raises(DataError):
            _timed(dataset, seen, TrainingDefaults(size=size), "fast-scnn", 2)
    assert specs == ["360x480", "64x96"]


def test_the_estimate_pastes_rare_classes_as_the_training_would_and_knows_how_long_fine_tuning_is(monkeypatch):
    from pipeline.core.spec import ModelSpec
    from pipeline.train import estimate as estimating
    from pipeline.train.balance import rare_classes
    from pipeline.train.update import Lesson

    lessons: list[Lesson] = []

    def laps(_, lesson, *__):
        lessons.append(lesson)
        return [30.0] + [2.0] * 6

    monkeypatch.setattr("pipeline.train.estimate.models.build", lambda spec: None)
    monkeypatch.setattr(estimating, "_time_steps", laps)
    monkeypatch.setattr(estimating, "_time_scoring", lambda *_: 0.5)
    sample = Sample("a", lambda: scene(0)[0], lambda: scene(0)[1])
    dataset = Dataset("some", ("a", "b", "c"), ((0, 0, 0),) * 3, {"train": (sample,), "val": (sample,)})
    defaults = TrainingDefaults(paste=0.5, steps=1000, tuning_steps=200)
    time = estimating.estimate(
        ModelSpec("fast-scnn", 192, 192, 3), dataset, np.array([900, 90, 10]), defaults, 2, lambda _: None
    )
    assert rare_classes(lessons[0].class_weights) == (2,) and lessons[0].augmentation.paste == 0.5
    assert time.seconds == 30 + 1000 * 2 + 10 * 0.5 and time.tuning_seconds == 30 + 200 * 2 + 2 * 0.5


def test_real_street_scenes_have_one_finding_the_drive_that_train_and_val_share(cli, real_data, tmp_path):
    result = cli("check", f"camvid:{real_data / 'camvid'}", "--no-sheet", "--no-time", cwd=tmp_path)
    assert result.returncode == 0 and "--hold-out 0016E5" in result.stdout and result.stdout.endswith("1 warning\n")
