"""Steps of a build. Each module has `refuse`, `estimate` and `run`, and imports its libraries only in `run`."""
