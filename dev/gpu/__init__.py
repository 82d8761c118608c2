"""A check of the engine on a machine with a GPU, and the bundle that brings vLLM to one without a network."""
