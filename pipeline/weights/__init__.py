"""A network's weights in files: ours, Keras' and TensorFlow's."""
