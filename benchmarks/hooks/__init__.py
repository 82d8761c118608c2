"""Tokens and time that the hooks of routes save and cost."""
