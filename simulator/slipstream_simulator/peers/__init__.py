"""Autoscalers of other projects, as they are published."""
