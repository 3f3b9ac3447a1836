"""Rewrites of single ops that keep the function, or say by how much they do not."""
