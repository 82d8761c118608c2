"""Engines, router and clients of a fleet as compiled code over flat arrays: what happens between two control events."""
