"""Comparison of two revisions on the same traffic, which holds however often it is read."""
