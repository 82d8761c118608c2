"""Requests to vLLM: output tokens against the limit, and the form of answers against the service's."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from slipstream_runtime import contract
from slipstream_runtime.engine.output import Output
from slipstream_runtime.engine.requests import Requests
from slipstream_runtime.host.limits import Limits
from slipstream_runtime.web.refusal import Refusal

CHAT, COMPLETIONS, RESPONSES = "/v1/chat/completions", "/v1/completions", "/v1/responses"
SCHEMA: dict[str, Any] = {"type": "object", "required": ["a"]}
FORM = {"json": SCHEMA}
OTHER = {"type": "array"}


def limited(path: str, body: Mapping[str, Any], *, most: int = 100) -> Mapping[str, object]:
    return Requests(limits=Limits(max_output_tokens=most), context=1000, output=None)(path, body)


def formed(path: str, body: Mapping[str, Any], **output: Any) -> Mapping[str, object]:
    parts = {"schema": json.dumps(SCHEMA), **output}
    return Requests(limits=Limits(), context=1000, output=Output.model_validate(parts))(path, body)


def response_format(schema: dict[str, Any]) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}


@pytest.mark.parametrize(
    ("path", "body", "fields"),
    [
        (CHAT, {}, {"max_completion_tokens": 100}),
        (CHAT, {"max_tokens": None}, {"max_completion_tokens": 100}),
        (CHAT, {"n": 3}, {"max_completion_tokens": 33}),
        (CHAT, {"max_tokens": 100}, {}),
        (CHAT, {"max_completion_tokens": 1, "max_tokens": 1000}, {}),
        (CHAT, {"max_tokens": 50, "n": 2}, {}),
        (COMPLETIONS, {"prompt": "a"}, {}),
        (COMPLETIONS, {"prompt": ["a"] * 10}, {"max_tokens": 10}),
        (COMPLETIONS, {"prompt": [1] * 500}, {}),
        (COMPLETIONS, {"prompt": [[1], [2]], "max_tokens": 50}, {}),
        (RESPONSES, {"input": "a"}, {"max_output_tokens": 100}),
        (RESPONSES, {"input": "a", "max_output_tokens": 5}, {}),
        ("/v1/embeddings", {"input": "a"}, {}),
    ],
)
def test_a_request_that_names_no_tokens_gets_the_limit(
    path: str, body: dict[str, Any], fields: dict[str, Any]
) -> None:
    assert limited(path, body) == fields


def test_what_it_gets_fits_the_context() -> None:
    assert limited(CHAT, {}, most=5000) == {"max_completion_tokens": 1000}


@pytest.mark.parametrize(
    ("path", "body", "param", "message"),
    [
        (CHAT, {"max_tokens": 101}, "max_tokens", "asks for 101 output tokens, more than the 100"),
        (CHAT, {"max_completion_tokens": 10**15}, "max_completion_tokens", "more than the 100"),
        (CHAT, {"max_tokens": 34, "n": 3}, "max_tokens", "asks for 3 times 34 output tokens"),
        (CHAT, {"n": 101}, "n", "asks for 101 answers"),
        (COMPLETIONS, {"max_tokens": 51, "prompt": ["a", "b"]}, "max_tokens", "2 times 51"),
        (COMPLETIONS, {"max_tokens": 51, "prompt_embeds": ["a", "b"]}, "max_tokens", "2 times 51"),
        (RESPONSES, {"max_output_tokens": 101}, "max_output_tokens", "101"),
    ],
)
def test_a_request_that_asks_for_more_is_told_both_numbers(
    path: str, body: dict[str, Any], param: str, message: str
) -> None:
    with pytest.raises(Refusal, match=message) as refusal:
        limited(path, body)
    assert (refusal.value.status, refusal.value.param) == (400, param)
    assert refusal.value.reason == "output_too_long"
    assert "spec.limits.maxOutputTokens" in refusal.value.message


@pytest.mark.parametrize("value", ["200", 200.0, True, [1], {}, "many"])
@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens", "n"])
def test_a_number_that_vllm_would_read_otherwise_does_not_pass_the_limit(
    name: str, value: object
) -> None:
    with pytest.raises(Refusal, match=f"{name} must be a whole number"):
        limited(CHAT, {name: value})


def test_fewer_than_one_choice_is_no_way_round_the_limit() -> None:
    with pytest.raises(Refusal, match="n must be at least 1"):
        limited(CHAT, {"n": -1, "max_tokens": 10_000})


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS, RESPONSES])
@pytest.mark.parametrize(
    "body", [{}, {"response_format": None}, {"tools": []}, {"tools": [{}], "tool_choice": "none"}]
)
def test_the_form_is_given_to_requests_that_bring_none(path: str, body: dict[str, Any]) -> None:
    assert formed(path, body) == {"structured_outputs": FORM}


OWN = [
    (CHAT, {"response_format": {"type": "text"}}, "response_format"),
    (CHAT, {"response_format": {"type": "json_object"}}, "response_format"),
    (CHAT, {"response_format": response_format(OTHER)}, "response_format"),
    (COMPLETIONS, {"structured_outputs": {"regex": "a"}}, "structured_outputs"),
    (CHAT, {"tools": [{"type": "function"}]}, "tools"),
    (CHAT, {"tools": [{}], "tool_choice": "auto"}, "tools"),
    (COMPLETIONS, {"use_beam_search": True}, "use_beam_search"),
    (RESPONSES, {"text": {"format": {"type": "text"}}}, "text"),
    (RESPONSES, {"text": {"format": {"type": "json_schema", "schema": OTHER}}}, "text"),
    (
        CHAT,
        {"structured_outputs": FORM, "response_format": response_format(OTHER)},
        "response_format",
    ),
    (CHAT, {"structured_outputs": FORM, "use_beam_search": True}, "use_beam_search"),
]


@pytest.mark.parametrize(("path", "body", "param"), OWN)
def test_a_form_of_its_own_wins_unless_the_services_is_enforced(
    path: str, body: dict[str, Any], param: str
) -> None:
    assert formed(path, body) == {}
    with pytest.raises(Refusal, match=r"spec\.output\.enforce") as refusal:
        formed(path, body, enforce=True)
    assert (refusal.value.status, refusal.value.param) == (400, param)
    assert refusal.value.reason == "output_fixed"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (CHAT, {"response_format": response_format(SCHEMA)}),
        (COMPLETIONS, {"structured_outputs": FORM}),
        (RESPONSES, {"text": {"format": {"type": "json_schema", "schema": SCHEMA}}}),
    ],
)
def test_the_same_form_is_not_another(path: str, body: dict[str, Any]) -> None:
    assert formed(path, body, enforce=True) == {}


@pytest.mark.parametrize("value", ["a", 1, [1], True, 0, [], "", False])
def test_a_form_that_is_no_object_is_malformed(value: object) -> None:
    with pytest.raises(Refusal, match="structured_outputs must be an object"):
        Requests(limits=Limits(), context=1000, output=None)(CHAT, {"structured_outputs": value})


@pytest.mark.parametrize("value", [2**63, -(2**63) - 1, 10**300])
def test_a_number_past_64_bits_is_malformed(value: int) -> None:
    with pytest.raises(Refusal, match="top_k does not fit into 64 bits"):
        Requests(limits=Limits(), context=1000, output=None)(CHAT, {"top_k": value})


@pytest.mark.parametrize("body", [{"ignore_eos": True}, {"min_tokens": 5}])
def test_an_enforced_form_may_not_be_written_past(body: dict[str, Any]) -> None:
    assert formed(CHAT, body) == {"structured_outputs": FORM}
    with pytest.raises(Refusal, match=next(iter(body))):
        formed(CHAT, body, enforce=True)


@pytest.mark.parametrize(
    ("form", "fields"),
    [
        ({"regex": "a+"}, {"structured_outputs": {"regex": "a+"}}),
        ({"grammar": 'root ::= "a"'}, {"structured_outputs": {"grammar": 'root ::= "a"'}}),
        ({}, {}),
    ],
)
def test_the_form_may_be_a_regex_or_a_grammar(form: dict[str, Any], fields: dict[str, Any]) -> None:
    assert formed(CHAT, {}, schema=None, **form) == fields


@pytest.mark.parametrize("own", [None, [], ""])
def test_stop_sequences_are_given_to_requests_that_bring_none(own: object) -> None:
    assert formed(CHAT, {"stop": own}, schema=None, stop=["x", "y"]) == {"stop": ["x", "y"]}


def test_stop_sequences_of_its_own_win_unless_the_services_are_enforced() -> None:
    assert formed(CHAT, {"stop": "z"}, schema=None, stop=["x"]) == {}
    enforced = {"schema": None, "stop": ["x"], "enforce": True}
    assert formed(CHAT, {"stop": "x"}, **enforced) == {}
    for own in ("z", ["x", "z"]):
        with pytest.raises(Refusal, match="stop: this service has fixed the stop sequences"):
            formed(CHAT, {"stop": own}, **enforced)
    assert formed(CHAT, {"response_format": {"type": "text"}}, **enforced) == {"stop": ["x"]}


def test_embeddings_have_no_form() -> None:
    assert formed("/v1/embeddings", {"input": "a"}, stop=["x"]) == {}


def test_a_response_that_would_silently_not_be_stored_is_refused() -> None:
    off = Requests(limits=Limits(), context=4096, output=None)
    with pytest.raises(Refusal) as refused:
        off(RESPONSES, {"input": "x", "store": True})
    assert (refused.value.status, refused.value.param) == (400, "store")
    assert contract.STORE_VARIABLE in refused.value.message
    assert off(RESPONSES, {"input": "x"}) == {}
    on = Requests(limits=Limits(), context=4096, output=None, stores=True)
    assert on(RESPONSES, {"input": "x", "store": True}) == {}


@pytest.mark.parametrize(
    "field", [{"store": True}, {"background": True}, {"previous_response_id": "resp_1"}]
)
def test_a_response_that_no_later_request_finds_is_neither_stored_nor_continued(
    field: dict[str, Any],
) -> None:
    apart = Requests(
        limits=Limits(max_output_tokens=9),
        context=4096,
        output=None,
        stores=True,
        reaches_store=False,
    )
    with pytest.raises(Refusal, match=r"Leave it out, or .*routing\.mode: Router") as refused:
        apart(RESPONSES, {"input": "x", **field})
    assert (refused.value.status, refused.value.param) == (400, *field)
    assert apart(RESPONSES, {"input": "x"}) == {"store": False, "max_output_tokens": 9}
    assert apart(CHAT, {"max_tokens": 1, "store": True}) == {}


MESSAGES = "/v1/messages"


def test_the_structure_reaches_anthropics_api_in_its_own_form() -> None:
    form = {"type": "json_schema", "schema": SCHEMA}
    body = {"max_tokens": 5, "output_config": {"effort": "low"}}
    assert formed(MESSAGES, body) == {"output_config": {"effort": "low", "format": form}}
    own = {"output_config": {"format": {"type": "json_schema", "schema": OTHER}}}
    assert formed(MESSAGES, own) == {}
    with pytest.raises(Refusal, match="output_config: this service has fixed the structure"):
        formed(MESSAGES, own, enforce=True)
    assert formed(MESSAGES, {"output_config": {"format": form}}, enforce=True) == {}


def test_a_structure_that_anthropics_api_lacks_is_refused() -> None:
    regex = Requests(limits=Limits(), context=1000, output=Output(regex="[ab]+"))
    with pytest.raises(Refusal, match=r"spec\.output\.regex.* Use /v1/chat/completions"):
        regex(MESSAGES, {"max_tokens": 5})


def test_tools_that_may_not_be_called_leave_the_structure() -> None:
    body = {"tools": [{"name": "t"}], "tool_choice": {"type": "none"}}
    assert "output_config" in formed(MESSAGES, body)
    assert formed(MESSAGES, {"tools": [{"name": "t"}]}) == {}


def test_stop_sequences_reach_anthropics_api() -> None:
    stops = Requests(limits=Limits(), context=1000, output=Output(stop=("END",)))
    assert stops(MESSAGES, {"max_tokens": 5}) == {"stop_sequences": ["END"]}
    assert stops(MESSAGES, {"stop_sequences": ["x"]}) == {}


def test_the_limit_of_output_tokens_holds_in_anthropics_api() -> None:
    assert limited(MESSAGES, {"max_tokens": 100}) == {}
    with pytest.raises(Refusal, match="max_tokens asks for 101 output tokens"):
        limited(MESSAGES, {"max_tokens": 101})
