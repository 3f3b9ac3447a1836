"""The .tflite file: read, checked, cut into partitions, changed."""
