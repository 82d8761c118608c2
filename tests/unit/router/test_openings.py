"""A conversation is recognized by its opening, in every turn and in every form of the API."""

from typing import Any

import pytest

from slipstream_runtime.router.comparing import openings

LONG = "Summarize the minutes of the library's last meeting, please. " * 6
SHORT = "hi"


def at(owner: str = "m", **content: Any) -> float | None:
    return openings.position(content, owner=owner)


def user(text: object) -> dict[str, object]:
    return {"role": "user", "content": text}


ANSWER = {"role": "assistant", "content": LONG}
SYSTEM = {"role": "system", "content": LONG}


def test_all_turns_of_a_conversation_have_one_position() -> None:
    first = at(messages=[SYSTEM, user("one?")])
    assert first is not None
    assert 0.0 <= first < 1.0
    assert at(messages=[SYSTEM, user("one?"), ANSWER, user("two?")]) == first


@pytest.mark.parametrize(
    "other",
    [
        {"messages": [SYSTEM, user("two?")]},
        {"messages": [user("one?"), SYSTEM]},
        {"messages": [SYSTEM, user("one?")], "owner": "other"},
        {"messages": [SYSTEM, user("one?")], "system": "you"},
    ],
)
def test_other_conversations_have_other_positions(other: dict[str, Any]) -> None:
    assert at(**other) != at(messages=[SYSTEM, user("one?")])


def test_a_short_beginning_is_no_prefix_until_the_conversation_is_long_enough() -> None:
    assert at(messages=[user(SHORT)]) is None
    second = at(messages=[user(SHORT), ANSWER, user("two?")])
    assert second is not None
    assert at(messages=[user(SHORT), ANSWER, user("three?"), ANSWER]) == second


def test_the_forms_of_one_text_have_one_position() -> None:
    whole = at(input=LONG)
    assert whole is not None
    assert at(input=[user(LONG), ANSWER, user("two?")]) == whole
    assert at(messages=[user([{"type": "text", "text": LONG}])]) == whole


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"prompt": LONG},
        {"input": [LONG, LONG]},
        {"input": [1, 2, 3]},
        {"messages": []},
        {"messages": "x" * 10},
        {"messages": [None]},
        {"messages": [SYSTEM]},
        {"messages": {"role": "user"}},
    ],
    ids=str,
)
def test_a_request_without_a_conversation_has_no_position(content: dict[str, Any]) -> None:
    assert at(**content) is None


@pytest.mark.parametrize(
    "content", [None, 7, {"a": 1}, [None, "x", {"text": 5}], "\ud800" * 300, [[]]], ids=repr
)
def test_odd_messages_are_no_error(content: object) -> None:
    at(messages=[user(content), user(LONG)])
