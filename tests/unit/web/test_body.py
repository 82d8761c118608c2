"""Bodies are refused by their structure before any object of them is made."""

import pytest

from slipstream_runtime.web import body
from slipstream_runtime.web.refusal import Refusal


@pytest.mark.parametrize(
    ("part", "count"),
    [
        (b"[],", 300_000),
        (b"[[[[]]]],", 300_000),
        (b'{"a":1},', 300_000),
        (b"0,", 3_000_000),
        (b'"",', 3_000_000),
    ],
)
def test_a_body_of_very_many_parts_is_refused(part: bytes, count: int) -> None:
    with pytest.raises(Refusal, match="objects, lists and fields") as refusal:
        body.parse(b'{"x":[' + part * count + b"0]}")
    assert refusal.value.status == 400


def test_a_body_of_very_many_fields_is_refused() -> None:
    fields = b",".join(b'"%d":0' % number for number in range(300_000))
    with pytest.raises(Refusal, match="objects, lists and fields"):
        body.parse(b"{" + fields + b"}")


def test_a_batch_of_tokens_is_not_large() -> None:
    tokens = b",".join([b"12345"] * 512)
    raw = b'{"input":[' + b",".join([b"[" + tokens + b"]"] * 2048) + b"]}"
    assert len(body.parse(raw)["input"]) == 2048


def test_a_string_that_does_not_end_is_read_once() -> None:
    """Else it would take longer than all tests together."""
    with pytest.raises(Refusal):
        body.parse(b'{"x":[' + b"[]," * 300_000 + b'0],"y":"' + b'\\"' * 2_000_000)


@pytest.mark.parametrize("text", ["[" * 300_000, '{\\"[' * 100_000, "\\\\[" * 300_000])
def test_brackets_in_a_text_are_text(text: str) -> None:
    assert len(body.parse(f'{{"x":"{text}"}}'.encode())["x"]) >= 300_000


def test_a_quote_that_is_left_open_is_no_text() -> None:
    with pytest.raises(Refusal):
        body.parse(b'{"x":"' + b"[" * 300_000)
