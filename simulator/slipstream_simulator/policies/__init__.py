"""Scaling policies behind one interface: Slipstream's, static counts and the bounds."""
