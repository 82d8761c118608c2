"""A pod's place in its group, and when a worker counts its leader as lost."""

import threading
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from slipstream_runtime.engine import group
from slipstream_runtime.engine.group import Member
from slipstream_runtime.errors import EngineError, UnsuitableError
from slipstream_runtime.host.lifecycle import Lifecycle, Phase

LWS = {
    "LWS_LEADER_ADDRESS": "chat-0.chat-0.team",
    "LWS_WORKER_INDEX": "1",
    "LWS_GROUP_SIZE": "2",
}
MEMBER = Member(1, 2, "chat-0.chat-0.team")


def test_leader_worker_set_says_the_place() -> None:
    assert group.member(LWS, nodes=2) == MEMBER
    assert group.member(LWS | {"LWS_WORKER_INDEX": "0"}, nodes=2) == Member(
        0, 2, "chat-0.chat-0.team"
    )
    assert group.member({}, nodes=1) is None


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, "needs LWS_WORKER_INDEX, LWS_GROUP_SIZE, LWS_LEADER_ADDRESS"),
        (LWS | {"LWS_GROUP_SIZE": "3"}, "needs a group of 2 pods, and this one has 3"),
    ],
)
def test_a_pod_outside_of_its_group_says_what_it_lacks(
    environment: dict[str, str], expected: str
) -> None:
    with pytest.raises(UnsuitableError, match=expected):
        group.member(environment, nodes=2)


def looks(phases: Sequence[Phase | None], *, every: float = 1.0) -> tuple[str | None, group.Watch]:
    """The verdict after the last of these answers, one `every` so many seconds."""
    now, answers = [0.0], iter(phases)
    watch = group.Watch(MEMBER, lambda: next(answers), clock=lambda: now[0])
    found = None
    for _ in phases:
        now[0] += every
        found = watch.lost()
    return found, watch


@pytest.mark.parametrize(
    "phases",
    [
        [Phase.LOADING, Phase.PROBING, Phase.READY],
        [Phase.READY, Phase.LEAVING, Phase.DRAINING],
        [Phase.READY, *[None] * 10],
        [Phase.READY, *[None] * 10, Phase.READY, *[None] * 10],
        [Phase.DRAINING, *[None] * 4, Phase.DRAINING, *[None] * 4],
    ],
)
def test_a_leader_that_loads_serves_drains_or_is_silent_for_seconds_is_there(
    phases: list[Phase | None],
) -> None:
    assert looks(phases)[0] is None


@pytest.mark.parametrize(
    ("phases", "expected", "orderly"),
    [
        ([Phase.READY, Phase.FAILED], "the leader chat-0.chat-0.team has failed", False),
        ([Phase.READY, Phase.STOPPED], "the leader chat-0.chat-0.team has stopped", True),
        ([Phase.DRAINING, *[None] * 6], "the leader chat-0.chat-0.team has stopped", True),
        ([Phase.READY, Phase.STARTING], "the leader chat-0.chat-0.team was restarted", False),
        ([Phase.READY, *[None] * 16], "has not answered for 16 s", False),
    ],
)
def test_a_leader_that_ended_is_lost(
    phases: list[Phase | None], expected: str, *, orderly: bool
) -> None:
    found, watch = looks(phases)
    assert found is not None
    assert expected in found
    assert watch.orderly is orderly


class Pod:
    """A worker whose leader is in these phases, one a second; it gets SIGTERM in the second `stop`."""

    def __init__(self, phases: Sequence[Phase | None], *, stop: int | None = None) -> None:
        self.now = 0.0
        self.life = Lifecycle(clock=lambda: self.now)
        self.life.enter(Phase.READY)
        self._phases = list(phases)
        self._stop = stop
        self.dies_at: float | None = None

    def _phase(self) -> Phase | None:
        return self._phases[min(int(self.now) - 1, len(self._phases) - 1)]

    def _wait(self) -> list[str]:
        self.now += 1
        if self.now == self._stop:
            self.life.leave()
        return ["VllmWorker-1"] if self.now == self.dies_at else []

    def follow(self) -> list[str]:
        watch = group.Watch(MEMBER, self._phase, clock=lambda: self.now)
        return group.follow(
            self.life, watch, wait=self._wait, stop_seconds=20, clock=lambda: self.now
        )


READY, DRAINING, STOPPED = Phase.READY, Phase.DRAINING, Phase.STOPPED


def test_a_worker_that_has_to_leave_computes_until_its_leader_has_drained() -> None:
    pod = Pod([READY] * 3 + [DRAINING] * 9 + [STOPPED], stop=2)
    assert pod.follow() == []
    assert pod.now == 13


def test_a_worker_that_has_to_leave_alone_stays_no_longer_than_a_drain() -> None:
    pod = Pod([READY], stop=2)
    assert pod.follow() == []
    assert pod.now == 23


def test_a_worker_whose_leader_left_in_order_leaves_in_order() -> None:
    assert Pod([READY, DRAINING, STOPPED]).follow() == []


def test_a_worker_whose_leader_was_lost_fails_and_says_so() -> None:
    with pytest.raises(EngineError, match="has not answered for"):
        Pod([READY, None]).follow()


def test_a_process_of_the_worker_that_dies_is_returned() -> None:
    pod = Pod([READY])
    pod.dies_at = 3
    assert pod.follow() == ["VllmWorker-1"]


class _Status(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.server.answer)  # type: ignore[attr-defined]

    def log_message(self, *_: object) -> None:
        return None


@pytest.fixture
def leader() -> Iterator[HTTPServer]:
    server = HTTPServer(("127.0.0.1", 0), _Status)
    server.answer = b'{"phase": "loading"}'  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def test_the_phase_is_read_from_the_leaders_status(leader: HTTPServer) -> None:
    port = leader.server_port
    assert group.asking(Member(1, 2, "127.0.0.1"), port=port)() is Phase.LOADING
    assert group.asking(Member(1, 2, "no-such-host.invalid"), port=port)() is None


@pytest.mark.parametrize(
    "answer", [b"[]", b"null", b'{"phase": []}', b'{"phase": "new"}', b"{}", b"a"]
)
def test_an_answer_that_is_no_status_is_none(leader: HTTPServer, answer: bytes) -> None:
    leader.answer = answer  # type: ignore[attr-defined]
    assert group.asking(Member(1, 2, "127.0.0.1"), port=leader.server_port)() is None


def test_a_worker_goes_on_as_soon_as_the_leader_answers() -> None:
    answers = iter([None, Phase.STARTING])
    group.wait(MEMBER, lambda: next(answers), pause=lambda _: None)
    assert next(answers, "none is left") == "none is left"
