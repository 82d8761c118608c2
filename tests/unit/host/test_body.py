"""Bodies: what is refused before anyone works on it, and how fields are set in one that is not."""

import json
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st

from slipstream_runtime.web import body, media
from slipstream_runtime.web.refusal import Refusal

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner, max_size=3)
)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"{} {}", "not JSON"),
        (b'{"a": NaN}', "NaN is not a JSON number"),
        (b'{"a": -Infinity}', "-Infinity is not a JSON number"),
        (b'{"a": ' + b"9" * 5000 + b"}", "not JSON"),
        (b"\xef\xbb\xbf{}", "not JSON"),
        (b'{"a": "\xff"}', "not UTF-8: invalid start byte at byte 7"),
        ('{"a": 1}'.encode("utf-16"), "not UTF-8"),
        (rb'{"a": "\ud800"}', "half of a surrogate pair"),
        (rb'{"\uDFFF\uD800": 1}', "half of a surrogate pair"),
        (b"[]", "not a JSON object"),
        (b'"text"', "not a JSON object"),
        (b"null", "not a JSON object"),
        (b"[" * 100_000, "more than 64 levels deep"),
        (b'{"a":' + b"[" * 64 + b"]" * 64 + b"}", "more than 64 levels deep"),
        (b'{"a":' * 65 + b"1" + b"}" * 65, "more than 64 levels deep"),
    ],
)
def test_what_no_engine_could_understand_is_400(raw: bytes, message: str) -> None:
    with pytest.raises(Refusal, match=message) as refusal:
        body.parse(raw)
    assert refusal.value.status == 400
    assert refusal.value.reason == "malformed"


@pytest.mark.parametrize(
    "raw",
    [
        b'{"a":' + b"[" * 63 + b"]" * 63 + b"}",
        b'{"a":"' + b"[" * 1000 + b'"}',
        rb'{"a":"\ud83d\ude00"}',
        b'{"a":[' + b"{}," * 1000 + b"[]]}",
    ],
)
def test_width_text_and_escaped_characters_are_well_formed(raw: bytes) -> None:
    assert body.parse(raw) == json.loads(raw)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ([(b"content-type", b"application/json")], None),
        ([(b"content-type", b"Application/JSON; charset=utf-8")], None),
        ([], 415),
        ([(b"content-type", b"text/plain")], 415),
        ([(b"content-type", b"multipart/form-data; boundary=application/json")], 415),
        ([(b"content-type", b"application/json"), (b"content-length", b"100")], None),
        ([(b"content-type", b"application/json"), (b"content-length", b"101")], 413),
        ([(b"content-type", b"application/json"), (b"content-length", b"9" * 30)], 413),
    ],
)
def test_the_head_alone_may_be_enough(headers: list[Any], status: int | None) -> None:
    if status is None:
        body.check_head(headers, limit=100)
        return
    with pytest.raises(Refusal) as refusal:
        body.check_head(headers, limit=100)
    assert refusal.value.status == status
    assert refusal.value.headers["connection"] == "close"


@hypothesis.given(
    st.dictionaries(st.text(), JSON_VALUES, max_size=4),
    st.dictionaries(st.text(), JSON_VALUES, max_size=4),
    st.sampled_from(["", " ", "\n\t "]),
)
def test_fields_are_set_in_a_body_as_in_a_dictionary(
    content: dict[str, Any], fields: dict[str, Any], space: str
) -> None:
    raw = (space + json.dumps(content).replace("{}", f"{{{space}}}") + space).encode()
    assert json.loads(body.extended(raw, fields)) == json.loads(raw) | fields


def test_the_length_follows_the_body() -> None:
    headers = [(b"content-type", b"a"), (b"content-length", b"1"), (b"expect", b"100-continue")]
    assert body.with_length(headers, 22) == [(b"content-type", b"a"), (b"content-length", b"22")]


def finished(steps: Any) -> Any:
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


@pytest.mark.parametrize(
    "content",
    [
        {"prompt": "x" * 300_000},
        {"messages": [{"role": "user", "content": 'say "hi"\\'}] * 10_000},
        {"prompt": [[1, 2, 3]] * 60_000},
    ],
)
def test_a_large_body_is_parsed_in_steps_as_a_small_one_at_once(content: dict[str, Any]) -> None:
    raw = json.dumps(content).encode()
    assert finished(media.parse_in_steps(raw)) == body.parse(raw) == content


@pytest.mark.parametrize(
    ("piece", "message"),
    [(b'"",', "more than 524288 texts"), (b"[],", "more than 200000 objects")],
)
def test_a_body_of_too_many_parts_is_refused_before_it_is_parsed(
    piece: bytes, message: str
) -> None:
    raw = b'{"x":[' + piece * 2_100_000
    # NB: its end is missing, so that a parser would find another fault.
    for parse in (body.parse, lambda raw: finished(media.parse_in_steps(raw))):
        with pytest.raises(Refusal, match=message):
            parse(raw)
