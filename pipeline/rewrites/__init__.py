"""Rewrites of single ops that compute the same, or state how far they are off."""
