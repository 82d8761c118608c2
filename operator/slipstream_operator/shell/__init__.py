"""Loops of the running operator: kopf's watches, the queue, reconcilers and the scaling loop."""
