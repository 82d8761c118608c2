"""Fit check: whether a model fits its accelerators, from its config.json and size alone, before a node is bought."""
