"""Slipstream's control plane: turns InferenceService objects into pods that keep their latency objectives."""

__version__ = "0.1.0"
