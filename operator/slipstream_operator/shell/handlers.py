"""Handlers of kopf's watches. Each event is stored, and the keys that it affects are queued.

Only `on.event` handlers are used: all others put finalizers or annotations on users' objects.
"""

from collections.abc import Callable
from typing import Any

import kopf

from slipstream_operator import kinds
from slipstream_operator.shell.queue import Queue
from slipstream_operator.shell.store import Store


def registry(*, store: Store, queue: Queue) -> kopf.OperatorRegistry:
    """Return handlers that feed the store and the queue."""
    handlers = kopf.OperatorRegistry()
    kopf.on.login(registry=handlers)(_login)
    for kind in kinds.WATCHED:
        kopf.on.event(*kind.resource, registry=handlers, id=f"feed-{kind.plural}")(
            _handler(kind.name, store, queue)
        )
    return handlers


def _handler(kind: str, store: Store, queue: Queue) -> Callable[..., Any]:
    async def feed(event: kopf.RawEvent, **_: Any) -> None:
        queue.add_all(store.feed(kind, event["object"], gone=event["type"] == "DELETED"))

    return feed


async def _login(**arguments: Any) -> kopf.ConnectionInfo | None:
    return kopf.login_with_service_account(**arguments) or kopf.login_via_client(**arguments)
