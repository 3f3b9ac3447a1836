"""Files of a network's weights: checkpoints of runs, and the formats of Keras and TensorFlow."""
