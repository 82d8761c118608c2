"""ModelBuilds: recipe, checks, state of their pods, and status."""
