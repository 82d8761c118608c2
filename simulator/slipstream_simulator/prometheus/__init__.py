"""Simulated Prometheus: scrapes, samples and the evaluation of the queries that policies ask."""
