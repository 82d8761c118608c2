"""Implementations of `ports`: the only code that imports kubernetes and prometheus_api_client."""
