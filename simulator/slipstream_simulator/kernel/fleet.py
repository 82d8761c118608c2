"""The kernel as an object: arrays made once, and calls into compiled code between control events."""

import math
from collections.abc import Sequence
from typing import Final

import numpy as np

from slipstream_runtime import contract
from slipstream_runtime.simulator import model
from slipstream_simulator.kernel import dispatch, layout, misses
from slipstream_simulator.kernel.layout import Floats, Records, State

_LENGTHS: Final = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0)
_ITERATIONS: Final = tuple(float(2**power) for power in (0, *range(3, 15)))
BUCKETS: Final = {
    layout.TTFT: contract.LATENCY_BUCKETS[contract.TTFT],
    layout.TPOT: contract.LATENCY_BUCKETS[contract.TPOT],
    layout.ITL: contract.LATENCY_BUCKETS[contract.TPOT],
    layout.E2E: contract.LATENCY_BUCKETS[contract.E2E],
    layout.QUEUE: contract.LATENCY_BUCKETS[contract.E2E],
    layout.PROMPT: _LENGTHS,
    layout.OUTPUT: _LENGTHS,
    layout.ITERATION: _ITERATIONS,
}
"""Upper bounds of each histogram, without +Inf."""
WIDTH: Final = max(map(len, BUCKETS.values())) + 1
"""Columns of each histogram's buckets in what `read` returns; the unused ones repeat +Inf."""
SCALARS: Final = 8
FIELDS: Final = SCALARS + len(BUCKETS) * (WIDTH + 1)


def requests(
    arrival: Floats,
    prompt: np.ndarray,
    output: np.ndarray,
    **more: np.ndarray,
) -> Records:
    """Request records from columns, in order of arrival."""
    records = np.zeros(len(arrival), dtype=layout.REQUEST)
    for name in ("enqueued", "admitted", "first", "finished", "latest"):
        records[name] = math.nan
    for name in ("ends", "next", "previous", "pod"):
        records[name] = layout.NONE
    for name, values in (
        ("arrival", arrival),
        ("prompt", prompt),
        ("output", output),
        *more.items(),
    ):
        records[name] = values
    return records


class Kernel:
    """Engines in slots, a router and its clients; the caller owns the control events and their times."""

    def __init__(
        self,
        engine: model.Parameters,
        records: Records,
        *,
        patience: Sequence[float] = (math.inf,),
        retries: Sequence[int] = (0,),
        backoff: float = 1.0,
        router: bool = True,
        slots: int = 64,
    ) -> None:
        kinds = len(patience)
        slots = 1 << (slots - 1).bit_length()
        attempts = len(records) * (1 + max(retries)) + 1
        heap = 2 * engine.max_sequences + 64
        parameters = np.zeros(1, dtype=layout.ENGINE)
        for name in layout.ENGINE.names or ():
            parameters[name] = getattr(engine, name)
        fleet = np.zeros(1, dtype=layout.FLEET)
        fleet["backoff"], fleet["favourite"], fleet["router"] = backoff, layout.NONE, router
        bounds = np.full((len(BUCKETS), WIDTH), math.inf)
        for histogram, buckets in BUCKETS.items():
            bounds[histogram, : len(buckets)] = buckets
        self.state = State(
            requests=records,
            pods=np.zeros(slots, dtype=layout.POD),
            engine=parameters,
            fleet=fleet,
            alarm=np.full(2 * slots, math.inf),
            load=np.full(2 * slots, 1 << 62),
            heap_ends=np.zeros((slots, heap), dtype=np.int64),
            heap_request=np.zeros((slots, heap), dtype=np.int64),
            queue_head=np.full((slots + 1, kinds), layout.NONE),
            queue_tail=np.full((slots + 1, kinds), layout.NONE),
            patience=np.array(patience, dtype=np.float64),
            retries=np.array(retries, dtype=np.int64),
            leave_at=np.zeros((kinds, attempts)),
            leave_request=np.zeros((kinds, attempts), dtype=np.int64),
            leave_attempt=np.zeros((kinds, attempts), dtype=np.int64),
            leave_head=np.zeros(kinds, dtype=np.int64),
            leave_tail=np.zeros(kinds, dtype=np.int64),
            retry_at=np.zeros(attempts),
            retry_request=np.zeros(attempts, dtype=np.int64),
            bounds=bounds,
            counts=np.zeros((slots, len(BUCKETS), WIDTH), dtype=np.int64),
            sums=np.zeros((slots, len(BUCKETS))),
        )
        for slot in range(slots):
            dispatch.reset_pod(self.state, slot)
        self._free = list(range(slots - 1, -1, -1))

    @property
    def records(self) -> Records:
        """Return the records of the requests."""
        return self.state.requests

    @property
    def attempts(self) -> int:
        """Requests that the router has seen, retries included."""
        return int(self.state.fleet["attempts"][0])

    @property
    def left(self) -> int:
        """Requests whose client did not wait for them."""
        return int(self.state.fleet["left"][0])

    @property
    def events(self) -> int:
        """Events so far: arrivals, retries, clients that left, ends of steps."""
        return int(self.state.fleet["events"][0])

    @property
    def held(self) -> int:
        """Requests that wait in the router for a pod."""
        return int(self.state.fleet["held"][0])

    @property
    def live(self) -> int:
        """Requests that have arrived and have no end yet."""
        return int(self.state.fleet["live"][0])

    def missed(self, since: float, limits: Floats) -> int:
        """Requests that arrived from `since` on and have missed their limits; see `misses.count`."""
        now = float(self.state.fleet["now"][0])
        return misses.count(self.state.requests, since, now, limits)[0]

    def advance(self, until: float) -> None:
        """Play all events up to and including `until`."""
        dispatch.advance(self.state, until)

    def open(self, now: float) -> int:
        """Put a ready engine into a slot, which is returned; it takes requests at once."""
        slot = self._free.pop()
        dispatch.open_pod(self.state, slot, now)
        return slot

    def close(self, slot: int) -> None:
        """Send nothing more to an engine."""
        dispatch.close_pod(self.state, slot)

    def clear(self, slot: int, now: float) -> None:
        """Remove an engine; requests that it still has are lost."""
        dispatch.clear_pod(self.state, slot, now)
        self._free.append(slot)

    def speed(self, slot: int, factor: float, now: float) -> None:
        """Multiply the speed of an engine, as its parameters give it, by this factor."""
        dispatch.set_speed(self.state, slot, factor, now)

    def pin(self, slot: int | None) -> None:
        """Send pinned requests to that engine; to any if there is none."""
        self.state.fleet["favourite"] = layout.NONE if slot is None else slot

    def in_flight(self, slot: int) -> int:
        """Requests that an engine has."""
        pod = self.state.pods[slot]
        return int(pod["running"]) + int(pod["waiting"])

    def emptied(self, slot: int) -> float:
        """Return the time at which the engine ran out of work; inf while it works."""
        return float(self.state.pods[slot]["emptied"])

    def read(self, slots: Sequence[int], now: float) -> Floats:
        """One row of `FIELDS` values for each engine."""
        out = np.empty((len(slots), FIELDS))
        dispatch.read(self.state, np.array(slots, dtype=np.int64), now, out)
        return out
