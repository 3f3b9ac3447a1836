"""The checkpoints that a training resumes from: two at most, each whole, in a folder of any name."""

import os

import numpy as np
import pytest
import tf_keras

from pipeline.core.errors import RunError, TrainingDiverged
from pipeline.train.resume import Progress


def progress(folder, units=1):
    network = tf_keras.Sequential([tf_keras.layers.Input((2,)), tf_keras.layers.Dense(units)])
    optimizer = tf_keras.optimizers.AdamW()
    optimizer.build(network.trainable_variables)
    return Progress(network, network.weights, optimizer, folder)


def at(state, step, value=None):
    """Sets everything that is saved to numbers that follow from the step."""
    state._optimizer.iterations.assign(step)
    for i, variable in enumerate([*state.variables, *state.averages, *state._optimizer.variables[1:]]):
        variable.assign(np.full(variable.shape, 100 * step + i if value is None else value))
    for i, variable in enumerate((state.best, state.loss_sum, state.loss_steps)):
        variable.assign(step + 10 * i)
    return state


def values(state):
    return [v.numpy().tolist() for v in (*state._state.values(),)][:-1]  # the seconds go on


def save(folder, *steps):
    state = progress(folder)
    for step in steps:
        at(state, step).save()
    return folder / "resume"


def checkpoint(folder, step):
    return folder / f"checkpoint-{step:09d}.safetensors"


@pytest.mark.parametrize("name", ["run", "a[b]*?c", "back\\slash", "ünïcödé space"])
def test_all_comes_back_in_a_folder_of_any_name(tmp_path, name):
    resume = save(tmp_path / name, 3, 5, 9)
    assert sorted(os.listdir(resume)) == [checkpoint(resume, 5).name, checkpoint(resume, 9).name]
    again = progress(tmp_path / name)
    assert again.restore() and again.step == 9
    assert values(again) == values(at(progress(tmp_path / "other"), 9))
    assert not progress(tmp_path / "never").restore()


@pytest.mark.parametrize("damage", ["cut", "changed", "empty", "pipe"])
def test_a_broken_one_gives_way_to_the_one_before_and_is_reported(tmp_path, damage):
    resume = save(tmp_path, 5, 9)
    newest = checkpoint(resume, 9)
    data = newest.read_bytes()
    newest.unlink()
    if damage == "pipe":
        os.mkfifo(newest)
    else:
        newest.write_bytes({"cut": data[:-1], "changed": data[:-1] + b"\x07", "empty": b""}[damage])
    lines: list[str] = []
    again = progress(tmp_path)
    assert again.restore(lines.append) and values(again) == values(at(progress(tmp_path / "other"), 5))
    (line,) = lines
    assert str(newest) in line and "cannot be read" in line and "going on from the one before it" in line
    at(again, 7).save()  # the broken one goes, the good one before stays
    assert sorted(os.listdir(resume)) == [checkpoint(resume, 5).name, checkpoint(resume, 7).name]
    checkpoint(resume, 7).write_bytes(b"")
    checkpoint(resume, 5).write_bytes(b"")
    with pytest.raises(RunError, match="and there is none before it: delete .*resume to start this training again"):
        progress(tmp_path).restore()


def test_the_one_before_stays_where_a_step_is_saved_again(tmp_path):
    resume = save(tmp_path, 5, 9, 9)
    both = [checkpoint(resume, 5).name, checkpoint(resume, 9).name]
    assert sorted(os.listdir(resume)) == both
    again = progress(tmp_path)
    assert again.restore()
    again.save()  # as Ctrl-C does while the training graph is built
    assert sorted(os.listdir(resume)) == both
    at(again, 12).save()
    assert sorted(os.listdir(resume)) == [checkpoint(resume, 9).name, checkpoint(resume, 12).name]


def test_a_checkpoint_of_another_network_or_version_is_refused(tmp_path):
    save(tmp_path, 5)
    with pytest.raises(RunError, match=r"is of another network or of another version .*kernel.*delete"):
        progress(tmp_path, units=3).restore()
    (tmp_path / "old" / "resume").mkdir(parents=True)
    (tmp_path / "old" / "resume" / "checkpoint").write_text('model_checkpoint_path: "/etc/passwd"\n')
    with pytest.raises(RunError, match="of an earlier version of segquant.*delete"):
        progress(tmp_path / "old").restore()


def test_nothing_that_lies_there_besides_is_touched(tmp_path):
    resume = save(tmp_path, 5)
    (resume / "thesis.txt").write_text("precious")
    victim = tmp_path / "victim.safetensors"
    victim.write_text("precious")
    checkpoint(resume, 1).symlink_to(victim)
    save(tmp_path, 6, 7, 8)
    assert (resume / "thesis.txt").read_text() == victim.read_text() == "precious"


def test_weights_that_are_not_finite_are_not_saved(tmp_path):
    resume = save(tmp_path, 5)
    before = checkpoint(resume, 5).read_bytes()
    state = at(progress(tmp_path), 6)
    state.variables[0].assign([[np.inf], [1.0]])
    with pytest.raises(TrainingDiverged, match=r"the weights dense\w*/kernel are not finite after step 6"):
        state.save()
    assert os.listdir(resume) == [checkpoint(resume, 5).name] and checkpoint(resume, 5).read_bytes() == before


def test_steps_that_need_more_digits_keep_their_order(tmp_path):
    most = (1 << 31) - 1
    save(tmp_path, 999_999_999, most)
    again = progress(tmp_path)
    assert again.restore() and again.step == most
