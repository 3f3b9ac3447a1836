"""From a float network and its ranges to the quantized graph."""
