"""Replica count of a service with its reason: signals, policy and stabilization as pure functions."""
