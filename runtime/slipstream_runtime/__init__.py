"""Slipstream's data plane: what runs inside the pods that the operator makes."""
