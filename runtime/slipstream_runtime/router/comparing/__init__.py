"""Comparison of two revisions on the same traffic: who gets a request, and what came of it."""
