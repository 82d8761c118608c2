"""Lease: its holder, when the holder changes, and that two holders never work at once."""

import asyncio
import copy
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from slipstream_operator import errors
from slipstream_operator.adapters.lease import DURATION, GIVE_UP_AFTER, RENEW_EVERY, Lease

TOLERANCE = 0.2


class Cluster:
    """An API server with one Lease; it can be down, and it can hang."""

    def __init__(self) -> None:
        self.lease: dict[str, Any] | None = None
        self.version = 0
        self.verbs: list[str] = []
        self.down = False
        self.hangs = False

    @property
    def holder(self) -> str | None:
        return self.lease["spec"]["holderIdentity"] if self.lease else None

    async def request(self, verb: str, kind: str, /, **arguments: Any) -> dict[str, Any]:
        assert kind == "Lease"
        if self.hangs:
            await asyncio.sleep(30.0)
        if self.down or self.hangs:
            raise errors.Unavailable("down")
        self.verbs.append(verb)
        if verb == "get":
            if self.lease is None:
                raise errors.NotFound("no Lease")
            return copy.deepcopy(self.lease)
        self._write(verb, copy.deepcopy(arguments["body"]))
        return {}

    def _write(self, verb: str, body: dict[str, Any]) -> None:
        if verb == "create" and self.lease is not None:
            raise errors.Conflict("exists")
        if verb == "replace":
            assert self.lease is not None
            if body["metadata"]["resourceVersion"] != self.lease["metadata"]["resourceVersion"]:
                raise errors.Conflict("changed")
        self.version += 1
        body["metadata"]["resourceVersion"] = str(self.version)
        self.lease = body

    def held_by(self, identity: str) -> None:
        """Let another replica hold the Lease, renewed just now."""
        body = {"metadata": {"name": "it"}, "spec": {"holderIdentity": identity}}
        self.lease = None
        self._write("create", body)


class Replica:
    """One replica that works for as long as it leads."""

    def __init__(self, cluster: Cluster, identity: str) -> None:
        self.began: float | None = None
        self.ended: float | None = None
        self._lease = Lease(
            cluster,  # type: ignore[arg-type]
            namespace="system",
            name="it",
            identity=identity,
            monotonic=_now,
        )

    async def work(self) -> None:
        self.began = _now()
        try:
            await asyncio.Event().wait()
        finally:
            self.ended = _now()

    async def lead(self) -> None:
        await self._lease.lead(self.work)


def _now() -> float:
    return asyncio.get_running_loop().time()


@asynccontextmanager
async def _leading(replica: Replica) -> AsyncIterator["asyncio.Task[None]"]:
    task = asyncio.create_task(replica.lead())
    try:
        yield task
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError, errors.TransientError):
            await task


async def test_a_missing_lease_is_created() -> None:
    cluster = Cluster()
    replica = Replica(cluster, "a")
    async with _leading(replica):
        await asyncio.sleep(1.0)
        assert (replica.began, cluster.holder) == (0.0, "a")
    assert cluster.verbs[:2] == ["get", "create"]


async def test_a_lease_is_renewed() -> None:
    cluster = Cluster()
    async with _leading(Replica(cluster, "a")):
        await asyncio.sleep(1.0)
        assert cluster.lease is not None
        first = cluster.lease["metadata"]["resourceVersion"]
        await asyncio.sleep(10 * RENEW_EVERY)
        assert cluster.lease["metadata"]["resourceVersion"] != first
        assert cluster.lease["spec"]["leaseTransitions"] == 1


async def test_a_stop_releases_it_so_that_the_next_one_starts_at_once() -> None:
    cluster = Cluster()
    first, second = Replica(cluster, "a"), Replica(cluster, "b")
    async with _leading(first) as leading:
        await asyncio.sleep(5.0)
        async with _leading(second):
            await asyncio.sleep(5.0)
            assert second.began is None
            leading.cancel()
            await asyncio.sleep(RENEW_EVERY + TOLERANCE)
            assert cluster.holder == "b"
            assert first.ended is not None
            assert second.began is not None
            assert first.ended <= second.began <= first.ended + RENEW_EVERY + TOLERANCE


async def test_a_holder_that_renews_is_never_replaced() -> None:
    cluster = Cluster()
    first, second = Replica(cluster, "a"), Replica(cluster, "b")
    async with _leading(first), _leading(second):
        await asyncio.sleep(600.0)
        assert cluster.holder == "a"
        assert second.began is None


async def test_a_silent_holder_is_replaced_after_the_lease_duration_by_the_local_clock() -> None:
    cluster = Cluster()
    cluster.held_by("gone")
    replica = Replica(cluster, "a")
    async with _leading(replica):
        await asyncio.sleep(DURATION + RENEW_EVERY + TOLERANCE)
        assert replica.began is not None
        assert DURATION <= replica.began <= DURATION + RENEW_EVERY + TOLERANCE
        assert cluster.lease is not None
        assert cluster.lease["spec"]["leaseTransitions"] == 1


async def test_of_two_replicas_one_acquires_the_lease() -> None:
    cluster = Cluster()
    replicas = [Replica(cluster, name) for name in "abc"]
    async with _leading(replicas[0]), _leading(replicas[1]), _leading(replicas[2]):
        await asyncio.sleep(60.0)
        assert len([replica for replica in replicas if replica.began is not None]) == 1


async def test_one_failed_renewal_does_not_lose_the_lease() -> None:
    cluster = Cluster()
    replica = Replica(cluster, "a")
    async with _leading(replica):
        await asyncio.sleep(1.0)
        cluster.down = True
        await asyncio.sleep(RENEW_EVERY)
        cluster.down = False
        await asyncio.sleep(60.0)
        assert replica.ended is None


@pytest.mark.parametrize("trouble", ["down", "hangs"])
async def test_a_leader_that_cannot_renew_stops_before_others_may_start(trouble: str) -> None:
    cluster = Cluster()
    replica = Replica(cluster, "a")
    async with _leading(replica) as leading:
        await asyncio.sleep(0.5)  # it renewed at 0
        setattr(cluster, trouble, True)
        with pytest.raises(errors.TransientError):
            await leading
    assert replica.ended is not None
    assert replica.ended == pytest.approx(GIVE_UP_AFTER, abs=TOLERANCE)
    assert replica.ended < DURATION


async def test_a_leader_that_was_replaced_stops() -> None:
    cluster = Cluster()
    replica = Replica(cluster, "a")
    async with _leading(replica) as leading:
        await asyncio.sleep(1.0)
        cluster.held_by("b")
        with pytest.raises(errors.TransientError):
            await leading
    assert cluster.holder == "b"
    assert replica.ended is not None
    assert replica.ended < DURATION


async def test_what_the_work_raises_is_raised_and_the_lease_released() -> None:
    cluster = Cluster()

    async def broken() -> None:
        raise RuntimeError("a bug")

    lease = Lease(cluster, namespace="system", name="it", identity="a", monotonic=_now)  # type: ignore[arg-type]
    with pytest.raises(RuntimeError):
        await lease.lead(broken)
    assert cluster.holder == ""


async def test_a_replica_without_a_connection_waits() -> None:
    cluster = Cluster()
    cluster.down = True
    replica = Replica(cluster, "a")
    async with _leading(replica):
        await asyncio.sleep(60.0)
        assert replica.began is None
        cluster.down = False
        await asyncio.sleep(RENEW_EVERY + TOLERANCE)
        assert replica.began is not None
