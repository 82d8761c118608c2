"""Bodies are refused by their structure before any object of them is made."""

import pytest

from slipstream_runtime.web import body
from slipstream_runtime.web.refusal import Refusal


@pytest.mark.parametrize("part", [b"[],", b"[[[[]]]],", b'{"a":1},'])
def test_a_body_of_brackets_is_refused(part: bytes) -> None:
    with pytest.raises(Refusal, match="objects and lists") as refusal:
        body.parse(b'{"x":[' + part * 300_000 + b"0]}")
    assert refusal.value.status == 400


@pytest.mark.parametrize("text", ["[" * 300_000, '{\\"[' * 100_000, "\\\\[" * 300_000])
def test_brackets_in_a_text_are_text(text: str) -> None:
    assert len(body.parse(f'{{"x":"{text}"}}'.encode())["x"]) >= 300_000


def test_a_quote_that_is_left_open_is_no_text() -> None:
    with pytest.raises(Refusal):
        body.parse(b'{"x":"' + b"[" * 300_000)
