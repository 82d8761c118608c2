"""Search in texts by meaning: an index of passages, and a service that answers as OpenAI's vector stores do."""
