"""A pod's place in its group, and when a worker counts its leader as lost."""

import threading
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from slipstream_runtime.engine import group
from slipstream_runtime.engine.group import Member
from slipstream_runtime.host.errors import UnsuitableError
from slipstream_runtime.host.lifecycle import Phase

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
        (LWS | {"LWS_GROUP_SIZE": "3"}, "needs a group of as many pods, and this one has 3"),
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


class _Status(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"phase": "loading"}')

    def log_message(self, *_: object) -> None:
        return None


@pytest.fixture
def leader() -> Iterator[HTTPServer]:
    server = HTTPServer(("127.0.0.1", 0), _Status)
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


def test_a_worker_goes_on_as_soon_as_the_leader_answers() -> None:
    answers = iter([None, Phase.STARTING])
    group.wait(MEMBER, lambda: next(answers), pause=lambda _: None)
    assert next(answers, "none is left") == "none is left"
