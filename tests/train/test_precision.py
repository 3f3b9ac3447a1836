"""Training in mixed precision: float16 inside, float32 weights, and no step lost to an overflow unseen."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from pipeline.core.errors import TrainingDiverged
from pipeline.train.precision import FIRST_SCALE, LossScale, computing_in_float16
from pipeline.train.schedule import Schedule
from tests.train.test_fit import NO_AUGMENTATION, do_fit, network


def test_a_mixed_training_learns_what_a_float32_one_does(tmp_path):
    schedule = Schedule(12, 4, 0.01, evaluations=2)
    fitted = []
    for precision in ("float32", "mixed"):
        with computing_in_float16() if precision == "mixed" else tf_keras.utils.custom_object_scope({}):
            model = network()
        assert model.layers[1].compute_dtype == ("float16" if precision == "mixed" else "float32")
        folder = tmp_path / precision
        folder.mkdir()
        fitted.append(do_fit(folder, schedule, model=model, how=NO_AUGMENTATION))
    assert tf_keras.mixed_precision.global_policy().name == "float32"
    (plain, of_plain), (mixed, of_mixed) = fitted
    assert {w.dtype.name for w in mixed.weights} == {"float32"}
    losses = [[entry.loss for entry in each.history] for each in (of_plain, of_mixed)]
    assert losses[0] == pytest.approx(losses[1], rel=2e-2) and losses[0] != losses[1]
    for ours, theirs in zip(plain.get_weights(), mixed.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=0.05)


def test_an_overflow_changes_no_weight_and_halves_the_scale():
    scale, weight = LossScale(), tf.Variable([1.0, 2.0])
    optimizer = tf_keras.optimizers.SGD(1.0)
    optimizer.build([weight])
    step = tf.function(lambda gradient: scale.update(optimizer, [gradient, None], [weight, weight]))
    step(tf.constant([np.inf, 0.0]))
    assert weight.numpy().tolist() == [1.0, 2.0] and optimizer.iterations.numpy() == 1
    assert [v.numpy() for v in scale.variables] == [FIRST_SCALE / 2, 0]
    step(tf.constant([0.5, 0.0]))
    assert weight.numpy().tolist() == [0.5, 2.0] and optimizer.iterations.numpy() == 2
    assert [v.numpy() for v in scale.variables] == [FIRST_SCALE / 2, 1]
    assert scale.unscaled([scale.scaled(tf.constant(3.0)), None])[0].numpy() == 3
    assert LossScale.needed(network()) is None


def test_gradients_that_are_never_finite_end_the_training(tmp_path, monkeypatch):
    """A loss that is finite, with gradients that are not, as those of a root of 0 are."""
    with computing_in_float16():
        model = network()
    finite = LossScale.unscaled
    monkeypatch.setattr(LossScale, "unscaled", lambda *given: [g * np.nan for g in finite(*given)])
    with pytest.raises(TrainingDiverged, match="gradients were not finite in the last 20 steps.*--precision float32"):
        do_fit(tmp_path, Schedule(60, 1, 0.01, evaluations=1), model=model, how=NO_AUGMENTATION)
