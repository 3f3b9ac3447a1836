"""The .tflite file: reading, checking, partitioning and editing it."""
