"""Scaling policies, ours and those of others, behind one interface."""
