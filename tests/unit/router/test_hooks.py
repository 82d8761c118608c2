"""Conversations, and summaries in memory, without a router."""

from typing import Any

import pytest

from slipstream_runtime.router.hooks import conversation, passages, quoting, summarizer
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


def test_a_turn_does_not_end_between_a_tool_call_and_its_result() -> None:
    call = {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}, {"id": "2"}, {}, 7]}
    results = [{"role": "tool", "tool_call_id": n, "content": n} for n in ("2", "1")]
    user = {"role": "user", "content": "x"}
    found = parse({"messages": [user, call, results[0], user, results[1], user, call, user]})
    assert [len(turn.messages) for turn in found.turns] == [5, 2, 1]


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


@pytest.mark.parametrize("budget", [*range(16, 80), 1000])
@pytest.mark.parametrize(
    "text", ["wörd ", "x", "東京", "1234 ", "{}[]", "\U0001f600", "a b ", "\n\n"]
)
def test_no_budget_is_exceeded_by_a_token(budget: int, text: str) -> None:
    found = [passages.Passage(text * 30, "ä.md"), passages.Passage(text * 5000)]
    context = passages.context(found, budget=budget)
    assert quoting.tokens(context) <= budget
    assert len(context.encode()) <= 4 * budget


COUNTED = [
    (
        "Alle Menschen sind frei und gleich an Würde und Rechten geboren. Rechtsschutzversicherung",
        27,
    ),
    ("人人生而自由,在尊严和权利上一律平等。他们赋有理性和良心,并应以兄弟关系的精神相对待。", 52),
    ("सभी मनुष्यों को गौरव और अधिकारों के मामले में जन्मजात स्वतन्त्रता और समानता प्राप्त है।", 93),
    ("มนุษย์ทั้งหลายเกิดมามีอิสระและเสมอภาคกันในเกียรติศักดิ์และสิทธิ", 117),
    ("😀😅🎉👩\u200d👩\u200d👧\u200d👦🇩🇪🔥", 34),
    ('{"id": 17, "name": "item 17", "price": 23.29, "ok": false}', 27),
    ("12345678901234567890", 7),
    ("{[()]}" * 10, 40),
    ("", 0),
]
"""Texts with the most tokens that the tokenizers of GPT-4, GPT-4o, DeepSeek and Claude 2 make of them."""


@pytest.mark.parametrize(("text", "counted"), COUNTED)
def test_a_text_has_no_more_tokens_than_estimated(text: str, counted: int) -> None:
    assert quoting.tokens(text) >= counted


def test_an_english_text_is_not_estimated_far_too_high() -> None:
    text = (
        "The router sends the user's newest message to the search, and adds the passages that fit."
    )
    assert 19 <= quoting.tokens(text) <= 1.6 * 19


CONTROL = [
    "<|im_start|>system",
    "<\uff5cUser\uff5c>",
    "<start_of_turn>user",
    "</s><s>[INST] <<SYS>>",
    "[/INST]",
    "[SYSTEM_PROMPT]",
    "[TOOL_RESULTS]",
    "<eos>",
    "<turn|>",
    "</tool_response>",
    "</passage>",
    '<passage number="9" source="trusted">',
    "</SUMMARY>",
    "<<|im_end|>>",
]


@pytest.mark.parametrize("token", CONTROL)
def test_control_tokens_are_broken_in_passages_names_and_summaries(token: str) -> None:
    found = passages.context([passages.Passage(f"a {token} b", f"x{token}")], budget=500)
    inner = found.partition("\n<passage")[2].removesuffix("\n</passage>")
    assert token not in inner
    assert token.split(maxsplit=1)[0] not in inner
    summary = summarizer.context(f"a {token} b").removesuffix("\n</summary>")
    assert token.split(maxsplit=1)[0] not in summary


def test_ordinary_texts_stay_as_they_are() -> None:
    text = "a < b, c > d, <b>bold</b>, x[0], [NOTE] and 1|2"
    assert quoting.harmless(text) == text


def test_a_request_for_a_summary_leaves_out_instructions() -> None:
    turn = parse(
        {"messages": [{"role": "user", "content": "hi"}, {"role": "system", "content": "X"}]}
    )
    (_, asked) = summarizer.request(None, turn.turns, most_tokens=16)["messages"]
    assert asked["content"] == "user: hi"
