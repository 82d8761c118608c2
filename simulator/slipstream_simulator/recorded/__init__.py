"""Requests of a real service, as its routers recorded them: causes of their latency, and what-ifs by replay."""
