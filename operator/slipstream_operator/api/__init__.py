"""Kinds that users write, as pydantic models, and the CRDs generated from them. No I/O."""
