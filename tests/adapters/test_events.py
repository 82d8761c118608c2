"""Events on users' objects: the same one seldom, and never an error."""

from typing import Any

from slipstream_operator import errors
from slipstream_operator.adapters.events import QUIET_SECONDS, Events
from slipstream_operator.core.happenings import Happening
from tests.support import given

GROWS = Happening("Normal", "ScaledUp", "from 1 to 2")
SHRINKS = Happening("Normal", "ScaledDown", "from 2 to 1")


class Cluster:
    def __init__(self, error: Exception | None = None) -> None:
        self.sent: list[dict[str, Any]] = []
        self.error = error

    async def send(self, verb: str, kind: str, /, **arguments: Any) -> None:
        assert (verb, kind) == ("create", "Event")
        self.sent.append(arguments["body"])
        if self.error:
            raise self.error


class World:
    def __init__(self, error: Exception | None = None) -> None:
        self.now = 0.0
        self.cluster = Cluster(error)
        self.events = Events(self.cluster, instance="pod-1", monotonic=lambda: self.now)  # type: ignore[arg-type]

    async def tell(self, happening: Happening, *, uid: str = given.UID) -> None:
        await self.events.tell(given.KEY, uid, happening)


async def test_an_event_is_about_the_users_object() -> None:
    world = World()
    await world.tell(GROWS)
    (event,) = world.cluster.sent
    assert event["regarding"] == {
        "apiVersion": "slipstream.dev/v1alpha1",
        "kind": "InferenceService",
        "name": "chat",
        "namespace": "team",
        "uid": given.UID,
    }
    assert (event["type"], event["reason"], event["note"]) == ("Normal", "ScaledUp", "from 1 to 2")
    assert event["reportingInstance"] == "pod-1"


async def test_the_same_event_is_told_once_in_ten_minutes() -> None:
    world = World()
    for world.now in (0.0, 1.0, QUIET_SECONDS - 1, QUIET_SECONDS, QUIET_SECONDS + 1):
        await world.tell(GROWS)
    assert len(world.cluster.sent) == 2


async def test_other_events_and_other_objects_are_told() -> None:
    world = World()
    await world.tell(GROWS)
    await world.tell(SHRINKS)
    await world.tell(GROWS, uid="another")
    names = {event["metadata"]["name"] for event in world.cluster.sent}
    assert len(names) == 3


async def test_an_event_that_cannot_be_posted_is_forgotten() -> None:
    await World(errors.Rejected("403")).tell(GROWS)


async def test_long_words_are_cut_to_what_the_api_server_takes() -> None:
    world = World()
    await world.tell(Happening("Warning", "Missed", "x" * 5000))
    assert len(world.cluster.sent[0]["note"]) == 1024
