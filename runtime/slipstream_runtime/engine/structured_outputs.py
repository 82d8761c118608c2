"""Check that the structured output backend supports the service's output, before any weight is loaded."""

import re
from typing import Final

from vllm.exceptions import VLLMError
from vllm.sampling_params import SamplingParams, StructuredOutputsParams
from vllm.v1.structured_output.backend_xgrammar import validate_xgrammar_grammar

from slipstream_runtime.engine.output import Output
from slipstream_runtime.errors import UnsuitableError, one_line

_PLACE: Final = re.compile(r"^\[[^]]*\] \S+:\d+: ")
"""Time and source line that xgrammar puts before its message."""


def check(output: Output) -> None:
    """Raise UnsuitableError if xgrammar can't generate the structure of the output."""
    if output.structure is None:
        return
    (field,) = output.structure
    name = {"json": "schema"}.get(field, field)
    try:
        validate_xgrammar_grammar(
            SamplingParams(structured_outputs=StructuredOutputsParams(**output.structure))
        )
    except (VLLMError, ValueError, TypeError) as error:
        raise UnsuitableError(
            f"spec.output.{name}: xgrammar can't generate answers with this structure: {_why(error)}. "
            "Simplify it, or leave it out."
        ) from error


def _why(error: Exception) -> str:
    return one_line(_PLACE.sub("", str(error.__cause__ or error)), limit=300).rstrip(".")
