"""The router of a namespace: one address for all its services; it picks replicas, holds, retries and measures."""
