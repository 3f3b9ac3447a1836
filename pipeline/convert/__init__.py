"""From a trained run to checked .tflite files."""
