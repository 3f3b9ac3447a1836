"""`predict --like mediapipe` against its definition in OpenCV's and MediaPipe's sources, and against MediaPipe."""

import math

import numpy as np
import pytest
from PIL import Image

from pipeline.core.errors import ArtifactError
from pipeline.core.file_spec import FileSpec
from pipeline.predict.mediapipe import MediaPipeMask, MediaPipePreprocessing
from pipeline.predict.segmenter import segmenter
from tests.support.ask_mediapipe import asked
from tests.support.shipped import shipped, shipped_into

SIZES = [(40, 61), (200, 310), (2, 3), (33, 900)]
"""MediaPipe 1.2.2 ends the process at one of a single row or column, where it divides by zero."""


@pytest.fixture(scope="module")
def run_and_artifact(tmp_path_factory):
    return shipped(tmp_path_factory.mktemp("shipped"))


def picture(height, width, seed=0):
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (height // 9 + 1, width // 9 + 1, 3))
    noisy = coarse.repeat(9, 0).repeat(9, 1)[:height, :width] + rng.integers(-20, 20, (height, width, 3))
    return noisy.clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("size", [(40, 61), (9, 5), (1, 1)])
def test_the_image_is_sampled_at_32nds_of_a_pixel_from_its_corner(size):
    image, (height, width) = picture(*size), (16, 24)
    expected = np.empty((height, width, 3), np.uint8)
    for y in range(height):
        for x in range(width):
            v, u = round(32 * y * size[0] / height) / 32, round(32 * x * size[1] / width) / 32
            top, left = math.floor(v), math.floor(u)
            for c in range(3):
                total = 0.0
                for j, i in ((0, 0), (0, 1), (1, 0), (1, 1)):
                    weight = (v - top if j else 1 - v + top) * (u - left if i else 1 - u + left)
                    total += weight * int(image[min(top + j, size[0] - 1), min(left + i, size[1] - 1), c])
                expected[y, x, c] = math.floor(total + 0.5)
    assert (MediaPipePreprocessing(height, width).fit(image) == expected).all()


@pytest.mark.parametrize("size", [(7, 9), (31, 50), (1, 1), (3, 4)])
def test_the_mask_interpolates_from_corner_to_corner(size):
    logits = np.random.default_rng(1).integers(-128, 128, (1, 7, 9, 5)).astype(np.int8)
    mask = MediaPipeMask(0.25, 3)(logits, *size)
    reals = (logits[0].astype(np.float64) - 3) * 0.25
    for y in range(size[0]):
        for x in range(size[1]):
            v, u = (n * (samples - 1) / max(1, pixels - 1) for n, samples, pixels in ((y, 7, size[0]), (x, 9, size[1])))
            j, i = min(int(v), 5), min(int(u), 7)
            t, s = v - j, u - i
            upper = reals[j, i] * (1 - s) + reals[j, i + 1] * s
            lower = reals[j + 1, i] * (1 - s) + reals[j + 1, i + 1] * s
            between = upper * (1 - t) + lower * t
            assert between[mask[y, x]] >= between.max() - 1e-4, (y, x)
    assert len(np.unique(MediaPipeMask()(logits, 31, 50))) == 5


def test_it_is_another_mask_than_ours_but_where_nothing_is_resized(cli, run_and_artifact, tmp_path):
    run, artifact = run_and_artifact
    height, width = run.config.model.height, run.config.model.width
    for name, size in (("same", (height, width)), ("other", (2 * height, 3 * width))):
        Image.fromarray(picture(*size)).save(tmp_path / f"{name}.png")
        masks = []
        for more in ((), ("--like", "mediapipe")):
            out = tmp_path / f"{name}{len(more)}"
            ask = ("predict", f"{name}.png", "--model", str(artifact.path), "--write", "mask", "--out", str(out))
            result = cli(*ask, *more, cwd=tmp_path)
            assert result.returncode == 0, result.stderr
            masks.append(np.asarray(Image.open(out / "mask" / f"{name}.png")))
        same = (masks[0] == masks[1]).mean()
        assert same == 1 if name == "same" else 0.3 < same < 0.999, (name, same)


def test_a_file_that_mediapipe_misreads_is_refused(run_and_artifact):
    int8 = shipped_into(run_and_artifact[0], "ethos-u55", FileSpec(), recipe_spec=FileSpec(io="int8"))
    with pytest.raises(ArtifactError, match="input is int8"), segmenter(int8, "mediapipe"):
        pass


@pytest.mark.real
@pytest.mark.parametrize(
    "spec",
    [FileSpec(), FileSpec(stride=8), FileSpec(io="float32", weights="float16")],
    ids=["cpu", "cpu stride 8", "gpu"],
)
def test_mediapipe_opens_our_files_and_its_masks_are_these(run_and_artifact, tmp_path, spec):
    run, _ = run_and_artifact
    artifact = shipped_into(run, "gpu" if spec.weights == "float16" else "cpu", spec)
    sizes = [(run.config.model.height, run.config.model.width), *SIZES]
    images = {f"{h}x{w}": picture(h, w, seed=h) for h, w in sizes}
    answer, masks = asked(artifact.path, images, tmp_path)
    assert answer["labels"] == list("abcde")
    with segmenter(artifact, "mediapipe") as network:
        ours = {name: network.infer(image) for name, image in images.items()}
    equal = {name: (ours[name] == masks[name]).mean() for name in images}
    # Every pixel, on x86-64, of 1.2.2: the same integers for the image and the same float32 for the logits.
    assert all(share == 1 for share in equal.values()), equal
    assert len(np.unique(masks["200x310"])) >= 3, "few classes prove nothing"
