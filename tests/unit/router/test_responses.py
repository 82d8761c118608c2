"""Response cache: equal requests, leaders and followers, size and time to live."""

import dataclasses
from dataclasses import dataclass
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipstream_runtime.router.cache import responses
from slipstream_runtime.router.cache.memory import CacheMemory
from slipstream_runtime.router.cache.responses import Answer, Hit, Role
from slipstream_runtime.router.messages import streams

BODY: dict[str, object] = {
    "model": "chat",
    "temperature": 0,
    "messages": [{"role": "user", "content": "Why?"}],
}


@dataclass
class Clock:
    now: float = 100.0

    def __call__(self) -> float:
        return self.now


def cache(
    *, ttl: float = 60, size: int = 10_000, clock: Clock | None = None
) -> responses.ResponseCache[str]:
    return responses.ResponseCache(ttl=ttl, size=size, clock=clock or Clock())


def answer(text: str = "So.", *, status: int = 200) -> Answer:
    return Answer(status, "application/json", text.encode())


def key(body: dict[str, object] | None = None, **owner: str) -> bytes:
    asked = {"path": "/v1/chat/completions", "revision": "r1", "tenant": "t", **owner}
    return responses.key(BODY if body is None else body, **asked)


@pytest.mark.parametrize(
    "change",
    [
        {"stream": True},
        {"stream_options": {"include_usage": True}},
        {"user": "u"},
        {"metadata": {"a": "b"}},
    ],
)
def test_who_asks_and_how_the_answer_travels_does_not_part_requests(
    change: dict[str, object],
) -> None:
    assert key({**BODY, **change}) == key()


@pytest.mark.parametrize(
    "change",
    [{"temperature": 1}, {"max_tokens": 5}, {"model": "other"}, {"seed": 1}, {"cache_salt": "x"}],
)
def test_all_else_in_the_body_does(change: dict[str, object]) -> None:
    assert key({**BODY, **change}) != key()


@pytest.mark.parametrize(
    "owner", [{"tenant": "u"}, {"revision": "r2"}, {"path": "/v1/completions"}]
)
def test_another_tenant_revision_or_path_does(owner: dict[str, str]) -> None:
    assert key(**owner) != key()


def test_the_order_of_keys_does_since_grammars_go_by_it() -> None:
    assert key(dict(reversed(BODY.items()))) != key()


def test_seeds_of_any_size_differ() -> None:
    assert key({**BODY, "seed": 2**70}) != key({**BODY, "seed": 2**70 + 1})


@pytest.mark.parametrize(
    ("temperature", "options", "expected"),
    [
        (0, {}, True),
        (0.0, {}, True),
        (0.1, {}, False),
        (None, {}, False),
        ("0", {}, False),
        (0.7, {"opt_in": "use"}, True),
        (0.7, {"opt_in": "no"}, False),
        (0, {"cache_control": "max-age=0, No-Store"}, False),
        (0.7, {"opt_in": "use", "cache_control": "no-store"}, False),
    ],
)
def test_only_exact_or_opted_in_answers_are_cached(
    temperature: object, options: dict[str, str], expected: bool
) -> None:
    assert responses.cacheable({**BODY, "temperature": temperature}, **options) is expected


def test_an_absent_temperature_samples_and_is_not_cached() -> None:
    assert not responses.cacheable({"model": "chat"})


def test_an_answer_is_computed_once_and_then_known_with_its_age() -> None:
    clock = Clock()
    known = cache(clock=clock)
    assert known.look_up(b"k", "first") is Role.LEAD
    assert known.store(b"k", answer()) == []
    clock.now += 7
    assert known.look_up(b"k", "second") == Hit(answer(), age=7)


def test_identical_requests_at_once_wait_for_the_first() -> None:
    known = cache()
    assert [known.look_up(b"k", name) for name in "abc"] == [Role.LEAD, Role.FOLLOW, Role.FOLLOW]
    assert known.look_up(b"other", "d") is Role.LEAD
    assert known.store(b"k", answer()) == ["b", "c"]


def test_a_follower_takes_over_when_the_leader_is_cancelled() -> None:
    known = cache()
    for name in "abc":
        known.look_up(b"k", name)
    assert known.leave(b"k", "a") == "b"
    assert known.store(b"k", answer()) == ["c"]


def test_a_follower_that_leaves_is_not_answered_and_does_not_lead() -> None:
    known = cache()
    for name in "abc":
        known.look_up(b"k", name)
    assert known.leave(b"k", "b") is None
    assert known.leave(b"k", "a") == "c"


def test_after_the_last_one_left_the_next_request_leads() -> None:
    known = cache()
    known.look_up(b"k", "a")
    assert known.leave(b"k", "a") is None
    assert known.look_up(b"k", "b") is Role.LEAD


@pytest.mark.parametrize("status", [400, 404, 422, 301])
def test_refusals_are_shared_by_those_who_wait_but_not_kept(status: int) -> None:
    known = cache()
    known.look_up(b"k", "a")
    known.look_up(b"k", "b")
    assert answer(status=status).final
    assert known.store(b"k", answer(status=status)) == ["b"]
    assert known.look_up(b"k", "c") is Role.LEAD


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_what_may_go_better_next_time_is_not_final(status: int) -> None:
    assert not answer(status=status).final


def test_an_answer_is_forgotten_after_its_time() -> None:
    clock = Clock()
    known = cache(ttl=10, clock=clock)
    known.look_up(b"k", "a")
    known.store(b"k", answer())
    clock.now += 9.9
    assert isinstance(known.look_up(b"k", "b"), Hit)
    clock.now += 0.1
    assert known.look_up(b"k", "c") is Role.LEAD
    assert (len(known), known.used) == (0, 0)


def test_the_least_recently_used_answer_makes_room() -> None:
    known = cache(size=2 * (responses.OVERHEAD + 10))
    for name in (b"1", b"2"):
        known.look_up(name, "a")
        known.store(name, answer("x" * 10))
    known.look_up(b"1", "b")
    known.look_up(b"3", "a")
    known.store(b"3", answer("x" * 10))
    assert isinstance(known.look_up(b"1", "c"), Hit)
    assert known.look_up(b"2", "c") is Role.LEAD


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 3000), st.floats(0, 5))))
def test_never_more_bytes_than_allowed(asked: list[tuple[int, int, float]]) -> None:
    clock = Clock()
    known = cache(ttl=10, size=5000, clock=clock)
    kept: dict[int, int] = {}
    for number, length, pause in asked:
        clock.now += pause
        if known.look_up(bytes([number]), "a") is Role.LEAD:
            known.store(bytes([number]), answer("x" * length))
            kept[number] = length + responses.OVERHEAD
        assert known.used <= 5000
        assert known.used <= sum(kept.values())
        assert (known.used == 0) == (len(known) == 0)


def chunk(index: int = 0, reason: str | None = None, **fields: object) -> bytes:
    choice = {"index": index, "finish_reason": reason, "logprobs": None, **fields}
    head = {"id": "1", "object": "chat.completion.chunk", "created": 5, "model": "chat"}
    return b"data: " + orjson.dumps({**head, "choices": [choice]}) + b"\n\n"


USAGE = (
    b'data: {"id":"1","object":"chat.completion.chunk","choices":[],"usage":{"total_tokens":9}}\n\n'
)
STREAM = [
    chunk(delta={"role": "assistant", "content": ""}),
    *(chunk(delta={"content": word}) for word in ("Be", "cause", " €")),
    chunk(delta={}, reason="stop"),
    USAGE,
    streams.DONE,
]


def test_a_stream_is_kept_as_the_whole_answer() -> None:
    body = streams.assembled(STREAM)
    assert body is not None
    whole = orjson.loads(body)
    assert whole["object"] == "chat.completion"
    assert whole["usage"] == {"total_tokens": 9}
    (choice,) = whole["choices"]
    assert choice["message"] == {"role": "assistant", "content": "Because €"}
    assert choice["finish_reason"] == "stop"


@pytest.mark.parametrize(
    "events",
    [
        STREAM[:-1],
        [*STREAM[:4], *STREAM[5:]],
        [*STREAM[:5], b'data: {"error":{"message":"gone"}}\n\n', *STREAM[5:]],
        [*STREAM[:5], streams.DONE],
        [],
    ],
    ids=["no DONE", "no finish reason", "error event", "no usage", "nothing"],
)
def test_a_stream_that_broke_off_is_no_answer(events: list[bytes]) -> None:
    assert streams.assembled(events) is None


COMPLETE: dict[str, Any] = {
    "object": "text_completion",
    "choices": [{"index": 0, "text": "", "finish_reason": "stop"}],
}


def choice_with(**fields: object) -> dict[str, Any]:
    return {**COMPLETE, "choices": [{**COMPLETE["choices"][0], **fields}]}


def test_a_whole_answer_is_complete() -> None:
    assert streams.complete(orjson.dumps(COMPLETE))


@pytest.mark.parametrize(
    "answer",
    [
        {"choices": COMPLETE["choices"]},
        {**COMPLETE, "object": "list"},
        {**COMPLETE, "choices": []},
        {**COMPLETE, "choices": None},
        choice_with(index=None),
        choice_with(finish_reason=None),
        choice_with(text=None),
        {**COMPLETE, "object": "chat.completion"},
        {"error": {"message": "no"}},
        [],
    ],
)
def test_an_answer_that_lacks_a_part_is_not(answer: object) -> None:
    assert not streams.complete(orjson.dumps(answer))
    assert not streams.complete(orjson.dumps(answer)[:-1])


WORDS = st.text(max_size=20)
CALL = st.fixed_dictionaries(
    {
        "id": st.text(min_size=1, max_size=5),
        "type": st.just("function"),
        "function": st.fixed_dictionaries(
            {"name": st.text(min_size=1, max_size=5), "arguments": WORDS}
        ),
    }
)
MESSAGES = st.fixed_dictionaries(
    {"role": st.just("assistant"), "content": st.none() | WORDS},
    optional={"reasoning": WORDS, "tool_calls": st.lists(CALL, min_size=1, max_size=3)},
)
LOGPROBS = st.none() | st.fixed_dictionaries(
    {
        "content": st.lists(
            st.fixed_dictionaries({"token": WORDS, "logprob": st.floats(-9, 0)}), min_size=1
        )
    }
)


@given(st.lists(st.tuples(MESSAGES, LOGPROBS), min_size=1, max_size=3))
def test_a_replayed_chat_says_what_the_original_said(
    choices: list[tuple[dict[str, object], dict[str, object] | None]],
) -> None:
    whole = {
        "id": "1",
        "object": "chat.completion",
        "created": 5,
        "model": "chat",
        "choices": [
            {"index": index, "message": message, "logprobs": logprobs, "finish_reason": "stop"}
            for index, (message, logprobs) in enumerate(choices)
        ],
        "usage": {"total_tokens": 9},
    }
    body = streams.assembled(streams.replayed(orjson.dumps(whole), usage=True))
    assert body is not None
    assert orjson.loads(body) == whole


def test_a_replayed_completion_says_what_the_original_said() -> None:
    logprobs = {"tokens": ["a"], "token_logprobs": [-0.5], "top_logprobs": None}
    whole = {
        "id": "1",
        "object": "text_completion",
        "choices": [{"index": 0, "text": "a b", "logprobs": logprobs, "finish_reason": "length"}],
        "usage": {"total_tokens": 9},
    }
    body = streams.assembled(streams.replayed(orjson.dumps(whole), usage=True))
    assert body is not None
    assert orjson.loads(body) == whole


def test_the_token_counts_are_replayed_only_to_those_who_asked() -> None:
    body = streams.assembled(STREAM)
    assert body is not None
    quiet = list(streams.replayed(body, usage=False))
    assert not any(b"usage" in event for event in quiet)
    assert quiet[-1] == streams.DONE


def test_an_answer_counts_its_body_and_its_overhead() -> None:
    assert dataclasses.replace(answer(), body=b"1234").size == 4 + responses.OVERHEAD


@given(
    most=st.integers(0, 6000),
    steps=st.lists(
        st.tuples(st.sampled_from("ab"), st.integers(0, 9), st.integers(0, 2000)), max_size=60
    ),
)
def test_all_caches_together_stay_within_their_memory(
    most: int, steps: list[tuple[str, int, int]]
) -> None:
    memory, clock = CacheMemory(), Clock()
    memory.most = most
    caches = {
        name: responses.ResponseCache[str](ttl=60, size=4000, clock=clock, memory=memory)
        for name in "ab"
    }
    for name, number, size in steps:
        asked = key({**BODY, "seed": number})
        if caches[name].look_up(asked, "one") is Role.LEAD:
            caches[name].store(asked, answer("x" * size))
        assert memory.used == sum(each.used for each in caches.values()) <= most
    caches["a"].close()
    assert memory.used == caches["b"].used
    assert len(caches["a"]) == 0


def test_a_flight_that_parts_gives_its_followers_free_and_the_next_request_leads() -> None:
    one = cache()
    assert one.look_up(key(), "leader") is Role.LEAD
    assert one.look_up(key(), "follower") is Role.FOLLOW
    assert one.part(key(), "follower") == []
    assert one.part(key(), "leader") == ["follower"]
    assert one.look_up(key(), "next") is Role.LEAD
    assert one.leave(key(), "leader") is None
    assert one.part(key(), "leader") == []
    assert one.store(key(), answer()) == []
