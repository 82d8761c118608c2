"""Whether the structured output backend can make a form, found before any weight is loaded."""

import re
from typing import Final

from vllm.exceptions import VLLMError
from vllm.sampling_params import SamplingParams, StructuredOutputsParams
from vllm.v1.structured_output.backend_xgrammar import validate_xgrammar_grammar

from slipstream_runtime.engine.output import Output
from slipstream_runtime.errors import UnsuitableError, one_line

_PLACE: Final = re.compile(r"^\[[^]]*\] \S+:\d+: ")
"""Time and place in xgrammar's own source, before what it has to say."""


def check(output: Output) -> None:
    """UnsuitableError if xgrammar can't make the output's form."""
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
            f"spec.output.{name}: xgrammar can't make answers of this form: {_why(error)}. "
            "Simplify it, or leave it out."
        ) from error


def _why(error: Exception) -> str:
    return one_line(_PLACE.sub("", str(error.__cause__ or error)), limit=300).rstrip(".")
