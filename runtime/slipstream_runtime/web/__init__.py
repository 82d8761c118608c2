"""HTTP of every process of the data plane: OpenAI's API, refusals, bodies, API keys, and a server."""
