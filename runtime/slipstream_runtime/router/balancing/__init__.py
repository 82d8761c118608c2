"""Choice of a replica for each request: its load, cached prefixes, queue and retries."""
