"""Trains many Fast-SCNNs side by side on one GPU with JAX: in minutes what `train` does in days on two cores.

JAX has an environment of its own (``requirements-jax.txt``), so nothing here but ``keras_file`` imports TensorFlow.
Network, augmentation, loss and update are those of ``models`` and ``pipeline.train``, written again;
``tests/train/test_side_by_side.py`` compares them. All is written for one network and mapped over many (``jax.vmap``):
convolutions are matrix products and sums of shifted images, which stay such when they are mapped.
"""
