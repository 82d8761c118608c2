"""Events on users' objects: repeated Events are dropped, and a failure is no error."""

from typing import Any

from slipstream_operator import errors
from slipstream_operator.adapters.events import QUIET_SECONDS, Events
from slipstream_operator.core.events import Event
from tests.support import given

GROWS = Event("Normal", "ScaledUp", "Scaled from 1 to 2 replicas.")
SHRINKS = Event("Normal", "ScaledDown", "Scaled from 2 to 1 replica.")


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

    async def post(self, event: Event, *, uid: str = given.UID) -> None:
        await self.events.post(given.KEY, uid, event)


async def test_an_event_is_about_the_users_object() -> None:
    world = World()
    await world.post(GROWS)
    (event,) = world.cluster.sent
    assert event["regarding"] == {
        "apiVersion": "slipstream.dev/v1alpha1",
        "kind": "InferenceService",
        "name": "chat",
        "namespace": "team",
        "uid": given.UID,
    }
    assert (event["type"], event["reason"], event["note"]) == (
        "Normal",
        "ScaledUp",
        "Scaled from 1 to 2 replicas.",
    )
    assert event["reportingInstance"] == "pod-1"


async def test_an_event_is_repeated_after_ten_minutes_at_the_earliest() -> None:
    world = World()
    for world.now in (0.0, 1.0, QUIET_SECONDS - 1, QUIET_SECONDS, QUIET_SECONDS + 1):
        await world.post(GROWS)
    assert len(world.cluster.sent) == 2


async def test_other_events_and_other_objects_are_posted() -> None:
    world = World()
    await world.post(GROWS)
    await world.post(SHRINKS)
    await world.post(GROWS, uid="another")
    names = {event["metadata"]["name"] for event in world.cluster.sent}
    assert len(names) == 3


async def test_a_failed_post_raises_no_error() -> None:
    await World(errors.Rejected("403")).post(GROWS)


async def test_a_long_message_is_cut_to_the_limit_of_the_api_server() -> None:
    world = World()
    await world.post(Event("Warning", "Missed", "x" * 5000))
    assert len(world.cluster.sent[0]["note"]) == 1024
