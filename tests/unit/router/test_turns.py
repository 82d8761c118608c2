"""Turns of tenants: shares of slots and of the queue, whatever one tenant sends."""

import asyncio
from collections import Counter

import hypothesis
import pytest
from hypothesis import strategies as st

from slipstream_runtime.router.balancing.queue import RequestQueue, Waiter
from slipstream_runtime.router.balancing.turns import PRESENT_SECONDS, Turns, kept
from slipstream_runtime.router.messages.request import Request
from slipstream_runtime.router.proxy.connections import peer
from slipstream_runtime.web.refusal import Refusal

PATH = "/v1/completions"


def waiter(client: str, *, priority: int = 0, size: int = 1) -> Waiter:
    request = Request(PATH, b"x" * size, {}, "m", stream=False, priority=priority, client=client)
    return Waiter(request, tried=set())


def queue(*, requests: int = 100, size: int = 10_000) -> RequestQueue:
    found = RequestQueue()
    found.max_requests, found.max_bytes = requests, size
    return found


def served(waiting: RequestQueue, turns: Turns) -> list[Waiter]:
    """Give a slot to everyone, without an end."""
    found = []
    for each in waiting.in_turn(rank=turns.rank, admits=lambda tenant, priority: True):
        waiting.remove(each)
        turns.began(each.request.client, 1)
        found.append(each)
    return found


async def test_tenants_of_one_priority_take_turns_and_each_of_them_is_in_order() -> None:
    waiting, turns = queue(), Turns()
    sent = [waiter(client) for client in "aaaabbc"]
    for each in sent:
        waiting.add(each)
    order = served(waiting, turns)
    assert "".join(each.request.client for each in order) == "abcabaa"
    assert [each for each in order if each.request.client == "a"] == sent[:4]


async def test_a_higher_priority_goes_before_all_turns() -> None:
    waiting, turns = queue(), Turns()
    turns.began("b", 1)
    for client, priority in (("a", 0), ("b", 1), ("b", 1)):
        waiting.add(waiter(client, priority=priority))
    assert "".join(each.request.client for each in served(waiting, turns)) == "bba"


async def test_who_has_most_slots_waits_until_the_others_have_as_many() -> None:
    waiting, turns = queue(), Turns()
    for _ in range(3):
        turns.began("a", 1)
    for client in "aabbbb":
        waiting.add(waiter(client))
    assert "".join(each.request.client for each in served(waiting, turns)) == "bbbaba"


async def test_of_two_tenants_without_a_slot_the_one_that_waited_longer_is_next() -> None:
    waiting, turns = queue(), Turns()
    for client in "ba":
        turns.began(client, 1)
        turns.ended(client, 1)
    for client in "aabb":
        waiting.add(waiter(client))
    assert next(waiting.in_turn(rank=turns.rank, admits=lambda *_: True)).request.client == "b"


async def test_a_tenant_that_fills_the_queue_makes_room_for_another() -> None:
    waiting = queue(requests=4)
    flood = [waiter("a") for _ in range(4)]
    for each in flood:
        waiting.add(each)
    with pytest.raises(Refusal):
        waiting.add(waiter("a"))
    waiting.add(waiter("b"))
    waiting.add(waiter("b"))
    with pytest.raises(Refusal):
        waiting.add(waiter("b"))
    assert [each.slot.done() for each in flood] == [False, False, True, True]
    refusal = flood[3].slot.exception()
    assert isinstance(refusal, Refusal)
    assert refusal.status == 429


async def test_bytes_are_shared_like_requests() -> None:
    waiting = queue(size=1000)
    flood = [waiter("a", size=200) for _ in range(5)]
    for each in flood:
        waiting.add(each)
    waiting.add(waiter("b", size=300))
    assert [each.slot.done() for each in flood] == [False, False, False, True, True]
    with pytest.raises(Refusal):
        waiting.add(waiter("b", size=400))
    with pytest.raises(Refusal):
        waiting.add(waiter("c", size=1001))
    assert sum(each.slot.done() for each in flood) == 2


asks = st.lists(
    st.tuples(st.sampled_from("abc"), st.integers(0, 1), st.integers(1, 60)), max_size=60
)


@hypothesis.given(asks=asks, requests=st.integers(1, 12), size=st.integers(1, 200))
def test_the_queue_stays_within_its_bounds_and_refuses_nobody_with_less(
    asks: list[tuple[str, int, int]], requests: int, size: int
) -> None:
    async def run() -> None:
        waiting = queue(requests=requests, size=size)
        kept_ones: list[Waiter] = []
        for client, priority, length in asks:
            new = waiter(client, priority=priority, size=length)
            before = [*waiting]
            try:
                waiting.add(new)
            except Refusal:
                assert [*waiting] == before
                equal = [each for each in before if each.request.priority <= priority]
                if len(before) >= requests and sum(e.size for e in before) + length <= size:
                    most = max(Counter(e.request.client for e in equal).values(), default=0)
                    assert most <= sum(e.request.client == client for e in equal) + 1
            else:
                kept_ones = [each for each in [*kept_ones, new] if not each.slot.done()]
            assert sorted(map(id, waiting)) == sorted(map(id, kept_ones))
            assert len(waiting) <= requests
            assert sum(each.size for each in waiting) <= size
        for each in kept_ones:
            waiting.remove(each)
            waiting.remove(each)
        assert len(waiting) == 0
        assert [*waiting] == []

    asyncio.run(run())


@hypothesis.given(
    slots=st.integers(1, 40),
    steps=st.lists(
        st.tuples(st.sampled_from(["send", "end"]), st.sampled_from("abcd")), max_size=120
    ),
)
def test_slots_are_shared_by_turns(slots: int, steps: list[tuple[str, str]]) -> None:
    """A tenant that waits has at least as many slots as any other, or all that it could get since it came."""

    async def run() -> None:
        waiting, turns, running = queue(requests=1000), Turns(), Counter[str]()

        def dispatch() -> None:
            for each in waiting.in_turn(rank=turns.rank, admits=lambda *_: True):
                if sum(running.values()) >= slots:
                    return
                client = each.request.client
                others = {w.request.client for w in waiting} - {client}
                assert all(running[client] <= running[other] for other in others)
                waiting.remove(each)
                turns.began(client, 1)
                running[client] += 1

        for step, client in steps:
            if step == "send":
                waiting.add(waiter(client))
            elif running[client]:
                running[client] -= 1
                turns.ended(client, 1)
            dispatch()
            assert len(waiting) == 0 or sum(running.values()) == slots

    asyncio.run(run())


def test_a_tenant_alone_may_take_every_slot() -> None:
    turns = Turns()
    for taken in range(8):
        turns.saw("a", priority=0, now=taken)
        assert not turns.contended("a", priority=0, now=taken)
        turns.began("a", 1)


def test_a_slot_is_kept_for_a_tenant_that_was_there_and_no_longer() -> None:
    turns = Turns()
    turns.saw("b", priority=0, now=0)
    turns.saw("a", priority=0, now=1)
    for _ in range(7):
        turns.began("a", 1)
    assert turns.contended("a", priority=0, now=PRESENT_SECONDS)
    assert not turns.admits("a", slots=8, taken=7)
    assert turns.admits("b", slots=8, taken=7)
    assert not turns.contended("a", priority=0, now=PRESENT_SECONDS + 1)


def test_no_slot_is_kept_from_a_tenant_for_one_of_lower_priority() -> None:
    turns = Turns()
    turns.saw("low", priority=0, now=0)
    assert not turns.contended("high", priority=1, now=0)
    turns.saw("high", priority=1, now=0)
    assert turns.contended("low", priority=0, now=0)


@hypothesis.given(st.integers(1, 5000))
def test_few_slots_are_kept(slots: int) -> None:
    assert kept(slots) <= max(slots / 4, 0)
    assert (kept(slots) >= 1) == (slots >= 4)


@hypothesis.given(free=st.integers(1, 64), has=st.lists(st.integers(0, 64), min_size=1, max_size=9))
def test_a_tenant_without_a_slot_may_always_take_a_free_one(free: int, has: list[int]) -> None:
    turns = Turns()
    for number, count in enumerate(has):
        turns.began(str(number), count)
    assert turns.admits("new", slots=sum(has) + free, taken=sum(has))


def test_a_request_for_many_answers_is_waited_for_within_its_share_only() -> None:
    turns = Turns()
    turns.began("a", 5)
    assert turns.fits("a", 8, 8, waiting=["a"])
    assert turns.fits("a", 4, 8, waiting=["b"])
    assert not turns.fits("a", 5, 8, waiting=["b"])
    assert turns.fits("a", 1, 2, waiting=["b", "c", "d"])


@pytest.mark.parametrize(
    ("name", "found"),
    [
        (("10.0.0.1", 80), "10.0.0.1"),
        (("::ffff:10.0.0.1", 80, 0, 0), "10.0.0.1"),
        (("2001:db8:1:2:3:4:5:6", 80, 0, 0), "2001:db8:1:2::/64"),
        (("fe80::1%eth0", 80, 0, 0), "fe80::/64"),
        (None, ""),
    ],
)
def test_hosts_of_ipv6_have_one_address_each(name: tuple[str, int] | None, found: str) -> None:
    assert peer(name) == found
