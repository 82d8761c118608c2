"""Check that a chat template is one, before any weight is loaded: vLLM compiles it for the first chat."""

from jinja2 import TemplateSyntaxError
from transformers.utils import chat_template_utils

from slipstream_runtime.errors import UnsuitableError, one_line


def check(text: str, *, field: str) -> None:
    """Raise UnsuitableError if the text is no Jinja template."""
    try:
        chat_template_utils._compile_jinja_template(text)  # as vLLM does
    except TemplateSyntaxError as error:
        raise UnsuitableError(
            f"{field}: is no Jinja template, because of line {error.lineno}: "
            f"{one_line(error.message or '', limit=300).rstrip('.')}. Correct it."
        ) from None
