"""What users write: the kinds as pydantic models, and the CRDs generated from them. No I/O."""
