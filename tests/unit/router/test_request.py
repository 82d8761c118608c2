"""Request bodies: the fields that the router reads, and those that it changes."""

import json
from typing import Any

import hypothesis
import orjson
import pytest
from hypothesis import strategies

from slipstream_runtime.router.messages.request import Request, parse_request
from slipstream_runtime.web.refusal import Refusal

CHAT = "/v1/chat/completions"


def parse(path: str = CHAT, **fields: Any) -> Request:
    return parse_request(json.dumps({"model": "m", **fields}).encode(), path=path)


def output(path: str = CHAT, limit: int | None = None, **fields: Any) -> int:
    found = parse(path, **fields)
    return found.max_tokens(limit=limit) - len(found.raw) // 4


COMPLETIONS = "/v1/completions"


def test_the_limit_counts_that_engines_go_by() -> None:
    assert output(max_tokens=9) == 9
    assert output(max_tokens=9, max_completion_tokens=5) == 5
    assert output(max_tokens=5, max_completion_tokens=9) == 9
    assert output(max_tokens=9, max_completion_tokens=None) == 9
    assert output(COMPLETIONS, max_tokens=9, max_completion_tokens=5) == 9
    assert output("/v1/responses", max_output_tokens=7, max_tokens=5) == 7


def test_without_one_the_service_decides_over_all_choices() -> None:
    assert output(limit=50) == 50
    assert output(limit=50, n=3) == 50
    assert output() == 1024
    assert output(n=3) == 3 * 1024


def test_each_choice_counts() -> None:
    assert output(max_tokens=9, n=3) == 27
    assert output(max_tokens=9, n=2, best_of=4) == 36
    assert output(max_tokens=9, n=0) == 9


@pytest.mark.parametrize(
    ("prompt", "count"),
    [("a", 1), (["a", "b", "c"], 3), ([1, 2, 3], 1), ([[1, 2], [3]], 2), ([], 1)],
)
def test_each_prompt_counts(prompt: Any, count: int) -> None:
    assert output(COMPLETIONS, max_tokens=9, prompt=prompt) == 9 * count
    assert output(COMPLETIONS, max_tokens=9, prompt=prompt, n=2) == 18 * count


@pytest.mark.parametrize("embeds", ["AAA=", ["AAA=", "AAA="]])
def test_each_prompt_of_embeddings_counts(embeds: Any) -> None:
    count = len(embeds) if isinstance(embeds, list) else 1
    assert output(COMPLETIONS, max_tokens=9, prompt_embeds=embeds) == 9 * count
    assert output(COMPLETIONS, max_tokens=9, prompt="a", prompt_embeds=embeds) == 9 * (count + 1)


@pytest.mark.parametrize(
    ("path", "query", "documents", "times"),
    [
        ("/v1/rerank", "query", "documents", 9),
        ("/v2/rerank", "query", "documents", 9),
        ("/score", "text_1", "text_2", 9),
        ("/v1/score", "queries", "documents", 9),
        ("/v1/score", "data_1", "data_2", 9),
        ("/v1/embeddings", "query", "documents", 0),
    ],
)
def test_a_query_counts_with_each_document(
    path: str, query: str, documents: str, times: int
) -> None:
    texts = {query: "q" * 4_000, documents: ["d"] * 10}
    assert output(path, **texts) == times * 1_000
    assert output(path, **{**texts, query: ["q" * 4_000]}) == times * 1_000
    assert output(path, **{**texts, query: ["q" * 4_000] * 10}) == 0
    if times:
        assert output(path, **texts, max_tokens_per_query=100) == times * 100


def test_token_ids_count_each_however_short_they_are() -> None:
    for path, name in ((COMPLETIONS, "prompt"), ("/v1/embeddings", "input")):
        flat, nested = parse(path, **{name: [1] * 5_000}), parse(path, **{name: [[1] * 50] * 100})
        assert flat.prompt_tokens == nested.prompt_tokens == 5_000


@pytest.mark.parametrize("count", ["9", 4.0, True, -5, [4]])
@pytest.mark.parametrize("name", ["max_tokens", "n", "best_of"])
def test_what_is_no_json_integer_is_refused_where_it_is_counted(name: str, count: Any) -> None:
    with pytest.raises(Refusal) as refused:
        output(**{name: count})
    assert (refused.value.status, refused.value.param) == (400, name)


@pytest.mark.parametrize("path", ["/v1/embeddings", "/v1/rerank", "/classify"])
def test_what_generates_nothing_has_no_output(path: str) -> None:
    assert output(path, input="x", max_tokens=5) == 0


def test_usage_is_asked_for_in_streams_alone() -> None:
    whole = parse()
    before = whole.raw
    whole.request_usage()
    assert whole.raw is before
    stream = parse(stream=True)
    stream.request_usage()
    assert stream.hide_usage
    assert orjson.loads(stream.raw)["stream_options"] == {"include_usage": True}


def test_stream_options_that_are_no_object_are_replaced_by_ours() -> None:
    found = parse(stream=True, stream_options=[1])
    found.request_usage()
    assert orjson.loads(found.raw)["stream_options"] == {"include_usage": True}


def test_a_changed_field_is_what_parsers_take() -> None:
    found = parse(user="x")
    found.update_fields({"model": "other"})
    assert json.loads(found.raw) == {"model": "other", "user": "x"}
    assert found.content["model"] == "other"


@hypothesis.given(strategies.binary(max_size=200))
def test_any_bytes_are_a_request_or_refused(raw: bytes) -> None:
    try:
        found = parse_request(raw, path=CHAT)
    except Refusal as refusal:
        assert refusal.status == 400
    else:
        assert json.loads(found.raw)["model"] == found.model


_TEXT = strategies.text(max_size=5)
_JSON = strategies.recursive(
    strategies.none() | strategies.booleans() | strategies.integers(-9, 9) | _TEXT,
    lambda inner: (
        strategies.lists(inner, max_size=3) | strategies.dictionaries(_TEXT, inner, max_size=3)
    ),
    max_leaves=10,
)


@hypothesis.given(strategies.dictionaries(strategies.text(max_size=6), _JSON, max_size=5))
def test_any_object_with_a_model_is_understood(fields: dict[str, Any]) -> None:
    body = json.dumps({**fields, "model": "m"}).encode()
    found = parse_request(body, path=CHAT)
    assert (found.model, found.raw) == ("m", body)


@pytest.mark.parametrize("spelling", ['"model"', '"\\u006dodel"', '"mode\\u006C"'])
def test_a_second_model_is_found_however_it_is_spelt(spelling: str) -> None:
    with pytest.raises(Refusal) as caught:
        parse_request(b'{"model": "m", %s: "x"}' % spelling.encode(), path=CHAT)
    assert caught.value.param == "model"
