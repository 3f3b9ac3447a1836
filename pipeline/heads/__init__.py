"""The exact full-size mask of a smaller output, made outside the network: in C and NumPy, and the files to ship."""
