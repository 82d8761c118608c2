"""Kubernetes API: configuration, endpoints and activation of a namespace's services."""
