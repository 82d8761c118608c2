"""Rollouts of equal and of worse revisions: how often and how early they are rolled back, and what they lose."""
