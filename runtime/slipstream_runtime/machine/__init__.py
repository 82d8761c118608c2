"""Machine under an engine: its CPU, its GPUs and its memory."""
