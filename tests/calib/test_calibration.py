"""Calibration: every estimator against its definition on all values at once, and every way to choose images."""

import functools
import itertools

import numpy as np
import pytest
import tf_keras

from calib.estimators import ESTIMATORS, LEVELS, MOMENTUM, PERCENTILE, SHRINKS, estimator
from calib.images import SELECTIONS, Candidates, choose, pooled_features, selection
from calib.ranges import DEAD_HIGH, measure
from pipeline.core.dataset import IGNORE, Sample
from pipeline.core.errors import BadSpec, DataError, RunError, UnknownName
from pipeline.quantize.calibrate import class_shares
from tests.conftest import noise_images, still

IMAGES = 6


@pytest.fixture(scope="module")
def activations():
    """A network whose layers give a ReLU's half distribution and two-sided ones with rare outliers, and its values."""
    tf_keras.utils.set_random_seed(1)
    rng = np.random.default_rng(2)
    image = tf_keras.layers.Input((40, 60, 3))
    wide = tf_keras.layers.Conv2D(8, 1, name="wide")(image)
    relu = tf_keras.layers.ReLU(name="relu")(wide)
    model = tf_keras.Model(image, tf_keras.layers.Conv2D(4, 3, name="last")(relu))
    images = rng.normal(0.1, 0.3, (IMAGES, 1, 40, 60, 3)).astype(np.float32)
    images[2, 0, 5, 7] = 9.0
    images[4, 0, 5, 7] = -4.0
    points = ["wide", "relu", "last"]
    taps = tf_keras.Model(model.input, [model.get_layer(p).output for p in points])
    values: dict[str, list[np.ndarray]] = {p: [] for p in points}
    for x in images:
        for p, y in zip(points, taps(x), strict=True):
            values[p].append(y.numpy().ravel().astype(np.float64))
    return model, points, lambda: iter(images), values


def ranges_and_values(activations, name):
    model, points, images, values = activations
    return measure(model, points, images, estimator(name)), values


def test_min_max(activations):
    ranges, values = ranges_and_values(activations, "min-max")
    for point, of_images in values.items():
        every = np.concatenate(of_images)
        assert ranges[point].low == pytest.approx(min(0, every.min()), rel=1e-5)
        assert ranges[point].high == pytest.approx(max(0, every.max()), rel=1e-5)


def test_moving_average(activations):
    ranges, values = ranges_and_values(activations, "moving-average")
    for point, of_images in values.items():
        low, high = min(0, of_images[0].min()), max(0, of_images[0].max())
        for x in of_images[1:]:
            low, high = MOMENTUM * low + 0.1 * min(0, x.min()), MOMENTUM * high + 0.1 * max(0, x.max())
        assert (ranges[point].low, ranges[point].high) == pytest.approx((low, high), rel=1e-5)


def bin_width(every):
    return (max(0, every.max()) - min(0, every.min())) / 2048


def test_percentile(activations):
    ranges, values = ranges_and_values(activations, "percentile")
    for point, of_images in values.items():
        every = np.concatenate(of_images)
        low, high = np.percentile(every, [100 - PERCENTILE, PERCENTILE])
        # NumPy interpolates between two values, the histogram inside a bin: they differ by the gap at that rank.
        near = np.sort(every)[[int(0.0001 * len(every)) + i for i in (-2, 2)]]
        gap = bin_width(every) + abs(near[1] - near[0])
        assert abs(ranges[point].low - min(0, low)) <= gap
        near = np.sort(every)[[int(0.9999 * len(every)) + i for i in (-2, 2)]]
        assert abs(ranges[point].high - max(0, high)) <= bin_width(every) + abs(near[1] - near[0])
        assert ranges[point].high < 0.95 * every.max()


def rounding_error(every, low, high):
    step = (high - low) / 255
    zero = np.rint(-low / step)
    codes = np.clip(np.rint(every / step) + zero, 0, 255)
    return np.mean((every - (codes - zero) * step) ** 2)


def test_mean_squared_error(activations):
    ranges, values = ranges_and_values(activations, "mse")
    for point, of_images in values.items():
        every = np.concatenate(of_images)
        lowest, highest = min(0, every.min()), max(0, every.max())
        lows = lowest * SHRINKS[::4] if lowest < 0 else [0.0]
        best = min(rounding_error(every, low, high) for low in lows for high in highest * SHRINKS[::4])
        error = rounding_error(every, ranges[point].low, ranges[point].high)
        assert error <= 1.1 * best
        assert error < rounding_error(every, lowest, highest)


def kl_by_definition(every, low, high, bins):
    """Migacz's algorithm on the values themselves: reference with outliers moved in, against its 256 levels."""
    edges = np.linspace(min(0, every.min()), max(0, every.max()), bins + 1)
    counts, _ = np.histogram(every, edges)
    counts = counts.astype(float)
    zero = min(bins - 1, int(np.searchsorted(edges, 0.0, "right")) - 1)
    counts[zero] = min(counts[zero], max(counts[i] for i in (zero - 1, zero + 1) if 0 <= i < bins))
    first, last = int(np.abs(edges - low).argmin()), int(np.abs(edges - high).argmin())
    inside = counts[first:last]
    reference = inside.copy()
    reference[0] += counts[:first].sum()
    reference[-1] += counts[last:].sum()
    quantized = np.zeros_like(inside)
    bounds = [-(-i * len(inside) // LEVELS) for i in range(LEVELS + 1)]
    for a, b in itertools.pairwise(bounds):
        filled = reference[a:b] > 0
        if filled.any():
            quantized[a:b][filled] = inside[a:b].sum() / filled.sum()
    p, q = reference / reference.sum(), quantized / quantized.sum()
    keep = p > 0
    return float((p[keep] * np.log(p[keep] / np.maximum(q[keep], 1e-9))).sum())


def test_entropy(activations):
    ranges, values = ranges_and_values(activations, "entropy")
    for point, of_images in values.items():
        every = np.concatenate(of_images)
        lowest, highest = min(0, every.min()), max(0, every.max())
        tried = [kl_by_definition(every, lowest * s, highest * s, 2048) for s in np.linspace(0.13, 1, 60)]
        divergence = kl_by_definition(every, ranges[point].low, ranges[point].high, 2048)
        assert divergence <= 1.02 * min(tried) + 1e-4
        assert ranges[point].high < highest


@pytest.mark.parametrize("name", sorted(ESTIMATORS))
def test_a_range_holds_zero_and_lies_within_the_extremes(activations, name):
    ranges, values = ranges_and_values(activations, name)
    for point, of_images in values.items():
        every = np.concatenate(of_images)
        assert min(0, every.min()) - 1e-4 <= ranges[point].low <= 0 <= ranges[point].high <= every.max() + 1e-4
    assert ranges["relu"].low == 0


@pytest.mark.parametrize("name", sorted(ESTIMATORS))
def test_a_dead_layer_and_a_broken_one(name):
    image = tf_keras.layers.Input((4, 4, 3))
    dead = tf_keras.layers.Conv2D(2, 1, bias_initializer=tf_keras.initializers.Constant(-9), name="conv")(image)
    model = tf_keras.Model(image, tf_keras.layers.ReLU(name="dead")(dead))
    nothing = np.zeros((1, 4, 4, 3), np.float32)
    dead = measure(model, ["dead"], lambda: [nothing], estimator(name))["dead"]
    assert (dead.low, dead.high) == (0, DEAD_HIGH)
    for bad in (np.nan, np.inf):
        image = nothing.copy()
        image[0, 1, 1, 1] = bad
        with pytest.raises(RunError, match="'conv'.*not finite"):
            measure(model, ["conv"], functools.partial(list, [image]), estimator(name))
    with pytest.raises(DataError, match="no image"):
        measure(model, ["dead"], lambda: [], estimator(name))


@pytest.mark.parametrize("size", [1, 7, 180])
def test_a_nan_is_found_wherever_it_is(size):
    image = tf_keras.layers.Input((size, size, 3))
    model = tf_keras.Model(image, tf_keras.layers.ReLU(name="relu")(image))
    rng = np.random.default_rng(size)
    for _ in range(8):
        image = -np.abs(rng.normal(size=(1, size, size, 3))).astype(np.float32)
        image.flat[rng.integers(image.size)] = np.nan
        with pytest.raises(RunError, match="'relu'.*not finite"):
            measure(model, ["relu"], functools.partial(list, [image]))


def samples(count):
    return [Sample(f"{i:03}", None, None) for i in range(count)]


def candidates(count, shares=None, features=None):
    return Candidates(samples(count), lambda: shares, lambda: features)


def names(chosen):
    return [s.name for s in chosen]


def test_the_first_and_random_ones():
    pool = candidates(30)
    assert names(choose(pool, 4, selection("first"), 0)) == ["000", "001", "002", "003"]
    a, b, c = (names(choose(pool, 8, selection("random"), seed)) for seed in (1, 1, 2))
    assert a == b != c and len(set(a)) == 8 and a == sorted(a)


def test_class_balance_prefers_the_rare():
    rng = np.random.default_rng(0)
    shares = np.zeros((40, 3))
    shares[:, 0] = 0.9
    shares[:, 1] = 0.1
    rare = rng.choice(40, 5, replace=False)
    shares[rare] = [0.6, 0.1, 0.3]
    chosen = choose(candidates(40, shares), 5, selection("class-balanced"), 0)
    assert {int(n) for n in names(chosen)} == set(rare.tolist())
    every = choose(candidates(40, shares), 12, selection("class-balanced"), 0)
    assert len(set(names(every))) == 12


def test_coverage_is_within_twice_the_best_radius():
    """Gonzalez's theorem, against every choice of three out of twelve."""
    rng = np.random.default_rng(3)
    features = rng.normal(size=(12, 2))
    features /= features.std(0)
    chosen = [int(n) for n in names(choose(candidates(12, features=features), 3, selection("coverage"), 0))]

    def radius(centres):
        return max(min(np.linalg.norm(f - features[c]) for c in centres) for f in features)

    best = min(radius(c) for c in itertools.combinations(range(12), 3))
    assert radius(chosen) <= 2 * best
    twins = np.repeat(features[:4], 3, 0)
    of_twins = [int(n) for n in names(choose(candidates(12, features=twins), 4, selection("coverage"), 0))]
    assert {c // 3 for c in of_twins} == {0, 1, 2, 3}


@pytest.mark.parametrize("name", sorted(SELECTIONS))
def test_asking_for_more_than_there_are_gives_all(name):
    assert names(choose(candidates(5), 9, selection(name), 0)) == names(samples(5))


def test_pooled_features_are_spatial_means():
    model = still("fcn8")
    images = noise_images(model, 2)
    features = pooled_features(model, ["block1_conv1_relu", "score8"], (x[None] for x in images))
    taps = tf_keras.Model(model.input, [model.get_layer(n).output for n in ("block1_conv1_relu", "score8")])
    for i, x in enumerate(images):
        expected = np.concatenate([y.numpy().mean((0, 1, 2)) for y in taps(x[None])])
        assert features[i] == pytest.approx(expected, rel=1e-3, abs=1e-4)


def test_class_shares_are_counted_and_need_labels():
    label = np.array([[0, 0, 2], [2, IGNORE, 2]], np.uint8)
    assert class_shares([Sample("a", None, lambda: label)], 3).tolist() == [[2 / 6, 0, 3 / 6]]
    with pytest.raises(BadSpec, match="class-balanced needs labels"):
        class_shares([Sample("a", None, lambda: np.full((2, 2), IGNORE, np.uint8))], 3)


def test_unknown_names_are_answered_with_the_nearest():
    with pytest.raises(UnknownName, match="did you mean 'entropy'"):
        estimator("entropi")
    with pytest.raises(UnknownName, match="did you mean 'coverage'"):
        selection("coverag")
