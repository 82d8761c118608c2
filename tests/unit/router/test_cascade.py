"""Decisions of routes: the service of a request, kept and discarded answers, and their tokens."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipstream_runtime.router import config
from slipstream_runtime.router.cascade import decisions, totals
from slipstream_runtime.router.cascade.decisions import EscalationReason
from slipstream_runtime.router.cascade.totals import RouteTotals
from slipstream_runtime.router.messages.usage import Tokens

CHAT: dict[str, object] = {"model": "any", "messages": [{"role": "user", "content": "Why?"}]}
SURE = config.Accept(min_confidence=0.8)


def route(*accepts: config.Accept, max_escalation: float = 1.0) -> config.Route:
    stages = tuple(
        config.Stage(service=f"stage-{number}", accept=accept)
        for number, accept in enumerate(accepts)
    )
    return config.Route(name="r", model="any", stages=stages, max_escalation=max_escalation)


def said(
    text: str | None = "So.",
    *,
    reason: str = "stop",
    logprobs: list[float] | None = None,
    **fields: object,
) -> dict[str, object]:
    probabilities = (
        {"content": [{"token": "x", "logprob": p} for p in logprobs]}
        if logprobs is not None
        else None
    )
    message = {"role": "assistant", "content": text, **fields}
    return {
        "choices": [
            {"index": 0, "message": message, "finish_reason": reason, "logprobs": probabilities}
        ]
    }


def objection(
    answer: dict[str, object], *, accept: config.Accept = SURE, **body: object
) -> EscalationReason | None:
    return decisions.objection(accept, {**CHAT, **body}, answer=answer)


def test_a_split_follows_its_weights() -> None:
    shares = tuple(
        config.Share(service=name, weight=weight) for name, weight in (("a", 3), ("b", 1))
    )
    weighted = config.Route(name="r", model="any", backends=shares)
    drawn = [decisions.split(weighted, step / 100) for step in range(100)]
    assert (drawn.count("a"), drawn.count("b")) == (75, 25)


@pytest.mark.parametrize(
    ("accept", "body", "reason"),
    [
        ({"max_prompt_tokens": 100}, {}, None),
        ({"max_prompt_tokens": 99}, {}, EscalationReason.PROMPT_TOO_LONG),
        ({"tools": False}, {"tools": [{"type": "function"}]}, EscalationReason.TOOLS),
        ({"tools": False}, {"tools": []}, None),
        ({}, {"tools": [{"type": "function"}]}, None),
        (
            {"structured": False},
            {"response_format": {"type": "json_schema"}},
            EscalationReason.STRUCTURED,
        ),
        (
            {"structured": False},
            {"structured_outputs": {"regex": "a+"}},
            EscalationReason.STRUCTURED,
        ),
        ({"structured": False}, {"response_format": {"type": "text"}}, None),
    ],
)
def test_a_stage_takes_what_its_rules_allow(
    accept: dict[str, object], body: dict[str, object], reason: EscalationReason | None
) -> None:
    rules = config.Accept.model_validate(accept)
    assert decisions.skipped(rules, {**CHAT, **body}, prompt_tokens=100) is reason


def test_only_stages_that_judge_hold_their_answer_back() -> None:
    three = route(config.Accept(max_prompt_tokens=10), SURE, SURE)
    assert [decisions.judges(three, position) for position in range(3)] == [False, True, False]


def test_a_probe_asks_for_a_whole_answer_with_probabilities() -> None:
    probe = decisions.probe({**CHAT, "stream": True, "stream_options": {"include_usage": True}})
    assert probe == {**CHAT, "logprobs": True}
    assert decisions.probe({"prompt": "Why?", "stream": True}) == {"prompt": "Why?", "logprobs": 1}
    for number in (3, 0):
        assert decisions.probe({"prompt": "Why?", "logprobs": number})["logprobs"] == number


def test_clients_get_the_probabilities_only_if_they_asked() -> None:
    answer = said(logprobs=[-0.1])
    assert decisions.delivered(answer, CHAT) == said()
    assert decisions.delivered(answer, {**CHAT, "logprobs": True}) == answer


@given(st.lists(st.floats(-50, 0), min_size=1, max_size=50))
def test_confidence_is_the_geometric_mean_of_the_probabilities(logprobs: list[float]) -> None:
    sure = decisions.confidence(said(logprobs=logprobs))
    assert sure == pytest.approx(math.prod(math.exp(p / len(logprobs)) for p in logprobs))
    assert sure is not None and 0 <= sure <= 1


def test_the_least_sure_choice_counts() -> None:
    two = {
        "choices": [*said(logprobs=[0.0])["choices"], *said(logprobs=[math.log(0.3)])["choices"]]
    }  # type: ignore[misc]
    assert decisions.confidence(two) == pytest.approx(0.3)


def test_a_completions_probabilities_count_alike() -> None:
    choice = {"text": "So.", "logprobs": {"token_logprobs": [None, math.log(0.5)]}}
    assert decisions.confidence({"choices": [choice]}) == pytest.approx(0.5)


@pytest.mark.parametrize("logprobs", [None, [], [math.nan]])
def test_no_probabilities_is_no_confidence_and_not_zero(logprobs: list[float] | None) -> None:
    assert decisions.confidence(said(logprobs=logprobs)) is None
    assert objection(said(logprobs=logprobs)) is EscalationReason.CONFIDENCE_UNKNOWN


@pytest.mark.parametrize(
    ("probability", "expected"), [(0.81, None), (0.79, EscalationReason.UNSURE)]
)
def test_an_answer_stands_from_the_least_confidence_on(
    probability: float, expected: EscalationReason | None
) -> None:
    assert objection(said(logprobs=[math.log(probability)])) is expected


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (said(reason="length", logprobs=[0.0]), EscalationReason.CUT_OFF),
        (said(reason="content_filter", logprobs=[0.0]), EscalationReason.REFUSAL),
        (said(None, refusal="No.", logprobs=[0.0]), EscalationReason.REFUSAL),
        (said("I'm sorry, but I can't help with that.", logprobs=[0.0]), EscalationReason.REFUSAL),
        (said("I cannot do that.", logprobs=[0.0]), EscalationReason.REFUSAL),
        (said("Sorry. I\u2019m unable to say.", logprobs=[0.0]), EscalationReason.REFUSAL),
        (said("As an AI model, I can't.", logprobs=[0.0]), EscalationReason.REFUSAL),
        (said("It is said that I cannot fail.", logprobs=[0.0]), None),
        (said("I can.", logprobs=[0.0]), None),
        ({"choices": []}, EscalationReason.ERROR),
    ],
)
def test_what_is_wrong_with_an_answer_whatever_its_confidence(
    answer: dict[str, object], expected: EscalationReason | None
) -> None:
    assert objection(answer) is expected


@pytest.mark.parametrize(
    ("text", "fields", "expected"),
    [
        ('{"a": 1}', {}, None),
        ('{"a": ', {}, EscalationReason.INVALID_JSON),
        ("", {"tool_calls": [{"id": "1"}]}, None),
    ],
)
def test_json_that_was_demanded_must_be_json(
    text: str, fields: dict[str, object], expected: EscalationReason | None
) -> None:
    answer = said(text, logprobs=[0.0], **fields)
    assert objection(answer, response_format={"type": "json_object"}) is expected
    assert objection(answer) is None


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (200, None),
        (307, EscalationReason.ERROR),
        (400, EscalationReason.REJECTED),
        (404, EscalationReason.REJECTED),
        (408, EscalationReason.ERROR),
        (429, EscalationReason.ERROR),
        (503, EscalationReason.ERROR),
    ],
)
def test_what_is_no_answer_goes_to_the_next_stage(
    status: int, expected: EscalationReason | None
) -> None:
    assert decisions.failure(status) is expected


@given(st.lists(st.booleans(), max_size=80), st.floats(0, 1))
def test_no_more_than_the_allowed_share_is_answered_twice(unsure: list[bool], share: float) -> None:
    two = route(SURE, config.Accept(), max_escalation=share)
    totals = RouteTotals.empty(2)
    for objected in unsure:
        totals = totals.with_request()
        if objected and decisions.escalates(two, EscalationReason.UNSURE, totals, again=False):
            totals = totals.with_escalation()
        assert totals.escalated <= share * totals.requests


@pytest.mark.parametrize("reason", [EscalationReason.ERROR, EscalationReason.REJECTED])
def test_what_is_no_answer_is_replaced_whatever_the_share(reason: EscalationReason) -> None:
    two = route(SURE, config.Accept(), max_escalation=0)
    totals = RouteTotals.empty(2).with_request()
    assert decisions.escalates(two, reason, totals, again=False)
    assert not decisions.escalates(two, EscalationReason.UNSURE, totals, again=False)


def test_a_request_counts_once_however_many_stages_it_goes_through() -> None:
    three = route(SURE, SURE, config.Accept())
    totals = RouteTotals.empty(3).with_request().with_escalation()
    assert decisions.escalates(three, EscalationReason.UNSURE, totals, again=True)
    assert not decisions.escalates(three, EscalationReason.UNSURE, totals, again=False)


def test_the_account_says_what_was_saved_and_what_was_spent() -> None:
    totals = RouteTotals.empty(3)
    totals = totals.with_request().with_kept(0, Tokens(10, 5))
    totals = (
        totals.with_request()
        .with_escalation()
        .with_kept(1, Tokens(20, 9))
        .with_discarded(0, Tokens(20, 8))
    )
    totals = totals.with_request().with_escalation().with_kept(2, Tokens(1, 3))
    totals = totals.with_discarded(0, Tokens(1, 1)).with_discarded(1, Tokens(1, 2))
    assert totals.saved == Tokens(30, 14)
    assert totals.spent == Tokens(22, 11)
    assert (totals.requests, totals.escalated) == (3, 2)
    assert totals.shares == pytest.approx((1 / 3, 1 / 3, 1 / 3))


def test_there_are_no_shares_before_the_first_answer() -> None:
    assert RouteTotals.empty(2).with_request().shares is None
    assert totals.StageTotals() == RouteTotals.empty(1).stages[0]
