"""Endpoints that fail, fill up and recover, and the choice among them."""

from collections.abc import Sequence
from typing import Any

import pytest

from slipstream_runtime.router.balancing.endpoints import (
    DEFAULT_CONCURRENCY,
    EJECTION_SECONDS,
    FAILURES,
    STALE_SECONDS,
    Address,
    Endpoint,
    Load,
    Pool,
)
from slipstream_runtime.router.balancing.prefix_picker import PrefixPicker
from slipstream_runtime.router.messages.request import Request

REQUEST = Request(path="/v1/chat/completions", raw=b"{}", content={}, model="m", stream=False)
A, B, C = (Address(name, "10.0.0.1", port) for name, port in (("a", 1), ("b", 2), ("c", 3)))


def asked(**content: Any) -> Request:
    return Request(path="/v1/chat/completions", raw=b"{}", content=content, model="m", stream=False)


def endpoint(*, capacity: int = 2) -> Endpoint:
    return Endpoint(A, revision="r", concurrency=capacity)


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def pool(clock: Clock, *, draws: Sequence[float] = (0.0,) * 100) -> Pool:
    chance = iter(draws)
    picker = PrefixPicker(strategy="LeastLoad")
    return Pool(picker=picker, chance=lambda: next(chance), clock=clock)


def test_an_engine_is_free_up_to_its_capacity() -> None:
    one = endpoint()
    one.enter(asked(), slots=1)
    assert one.free(0)
    second = asked()
    one.enter(second, slots=1)
    assert not one.free(0)
    one.leave(second)
    assert one.free(0)


@pytest.mark.parametrize(
    ("path", "content", "slots"),
    [
        ("/v1/chat/completions", {"n": 3}, 3),
        ("/v1/chat/completions", {"n": 10**9}, 10**9),
        ("/v1/chat/completions", {"n": "3"}, 1),
        ("/v1/chat/completions", {"n": 0}, 1),
        ("/v1/completions", {"n": 2, "prompt": ["a", "b", "c"]}, 6),
        ("/v1/completions", {"prompt": [1, 2, 3]}, 1),
        ("/v1/embeddings", {"n": 3, "input": ["a", "b"]}, 1),
    ],
)
def test_a_request_takes_a_slot_for_each_answer(
    path: str, content: dict[str, Any], slots: int
) -> None:
    request = Request(path=path, raw=b"{}", content=content, model="m", stream=False)
    assert request.slots == slots


def test_a_request_for_many_answers_waits_for_as_many_slots_and_gives_them_all_back() -> None:
    found = pool(Clock())
    found.update({"r": [A, B]}, weights={"r": 1}, concurrency=4)
    first, many, all_slots = asked(n=2), asked(n=3), asked(n=9)
    one = found.take(first, tried=set())
    assert one is not None
    other = found.take(many, tried=set())
    assert other is not one
    assert found.take(asked(n=3), tried=set()) is None
    assert found.take(asked(n=2), tried=set()) is one
    assert found.take(all_slots, tried=set()) is None
    assert other is not None
    other.leave(many)
    assert found.take(all_slots, tried=set()) is other
    assert other.in_flight == 4
    many.release()
    all_slots.release()
    other.leave(all_slots)
    assert other.in_flight == 0


def test_an_engine_takes_what_it_says_that_it_runs_at_once() -> None:
    one = Endpoint(A, revision="r", concurrency=None)
    assert one.capacity == DEFAULT_CONCURRENCY
    one.report(Load(waiting=0, kv=0, at=0, sequences=8192))
    assert one.capacity == 8192
    one.report(Load(waiting=None, kv=None, at=1))
    assert one.capacity == 8192


def test_what_the_configuration_says_of_a_replica_wins_over_what_it_says_itself() -> None:
    one = endpoint(capacity=2)
    one.report(Load(waiting=0, kv=0, at=0, sequences=8192))
    assert one.capacity == 2


def test_it_is_ejected_after_failures_in_a_row_and_then_tried_by_one_request() -> None:
    one = endpoint()
    assert [one.failed(0) for _ in range(FAILURES)] == [False, False, True]
    assert not one.free(EJECTION_SECONDS - 0.1)
    assert one.free(EJECTION_SECONDS)
    one.enter(REQUEST, slots=1)
    assert not one.free(EJECTION_SECONDS)
    assert one.failed(EJECTION_SECONDS)
    one.leave(REQUEST)
    assert not one.free(EJECTION_SECONDS + 0.1)
    assert one.free(2 * EJECTION_SECONDS)


def test_an_answer_between_failures_starts_the_count_anew() -> None:
    one = endpoint()
    for _ in range(10):
        assert not one.failed(0)
        assert not one.failed(0)
        assert not one.succeeded()


def test_failures_of_what_was_in_flight_do_not_prolong_the_ejection() -> None:
    one = endpoint()
    for _ in range(FAILURES):
        one.failed(0)
    assert not one.failed(5)
    assert one.free(EJECTION_SECONDS)


def test_the_first_answer_after_an_ejection_is_told() -> None:
    one = endpoint()
    for _ in range(FAILURES):
        one.failed(0)
    assert one.succeeded()
    assert one.free(0)


def test_a_trial_that_its_client_ended_lets_the_next_one_try() -> None:
    one = endpoint()
    for _ in range(FAILURES):
        one.failed(0)
    one.enter(REQUEST, slots=1)
    one.leave(REQUEST)
    assert one.free(EJECTION_SECONDS)


def test_the_least_loaded_engine_is_picked_by_its_own_queue_and_ours() -> None:
    clock = Clock()
    found = pool(clock)
    found.update({"r": [A, B]}, weights={"r": 100}, concurrency=9)
    first, second = found
    first.load = Load(waiting=3, kv=None, at=clock.now)
    second.load = Load(waiting=0, kv=None, at=clock.now)
    picked = [found.take(REQUEST, tried=()) for _ in range(5)]
    assert [one is second for one in picked] == [True, True, True, False, True]


def test_what_an_engine_said_too_long_ago_does_not_count() -> None:
    clock = Clock()
    found = pool(clock)
    found.update({"r": [A, B]}, weights={"r": 100}, concurrency=9)
    first, second = found
    first.load = Load(waiting=3, kv=None, at=clock.now)
    second.load = Load(waiting=0, kv=None, at=clock.now)
    clock.now += STALE_SECONDS + 0.1
    assert found.take(REQUEST, tried=()) is first


def test_engines_that_were_tried_are_left_out() -> None:
    found = pool(Clock())
    found.update({"r": [A, B]}, weights={"r": 100}, concurrency=9)
    first, second = found
    assert found.take(REQUEST, tried={first}) is second
    assert found.take(REQUEST, tried={first, second}) is None


def _turn(name: str, turns: int) -> Request:
    opening = {"role": "user", "content": f"{name}: {'tell me more of it ' * 20}"}
    more = [{"role": "user", "content": f"and {turn}?"} for turn in range(turns)]
    return asked(messages=[opening, *more])


def _revision(found: Pool, request: Request) -> str:
    one = found.take(request, tried=())
    assert one is not None
    one.leave(request)
    return one.revision


def test_the_free_revision_takes_what_the_full_one_cannot() -> None:
    found = pool(Clock())
    weights = {"old": 90, "new": 10, "none": 0}
    found.update({"old": [A], "new": [B], "none": [C]}, weights=weights, concurrency=2)
    taken = [found.take(asked(), tried=()) for _ in range(5)]
    assert sorted(one.name for one in taken if one) == ["a", "a", "b", "b"]


def test_requests_without_a_prefix_follow_the_weights_exactly() -> None:
    found = pool(Clock(), draws=[0.3])
    found.update({"old": [A], "new": [B]}, weights={"old": 95, "new": 5}, concurrency=9)
    revisions = [_revision(found, asked()) for _ in range(2_000)]
    for start in range(0, 2_000, 200):
        assert abs(revisions[start : start + 200].count("new") - 10) <= 2


def test_a_conversation_keeps_its_revision_in_all_turns_and_as_the_newest_one_grows() -> None:
    before: set[str] = set()
    for weight in (5, 25, 50):
        found = pool(Clock())
        weights = {"old": 100 - weight, "new": weight}
        found.update({"old": [A], "new": [B]}, weights=weights, concurrency=9)
        revisions = {
            name: {_revision(found, _turn(name, turns)) for turns in range(3)}
            for name in map(str, range(1_000))
        }
        assert all(len(each) == 1 for each in revisions.values())
        moved = {name for name, each in revisions.items() if each == {"new"}}
        assert before < moved
        assert abs(len(moved) - 10 * weight) < 50
        before = moved


def test_a_revision_without_replicas_gives_its_requests_to_the_other_one_and_gets_them_back() -> (
    None
):
    found = pool(Clock())
    weights = {"old": 50, "new": 50}
    names = [*map(str, range(40))]

    def revisions(placed: dict[str, list[Address]]) -> list[str]:
        found.update(placed, weights=weights, concurrency=9)
        return [_revision(found, _turn(name, 0)) for name in names]

    both = revisions({"old": [A], "new": [B]})
    assert set(both) == {"old", "new"}
    assert set(revisions({"new": [B]})) == {"new"}
    assert set(revisions({"old": [A]})) == {"old"}
    assert revisions({"old": [A], "new": [B]}) == both


def test_an_engine_that_comes_back_is_a_new_one() -> None:
    found = pool(Clock())
    found.update({"r": [A]}, weights={"r": 1}, concurrency=2)
    [before] = found
    _, gone = found.update({}, weights={"r": 1}, concurrency=2)
    assert gone == [before]
    assert before.removed
    came, _ = found.update({"r": [A]}, weights={"r": 1}, concurrency=2)
    assert came[0] is not before


def test_an_engine_that_stays_keeps_what_is_known_of_it() -> None:
    found = pool(Clock())
    found.update({"r": [A]}, weights={"r": 1}, concurrency=2)
    [before] = found
    before.enter(REQUEST, slots=1)
    found.update({"r": [A, B]}, weights={"r": 5}, concurrency=7)
    assert next(iter(found)) is before
    assert (before.in_flight, before.capacity) == (1, 7)


def test_engines_of_revisions_without_weight_do_not_serve() -> None:
    found = pool(Clock())
    found.update({"r": [A]}, weights={"r": 0}, concurrency=2)
    assert len(found) == 1
    assert not found.serving
    assert found.take(REQUEST, tried=()) is None
