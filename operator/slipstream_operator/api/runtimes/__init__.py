"""Runtimes in the schema: their names, the fields that each adds, and the rules for the fields that it can't use."""

from typing import Literal

from slipstream_operator.api.runtimes import onnx, simulator

Name = Literal["vllm", "onnx", "simulator"]
"""Values of spec.runtime."""
RULES = (*simulator.RULES, *onnx.RULES)
"""CEL rules of InferenceService's spec."""
