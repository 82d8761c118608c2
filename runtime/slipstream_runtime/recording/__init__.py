"""Flight recorder: where the time of each request went, without anything that it contained."""
