"""From a float network and ranges to the quantized graph."""
