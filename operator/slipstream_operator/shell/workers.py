"""Workers of the leader. Each takes a key, reconciles its object and logs one line."""

import asyncio
import logging
import time

from slipstream_operator import errors
from slipstream_operator.core.observed import Key
from slipstream_operator.shell.dispatcher import Dispatcher
from slipstream_operator.shell.queue import Queue
from slipstream_operator.telemetry import Telemetry

logger = logging.getLogger(__name__)


async def work(*, queue: Queue, dispatcher: Dispatcher, telemetry: Telemetry, workers: int) -> None:
    """Run the workers until cancelled."""
    async with asyncio.TaskGroup() as group:
        for _ in range(workers):
            group.create_task(_worker(queue, dispatcher, telemetry))


async def _worker(queue: Queue, dispatcher: Dispatcher, telemetry: Telemetry) -> None:
    while True:
        key = await queue.get()
        telemetry.queue_depth.set(len(queue))
        try:
            await _process(key, queue, dispatcher, telemetry)
        finally:
            queue.done(key)


async def _process(key: Key, queue: Queue, dispatcher: Dispatcher, telemetry: Telemetry) -> None:
    started = time.perf_counter()
    outcome: str = "done"
    details: dict[str, object] = {}
    try:
        next_in = await dispatcher.reconcile(key)
        queue.succeeded(key)
        if next_in is not None:
            queue.add_later(key, next_in)
            details["next_in"] = next_in
    except errors.TransientError as error:
        outcome, details = "retry", {"error": str(error), "next_in": round(queue.retry(key), 2)}
    except Exception:
        outcome, details = "error", {"next_in": round(queue.retry(key), 2)}
        logger.exception("reconcile failed", extra={"key": str(key)})
    took = time.perf_counter() - started
    telemetry.reconciles.labels(outcome).inc()
    telemetry.reconcile_duration.observe(took)
    level = logging.INFO if outcome == "done" else logging.WARNING
    logger.log(
        level,
        "reconciled",
        extra={"key": str(key), "outcome": outcome, "ms": round(took * 1000, 1), **details},
    )
