"""Measurements: queries of Prometheus, their results, and the signals in them."""
