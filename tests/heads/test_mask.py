"""The exact mask, in C and in NumPy, against its definition: every class at every pixel, in 64-bit integers."""

import subprocess
from fractions import Fraction

import numpy as np
import pytest

from pipeline.core.errors import ArtifactError, CompilerError
from pipeline.core.mask import Grid
from pipeline.heads.exact import exact_mask, nearest_mask
from pipeline.heads.full_size import mask_of
from pipeline.heads.native import NativeMask, build, compiler
from pipeline.heads.shipping import SOURCES
from tests.conftest import ROOT

CONVENTIONS = ["align_corners", "half_pixel"]
needs_compiler = pytest.mark.skipif(compiler() is None, reason="no C compiler: apt-get install gcc libc6-dev")


def places(samples, pixels, resize):
    """Where each pixel lies between samples, from TensorFlow's definition: the numbers over one denominator."""
    at = np.arange(pixels, dtype=np.int64)
    if resize == "half_pixel":
        return np.clip((2 * at + 1) * samples - pixels, 0, 2 * pixels * (samples - 1)), 2 * pixels
    return (at * (samples - 1), pixels - 1) if pixels > 1 else (0 * at, 1)


def dense(logits, height, width, resize):
    x = logits.astype(np.int64)
    for axis, pixels in ((0, height), (1, width)):
        place, den = places(x.shape[axis], pixels, resize)
        low = place // den
        high = np.minimum(low + 1, x.shape[axis] - 1)
        share = (place - low * den).reshape([-1 if i == axis else 1 for i in range(3)])
        x = x.take(low, axis) * (den - share) + x.take(high, axis) * share
    return x.argmax(-1).astype(np.uint8)


def smooth(rng, shape):
    coarse = rng.normal(size=(shape[0] // 4 + 2, shape[1] // 4 + 2, shape[2]))
    fine = coarse.repeat(4, 0).repeat(4, 1)[: shape[0], : shape[1]] * 40 + rng.normal(size=shape) * 10
    return np.clip(np.rint(fine), -128, 127).astype(np.int8)


VALUES = {
    "random": lambda rng, shape: rng.integers(-128, 128, shape, np.int8),
    "smooth": smooth,
    "tied": lambda rng, shape: rng.integers(-1, 2, shape, np.int8),
    "extremes": lambda rng, shape: rng.choice(np.array([-128, 127], np.int8), shape),
    "constant": lambda rng, shape: np.full(shape, 7, np.int8),
}
SHAPES = [
    (6, 8, 11, 48, 64),
    (6, 8, 11, 45, 61),
    (5, 7, 19, 5, 7),
    (9, 12, 4, 18, 24),
    (9, 12, 4, 17, 47),
    (1, 9, 5, 8, 72),
    (9, 1, 5, 72, 8),
    (1, 1, 6, 13, 9),
    (4, 5, 3, 1, 1),
    (1, 5, 3, 1, 40),
    (5, 1, 3, 40, 1),
    (40, 50, 6, 7, 9),
    (31, 33, 6, 1, 50),
    (13, 17, 5, 11, 30),
    (3, 4, 3, 97, 301),
    (2, 2, 2, 40, 70),
    (6, 8, 1, 48, 64),
    (6, 8, 2, 48, 64),
    (4, 5, 256, 21, 33),
    (7, 11, 3, 1500, 1500),
]
"""The last one's sums do not fit into 32 bits with half-pixel centres."""


@pytest.fixture(scope="module")
def native(tmp_path_factory):
    return NativeMask(tmp_path_factory.mktemp("native"))


def name_of(shape):
    return "{}x{}x{} to {}x{}".format(*shape)


def cases(shape, resize):
    rng = np.random.default_rng(sum(shape))
    for kind, make in VALUES.items() if shape[-1] < 1000 else [("extremes", VALUES["extremes"])]:
        logits = make(rng, shape[:3])
        yield kind, logits, dense(logits, shape[3], shape[4], resize)


@pytest.mark.parametrize("resize", CONVENTIONS)
@pytest.mark.parametrize("shape", SHAPES, ids=name_of)
def test_numpy_gives_the_mask_of_the_definition(shape, resize):
    for kind, logits, expected in cases(shape, resize):
        assert np.array_equal(exact_mask(logits, Grid(shape[3], shape[4], resize)), expected), kind


@needs_compiler
@pytest.mark.parametrize("resize", CONVENTIONS)
@pytest.mark.parametrize("shape", SHAPES, ids=name_of)
def test_c_gives_the_mask_of_the_definition(native, shape, resize):
    for kind, logits, expected in cases(shape, resize):
        assert np.array_equal(native.exact(logits, Grid(shape[3], shape[4], resize)), expected), kind


@needs_compiler
@pytest.mark.parametrize(
    "flags", ["-O0", "-O3", *(pytest.param(x, marks=pytest.mark.real) for x in ("-O1", "-Os", "-O3 -march=native"))]
)
def test_c_is_right_however_it_is_compiled(tmp_path, flags):
    built = NativeMask(tmp_path, *flags.split())
    for shape in ((6, 8, 11, 48, 64), (4, 5, 256, 21, 33)):
        for kind, logits, expected in cases(shape, "align_corners"):
            assert np.array_equal(built.exact(logits, Grid(*shape[3:], "align_corners")), expected), kind


@pytest.fixture(scope="module")
def sanitized(tmp_path_factory):
    """segquant_mask.c under the address and undefined behaviour sanitizers: [(function, sizes, samples)] → masks."""
    path = tmp_path_factory.mktemp("sanitized") / "driver"
    sources = [SOURCES[0], ROOT / "tests" / "support" / "mask_driver.c"]
    driver = build(sources, path, "-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")

    def call(*requests):
        sent = b"".join(np.array([f, *sizes], np.int32).tobytes() + samples.tobytes() for f, sizes, samples in requests)
        result = subprocess.run([str(driver)], input=sent, capture_output=True, check=False)
        assert result.returncode == 0, result.stderr.decode()
        answers, at = [], 0
        for _, (_, _, _, _, height, width, row_bytes, _), _ in requests:
            length = (height - 1) * row_bytes + width
            code = int(np.frombuffer(result.stdout, np.int32, 1, at)[0])
            answers.append((code, np.frombuffer(result.stdout, np.uint8, length, at + 4)))
            at += 4 + length
        return answers

    return call


@needs_compiler
def test_c_stays_within_its_arrays_and_the_language(sanitized):
    requests, expected = [], []
    for shape in SHAPES[:-1]:
        for code, resize in enumerate(CONVENTIONS):
            height, width, classes, rows, columns = shape
            for kind in ("random", "tied", "extremes"):
                logits = VALUES[kind](np.random.default_rng(1), shape[:3])
                sizes = (height, width, classes, width * classes, rows, columns, columns, code)
                requests.append((0, sizes, logits))
                expected.append(dense(logits, rows, columns, resize).ravel())
    for (code, mask), right in zip(sanitized(*requests), expected, strict=True):
        assert code == 0 and np.array_equal(mask, right)


@needs_compiler
def test_bytes_between_rows_are_left_alone(sanitized):
    logits = VALUES["random"](np.random.default_rng(2), (6, 8, 5))
    spaced = np.full((6, 8 * 5 + 9), 99, np.int8)
    spaced[:, : 8 * 5] = logits.reshape(6, -1)
    sent = spaced.ravel()[: 5 * 49 + 40]
    ((code, mask),) = sanitized((0, (6, 8, 5, 49, 48, 64, 70, 0), sent))
    rows = np.append(mask, np.full(6, 0xAA, np.uint8)).reshape(48, 70)
    assert code == 0 and np.array_equal(rows[:, :64], dense(logits, 48, 64, "align_corners"))
    assert (rows[:, 64:] == 0xAA).all()


@needs_compiler
@pytest.mark.parametrize(
    ("code", "sizes"),
    [
        (-1, (2, 2, 3, 6, 4, 32769, 32769, 0)),
        (-2, (2, 2, 0, 6, 4, 4, 4, 0)),
        (-2, (1, 1, 257, 257, 4, 4, 4, 0)),
        (-3, (2, 2, 3, 5, 4, 4, 4, 0)),
        (-3, (2, 2, 3, 6, 4, 4, 3, 0)),
        (-4, (2, 2, 3, 6, 4, 4, 4, 2)),
    ],
)
def test_what_cannot_be_is_an_error_code_and_nothing_is_written(sanitized, code, sizes):
    samples = np.zeros((sizes[0] - 1) * sizes[3] + sizes[1] * sizes[2], np.int8)
    ((returned, mask),) = sanitized((0, sizes, samples))
    assert returned == code and (mask == 0xAA).all()


@needs_compiler
def test_null_pointers_and_empty_sizes_are_errors(native):
    a = np.zeros(64, np.int32).ctypes.data
    assert native._mask(None, 2, 2, 3, 6, a, 4, 4, 4, 0, a) == -5
    assert native._mask(a, 2, 2, 3, 6, a, 4, 4, 4, 0, None) == -5
    assert native._mask(a, 0, 2, 3, 6, a, 4, 4, 4, 0, a) == -1
    assert native._expand(a, 2, 2, None, 4, 4, 4, 0, a) == -5


def test_a_missing_or_failing_compiler_is_said(monkeypatch, tmp_path):
    if compiler():
        with pytest.raises(CompilerError, match="failed: .*unknown-flag"):
            NativeMask(tmp_path, "--unknown-flag")
    monkeypatch.setattr("pipeline.heads.native.compiler", lambda: None)
    with pytest.raises(CompilerError, match="no C compiler: install one .*apt-get install gcc"):
        NativeMask(tmp_path)


@pytest.mark.parametrize(
    "output",
    [
        np.zeros((1, 10), np.int8),
        np.zeros((1, 4, 4, 0), np.int8),
        np.zeros((1, 4, 4, 257), np.int8),
        np.full((1, 4, 4), 256, np.int32),
        np.full((1, 4, 4), -1, np.int32),
        np.zeros((1, 4, 4), np.float32),
    ],
)
def test_an_output_of_no_mask_is_refused(output):
    with pytest.raises(ArtifactError, match="expected"):
        mask_of(output, 4, 4)


def test_only_small_integers_have_an_exact_mask():
    for logits in (np.zeros((2, 2, 3), np.float32), np.zeros((2, 2, 257), np.int8), np.zeros((2, 2), np.int8)):
        with pytest.raises(ArtifactError, match="exact mask needs int8"):
            exact_mask(logits, Grid(4, 4, "half_pixel"))


def nearest_from_definition(samples, pixels, resize):
    place, den = places(samples, pixels, resize)
    nearest = []
    for p in place:
        away = [abs(Fraction(int(p), den) - s) for s in range(samples)]
        nearest.append(max(s for s in range(samples) if away[s] == min(away)))
    return nearest


@pytest.mark.parametrize("resize", CONVENTIONS)
@pytest.mark.parametrize("shape", [s for s in SHAPES if s[-1] < 1000], ids=name_of)
def test_the_nearest_sample_is_the_nearest(shape, resize, request):
    height, width, _, rows, columns = shape
    classes = np.random.default_rng(0).integers(0, 256, (height, width), np.int32)
    at = np.ix_(nearest_from_definition(height, rows, resize), nearest_from_definition(width, columns, resize))
    grid = Grid(rows, columns, resize)
    assert np.array_equal(nearest_mask(classes, grid), classes[at])
    if compiler():
        native, sanitized = request.getfixturevalue("native"), request.getfixturevalue("sanitized")
        assert np.array_equal(native.nearest(classes, grid), classes[at])
        sizes = (height, width, 1, 0, rows, columns, columns, CONVENTIONS.index(resize))
        ((code, mask),) = sanitized((1, sizes, classes))
        assert code == 0 and np.array_equal(mask, classes[at].ravel())
