"""Ends commands at any moment and lets any change of a file fail, then repeats them: `make torture`.

A process loads TensorFlow once and forks a child for each case, which runs one command in a fresh copy of a tiny run.
See docs/development.md.
"""
