"""Flight recorder of the router: where the time of each request went, without anything that it contained."""
