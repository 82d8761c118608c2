"""Hooks of a route, which change a chat before a service gets it: summaries of old turns, and retrieved passages."""
