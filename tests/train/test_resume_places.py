"""A list of checkpoints that names files outside its folder is refused, and none of them is touched."""

import pytest
import tensorflow as tf
import tf_keras

from pipeline.core.errors import RunError
from pipeline.train.resume import Progress


def progress(folder):
    network = tf_keras.Sequential([tf_keras.layers.Input((2,)), tf_keras.layers.Dense(1)])
    optimizer = tf_keras.optimizers.SGD()
    optimizer.build(network.trainable_variables)
    return Progress(network, network.weights, optimizer, folder)


def test_files_that_a_foreign_list_names_stay(tmp_path):
    first = progress(tmp_path / "run")
    first.save()
    victim = tmp_path / "victim"
    victim.mkdir()
    for name in ("thesis.index", "thesis.data-00000-of-00001"):
        (victim / name).write_text("precious")
    listing = tmp_path / "run" / "resume" / "checkpoint"
    written = listing.read_text()
    for path in (victim / "thesis", "../../victim/thesis"):
        listing.write_text(f'{written}all_model_checkpoint_paths: "{path}"\n')
        with pytest.raises(RunError, match="is not in that folder"):
            progress(tmp_path / "run")
        assert len(list(victim.iterdir())) == 2
    listing.write_text(written)
    again = progress(tmp_path / "run")
    assert again.restore()
    again.save()
    assert tf.train.latest_checkpoint(str(listing.parent)).endswith("ckpt-2")
