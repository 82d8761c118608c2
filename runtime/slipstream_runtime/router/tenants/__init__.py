"""API keys and token budgets of a service's tenants."""
