"""Conversations, and summaries in memory, without a router."""

from typing import Any

import pytest

from slipstream_runtime.router.hooks import conversation, passages
from slipstream_runtime.router.hooks.failures import (
    FAILURES,
    PAUSE_SECONDS,
    Cause,
    HookError,
    Pauses,
)
from slipstream_runtime.router.hooks.summaries import KEPT_SECONDS, Summaries


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def chat(*roles: str) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": f"{n}"} for n, role in enumerate(roles)]}


def parse(content: dict[str, Any]) -> conversation.Conversation:
    found = conversation.parse(content)
    assert found is not None
    return found


def test_a_turn_lasts_to_the_next_message_of_the_user() -> None:
    found = parse(chat("system", "assistant", "user", "assistant", "tool", "assistant", "user"))
    assert [len(turn.messages) for turn in found.turns] == [4, 1]
    assert [message["role"] for message in found.head] == ["system", "assistant"]
    assert found.question == "6"
    assert (
        conversation.messages(found)
        == chat("system", "assistant", "user", "assistant", "tool", "assistant", "user")["messages"]
    )


ODD: list[Any] = [None, "text", [], [1], [{"content": "x"}], [{"role": 1}], {"role": "user"}]


@pytest.mark.parametrize("messages", ODD)
def test_no_conversation_is_found_in_another_form(messages: Any) -> None:
    assert conversation.parse({"messages": messages}) is None


CONTENTS: list[Any] = [None, 7, {"a": 1}, [7, None, {"type": "text"}, {"text": 8}], "", [[]]]


@pytest.mark.parametrize("content", CONTENTS)
def test_odd_contents_have_no_text_and_can_get_a_context(content: Any) -> None:
    message = {"role": "system", "content": content, "tool_calls": [7, {"function": 8}]}
    assert conversation.tokens(message) >= 0
    found = parse({"messages": [message, {"role": "user", "content": content}]})
    assert isinstance(found.question, str)
    changed = conversation.with_context(found, "context")
    assert "context" in conversation.text(conversation.messages(changed)[0])


def test_a_question_is_cut_to_what_encoders_read() -> None:
    found = parse({"messages": [{"role": "user", "content": "ü" * 20_000 + "?"}]})
    assert len(found.question.encode()) <= conversation.QUERY_BYTES
    assert found.question.endswith("?")


def test_equal_beginnings_have_equal_hashes_and_no_others_do() -> None:
    one = parse(chat("user", "assistant", "user", "user")).turns
    keys = conversation.prefixes(["a"], one)
    assert conversation.prefixes(["a"], one[:2]) == keys[:2]
    assert len({*keys, *conversation.prefixes(["b"], one)}) == 2 * len(keys)
    assert conversation.prefixes(["a"], one[1:])[0] not in keys


def test_summaries_are_kept_for_a_time_after_their_last_use() -> None:
    clock = Clock()
    summaries = Summaries(clock=clock)
    summaries.put("a", b"1", "text")
    clock.now = KEPT_SECONDS - 1
    assert summaries.get("a", b"1") == "text"
    assert summaries.get("b", b"1") is None
    clock.now *= 2
    assert summaries.get("a", b"1") == "text"
    clock.now += KEPT_SECONDS
    assert summaries.get("a", b"1") is None
    assert summaries.size == 0


def test_a_tenant_with_many_summaries_takes_none_from_others() -> None:
    summaries = Summaries(clock=Clock(), most=20_000)
    summaries.put("quiet", b"0", "x" * 1000)
    for number in range(1000):
        summaries.put("loud", number.to_bytes(4, "big"), "x" * 1000)
        assert summaries.size <= 20_000
    assert summaries.get("quiet", b"0") is not None
    assert summaries.get("loud", (999).to_bytes(4, "big")) is not None
    summaries.put("loud", b"large", "x" * 30_000)
    assert summaries.get("loud", b"large") is None


def test_a_summary_that_is_written_again_is_counted_once() -> None:
    summaries = Summaries(clock=Clock())
    summaries.put("a", b"1", "x" * 100)
    size = summaries.size
    summaries.put("a", b"1", "y" * 100)
    assert (summaries.size, summaries.get("a", b"1")) == (size, "y" * 100)


def test_a_pause_is_of_one_tenant_and_ends() -> None:
    clock = Clock()
    pauses = Pauses(clock)
    for _ in range(FAILURES):
        pauses.check("a")
        pauses.failed("a", Cause.TIMEOUT)
    with pytest.raises(HookError):
        pauses.check("a")
    pauses.check("b")
    clock.now = PAUSE_SECONDS
    pauses.check("a")
    pauses.failed("a", Cause.NO_KEY)
    pauses.check("a")
    pauses.failed("a", Cause.STATUS)
    with pytest.raises(HookError):
        pauses.check("a")


@pytest.mark.parametrize("budget", range(16, 80))
def test_no_budget_is_exceeded_by_a_byte(budget: int) -> None:
    found = [passages.Passage("wörd " * 30, "ä.md"), passages.Passage("x" * 500)]
    assert len(passages.context(found, budget=budget).encode()) <= 4 * budget
