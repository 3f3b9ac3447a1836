"""The exact mask of a smaller output, outside the network: in C, and what ships of it."""
