"""A simulated vLLM engine: one pure model, for event loops and, in real time, behind the API."""
