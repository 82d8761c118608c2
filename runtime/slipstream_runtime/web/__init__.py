"""HTTP as every process of the data plane speaks it: a few lines of ASGI, and uvicorn made quiet."""
