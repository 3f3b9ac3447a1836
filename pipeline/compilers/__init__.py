"""Drivers of the vendors' compilers and runtimes, which say what becomes of each op."""
