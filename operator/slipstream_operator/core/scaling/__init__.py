"""How many replicas a service needs, and why: signals, policy and stabilisation as pure functions."""
