"""Numbers of the Python API: finite and in their range, or the error says what came and what is allowed."""

import math

import numpy as np
import pytest

from pipeline.core.calibration import Calibration
from pipeline.core.errors import BadSpec
from pipeline.core.number import real, whole
from pipeline.core.run import create
from pipeline.core.spec import ModelSpec
from pipeline.gate.checks import Limits
from pipeline.measure.plan import BenchPlan
from pipeline.train.feed import Augmentation


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -1, 101, "5", None, True, 10**400, np.float32("nan")])
def test_what_is_no_number_of_the_range_is_refused(value):
    with pytest.raises(BadSpec, match="limit is .*: give a number from 0 to 100"):
        real("limit", value, 0, 100)


def test_numbers_of_every_kind_are_taken():
    for value in (0, 100, 1.5, np.float32(7), np.int64(3)):
        real("limit", value, 0, 100)
    whole("count", np.int32(1), 1)
    with pytest.raises(BadSpec, match="give a number above 0 and at most 1"):
        real("rate", 0, 0, 1, above=True)
    for wrong in (0, 1.0, "1", math.nan, True):
        with pytest.raises(BadSpec, match="count is .*: give a whole number of 1 or more"):
            whole("count", wrong, 1)
    with pytest.raises(BadSpec) as raised:
        whole("count", 10**3000, 1, 5)
    assert len(str(raised.value)) < 150


SPEC = ModelSpec("fast-scnn", 192, 256, 2)
WRONG = [
    lambda _: Limits(max_drop_points=math.nan),
    lambda _: Limits(max_latency_ms=-5),
    lambda _: Limits(max_size_ratio=math.inf),
    lambda _: Limits(class_floors={"a": math.nan}),
    lambda _: Calibration(images=0),
    lambda _: Augmentation(scale=(2.0, 1.0)),
    lambda _: Augmentation(colour=math.nan),
    lambda _: BenchPlan(None, None, None, threads=(0,)),
    lambda _: BenchPlan(None, None, None, images=0),
    lambda _: ModelSpec("fast-scnn", 192.5, 256, 2),  # type: ignore[arg-type]
    lambda _: ModelSpec("fast-scnn", 192, 256, 2, alpha=math.nan),
    lambda _: ModelSpec("fast-scnn", 192, 256, 2, l2=math.inf),
    lambda home: create(home / "run", SPEC, "synthetic", "ab", [], -1),
    lambda home: create(home / "run", SPEC, "synthetic", "ab", [], 10**20),
]


@pytest.mark.parametrize("make", WRONG)
def test_nothing_is_made_of_a_wrong_number(tmp_path, make):
    with pytest.raises(BadSpec, match="give"):
        make(tmp_path)
    assert not any(tmp_path.iterdir())
