"""Chat templates are compiled before any weight is loaded, as vLLM compiles them for the first chat."""

import pytest

from slipstream_runtime.engine import template_syntax
from slipstream_runtime.errors import UnsuitableError


@pytest.mark.parametrize(
    "text",
    [
        "{% for message in messages %}{{ message['content'] }}{% endfor %}",
        "{% for m in messages %}{% generation %}{{ m }}{% endgeneration %}{% break %}{% endfor %}",
    ],
    ids=["plain", "with the tags of transformers"],
)
def test_a_template_of_a_model_passes(text: str) -> None:
    template_syntax.check(text, field="spec.model.chatTemplate")


@pytest.mark.parametrize(
    ("text", "line"),
    [("a\n{% if x %}", 2), ("{{ messages", 1), ("\n\n{% endfor %}", 3), ("{% unknown %}", 1)],
)
def test_a_text_that_is_no_template_is_refused_with_its_line(text: str, line: int) -> None:
    expected = rf"^spec\.model\.chatTemplateFrom: is no Jinja template, because of line {line}: .*Correct it"
    with pytest.raises(UnsuitableError, match=expected):
        template_syntax.check(text, field="spec.model.chatTemplateFrom")
