"""Float training and quantization-aware training."""
