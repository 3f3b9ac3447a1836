"""A network of few layers for tests that train in processes of their own; its folder goes into ``models.__path__``."""

import tf_keras

from models.blocks import Blocks
from pipeline.core.spec import Network


def build(spec):
    b = Blocks(spec)
    image = tf_keras.layers.Input((spec.height, spec.width, 3), name="image")
    x = b.conv(image, 16, 3, 2, name="first")
    x = tf_keras.layers.Dropout(spec.dropout, name="drop")(x)
    x = b.conv(x, spec.num_classes, 1, norm=False, relu=False, bias=True, scaled=False, name="score")
    return tf_keras.Model(image, b.resize(x, spec.height, spec.width, name="logits_resize"))


TINY = Network("tiny", "Tiny", "nowhere", build, (8, 8))
