"""Local cluster: Kubernetes as processes on one Linux machine, without Docker and without a registry."""
