"""Nouns: what the rooms hand to each other. No algorithms."""
