"""Requests that engines had when they died."""

import hypothesis
from hypothesis import strategies as st

from slipstream_runtime.router.balancing.deaths import SECONDS, Deaths
from slipstream_runtime.router.messages.request import Request, parse_request

CHAT = "/v1/chat/completions"


def test_a_request_goes_nowhere_after_two_deaths_for_a_while() -> None:
    deaths = Deaths()
    deaths.note(b"r", death=1, now=0)
    assert not deaths.forbids(b"r")
    deaths.note(b"r", death=2, now=1)
    deaths.expire(now=SECONDS)
    assert deaths.forbids(b"r")
    assert not deaths.forbids(b"other")
    deaths.expire(now=SECONDS + 2)
    assert not deaths.known


def test_many_copies_of_a_request_in_one_engine_are_one_death() -> None:
    deaths = Deaths()
    for _ in range(50):
        deaths.note(b"r", death=7, now=0)
    assert deaths.count(b"r") == 1


def test_a_request_with_an_answer_is_forgotten() -> None:
    deaths = Deaths()
    deaths.note(b"r", death=1, now=0)
    deaths.answered(b"r")
    deaths.answered(b"r")
    assert not deaths.known


@hypothesis.given(st.lists(st.tuples(st.binary(min_size=1, max_size=2), st.integers(0, 9))))
def test_requests_are_remembered_by_their_own_deaths(notes: list[tuple[bytes, int]]) -> None:
    deaths, known = Deaths(), dict[bytes, set[int]]()
    for request, death in notes:
        deaths.note(request, death=death, now=0)
        known.setdefault(request, set()).add(death)
    assert all(deaths.count(request) == len(found) for request, found in known.items())


def request(**fields: object) -> Request:
    raw = Request(CHAT, b'{"model":"m","messages":[]}', {}, "m", stream=False)
    found = parse_request(raw.raw, path=CHAT)
    found.update_fields(dict(fields))
    return found


def test_a_request_is_the_same_whoever_sends_it_and_however_it_is_answered() -> None:
    one = request(user="a", stream=True, priority=4, cache_salt="x").identify()
    assert one == request(stream=False, user="b").identify()
    assert one != request(max_tokens=1).identify()
