"""Response cache: one answer for equal requests."""
