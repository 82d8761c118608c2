"""Bounds of what one request to vLLM may cost: text, numbers, structures and media."""

from collections.abc import Mapping
from typing import Any

import pytest

from slipstream_runtime.engine.requests import Requests
from slipstream_runtime.host.limits import Limits
from slipstream_runtime.web.refusal import Refusal

CHAT, COMPLETIONS, RESPONSES = "/v1/chat/completions", "/v1/completions", "/v1/responses"
EMBEDDINGS, MESSAGES = "/v1/embeddings", "/v1/messages"


def judged(path: str, body: Mapping[str, Any], *, fetches: bool = False, **limits: int) -> Any:
    return Requests(limits=Limits(**limits), context=1000, output=None, fetches=fetches)(path, body)


def refused(path: str, body: Mapping[str, Any], **more: Any) -> Refusal:
    with pytest.raises(Refusal) as refusal:
        judged(path, body, **more)
    return refusal.value


def schema(content: Mapping[str, Any]) -> dict[str, Any]:
    return {"response_format": {"type": "json_schema", "json_schema": {"schema": content}}}


def said(content: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": content}]}


def picture(url: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url}}


LONG = "a " * 200_000


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (CHAT, {**said(LONG), "truncate_prompt_tokens": 10}),
        (CHAT, said([{"type": "text", "text": LONG}])),
        (CHAT, {**said("a"), "tools": [{"function": {"description": LONG}}]}),
        (CHAT, {**said("a"), "tools": [{"function": {"source": {"data": LONG}}}]}),
        (COMPLETIONS, {"prompt": LONG, "truncate_prompt_tokens": 10}),
        (COMPLETIONS, {"prompt": ["a", LONG]}),
        (RESPONSES, {"input": "a", "instructions": LONG}),
        (EMBEDDINGS, {"input": [LONG], "truncate_prompt_tokens": -1}),
        ("/v1/rerank", {"query": "a", "documents": [LONG]}),
        ("/tokenize", {"prompt": LONG}),
    ],
)
def test_text_that_can_not_fit_the_context_is_refused_also_where_it_would_be_cut(
    path: str, body: dict[str, Any]
) -> None:
    refusal = refused(path, body)
    assert (refusal.status, refusal.reason) == (413, "prompt_too_long")


def test_a_batch_has_more_text_than_a_prompt_and_yet_a_bound() -> None:
    text = "a" * 100_000
    assert judged(EMBEDDINGS, {"input": [text] * 20}) == {}
    assert refused(EMBEDDINGS, {"input": [text] * 30}).status == 413


@pytest.mark.parametrize("value", [4.0, "4", True, [4]])
@pytest.mark.parametrize("name", ["n", "max_tokens", "prompt_logprobs", "truncate_prompt_tokens"])
def test_only_whole_numbers_of_json_are_whole_numbers(name: str, value: object) -> None:
    assert refused(CHAT, {name: value}).message == f"{name} must be a whole number."


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        (CHAT, {"n": 257}, "spec.limits.maxAnswers"),
        (COMPLETIONS, {"n": 2, "prompt": ["a"] * 129}, "spec.limits.maxAnswers"),
        (CHAT, {"prompt_logprobs": 20}, "spec.limits.maxPromptLogprobs"),
        (CHAT, {"prompt_logprobs": -1}, "spec.limits.maxPromptLogprobs"),
        (COMPLETIONS, {"echo": True, "logprobs": 5}, "spec.limits.maxPromptLogprobs"),
        (CHAT, {"messages": [{"content": "a"}] * 4097}, "spec.limits.maxMessages"),
        (CHAT, said([{"type": "text", "text": "a"}] * 4097), "spec.limits.maxMessages"),
        (RESPONSES, {"input": [{"content": "a"}] * 4097}, "spec.limits.maxMessages"),
        (CHAT, {"tools": [{}] * 257}, "spec.limits.maxTools"),
        (CHAT, said([picture("data:image/png;base64,aa")] * 17), "spec.limits.maxMedia"),
        (CHAT, {"stop": ["a"] * 17}, "stop has 17 items"),
        (CHAT, {"stop": ["a" * 5000]}, "stop has 5000 characters"),
        (CHAT, {"stop": "a" * 5000}, "stop has 5000 characters"),
        (CHAT, {"logit_bias": {str(token): 1 for token in range(1025)}}, "logit_bias has 1025"),
        (CHAT, {"bad_words": ["a"] * 129}, "bad_words has 129"),
        (MESSAGES, {"stop_sequences": ["a"] * 17}, "stop_sequences has 17"),
    ],
)
def test_a_request_that_asks_for_too_much_gets_400_that_names_the_limit(
    path: str, body: dict[str, Any], field: str
) -> None:
    refusal = refused(path, body)
    assert refusal.status == 400
    assert field in refusal.message


def test_a_service_may_allow_more() -> None:
    body = {**said("a"), "n": 300, "prompt_logprobs": 20, "tools": [{}] * 300}
    assert judged(CHAT, body, max_answers=300, max_prompt_logprobs=20, max_tools=300) == {}


@pytest.mark.parametrize(
    "body",
    [
        {"structured_outputs": {"grammar": "root ::= a\n" * 600}},
        {"structured_outputs": {"regex": "a|" * 50_000}},
        {"structured_outputs": {"choice": [str(one) for one in range(1001)]}},
        {"structured_outputs": {"json": '{"enum": [' + "1," * 1001 + "1]}"}},
        schema({"properties": {str(one): {} for one in range(1001)}}),
        schema({"properties": {"a": {"enum": list(range(1001))}}}),
        schema({"anyOf": [{"const": one} for one in range(300)]}),
        schema({"patternProperties": {f"^a{one}": {} for one in range(40)}}),
        schema({"properties": {str(one): {"pattern": "a"} for one in range(40)}}),
        schema({"type": "array", "maxItems": 10**6}),
        {
            "response_format": {
                "type": "structural_tag",
                "structures": [{"schema": {"enum": [1] * 1001}}],
            }
        },
        {"tools": [{"function": {"strict": True, "parameters": {"enum": [1] * 1001}}}]},
        {
            "tools": [{"function": {"parameters": {"enum": [1] * 1001}}}],
            "tool_choice": "required",
        },
    ],
)
def test_a_structure_that_the_compiler_can_not_bear_is_refused(body: dict[str, Any]) -> None:
    assert refused(CHAT, body).status == 400


def test_ordinary_structures_tools_and_pictures_pass() -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": {"maxLength": 10**6}}}
    fields = {str(one): {"type": "string", "pattern": "a+"} for one in range(20)}
    data = "data:image/png;base64," + "a" * 2_000_000
    assert judged(CHAT, {**said([picture(data)]), "tools": [tool] * 100}) == {}
    assert judged(CHAT, schema({"properties": fields, "required": list(fields)})) == {}
    assert judged(CHAT, {"structured_outputs": {"choice": ["yes", "no"]}}) == {}


@pytest.mark.parametrize(
    "body",
    [
        said([picture("http://127.0.0.1:8001/metrics")]),
        said([picture("HTTPS://example.com/a.png")]),
        said([{"type": "image_url", "image_url": "http://a"}]),
        said([{"type": "audio_url", "audio_url": {"url": "http://a"}}]),
        said([{"type": "image", "source": {"type": "url", "url": "http://a"}}]),
        said([{"type": "tool_result", "content": [picture("http://a")]}]),
    ],
)
def test_media_come_inside_the_request_unless_the_service_names_domains(
    body: dict[str, Any],
) -> None:
    refusal = refused(CHAT, body)
    assert refusal.status == 400
    assert "data: URLs" in refusal.message
    assert judged(CHAT, body, fetches=True) == {}


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "file:/etc/passwd",
        "FILE:///etc/passwd",
        " file:///etc/passwd",
        "ftp://a",
        "gopher:a",
        "data:image/png,text",
        "data:image/png;base64",
    ],
)
@pytest.mark.parametrize("name", ["image_url", "video_url", "audio_url"])
def test_files_of_the_engine_and_other_schemes_are_never_media(name: str, url: str) -> None:
    for value in (url, {"url": url}):
        body = said([{"type": name, name: value}])
        assert refused(CHAT, body).status == refused(CHAT, body, fetches=True).status == 400


def test_urls_in_texts_and_tools_are_not_media() -> None:
    tool = {"function": {"parameters": {"image": {"url": "http://a"}}}}
    call = {"type": "tool_use", "input": {"image": {"url": "http://a"}}}
    text = {"type": "document", "source": {"type": "text", "data": "see http://a"}}
    assert judged(CHAT, {**said("see http://a"), "tools": [tool]}) == {}
    assert judged(MESSAGES, said([call, text])) == {}
    page = {"title": "a", "source": "https://example.com/a", "file": "file:///a"}
    assert judged(CHAT, {**said("hi"), "documents": [page]}) == {}


@pytest.mark.parametrize(
    ("path", "context", "media", "most"),
    [
        (CHAT, 1000, False, 2**20),
        (MESSAGES, 131_072, False, 2**23),
        (RESPONSES, 10_000_000, False, 2**24),
        (COMPLETIONS, 1000, False, 2**24),
        (EMBEDDINGS, 1000, False, 2**24),
        (CHAT, 1000, True, 2**26),
    ],
)
def test_the_body_of_a_chat_is_bounded_by_the_context_before_it_is_read(
    path: str, context: int, *, media: bool, most: int
) -> None:
    rule = Requests(limits=Limits(), context=context, output=None, media=media)
    assert rule.largest(path) == most
