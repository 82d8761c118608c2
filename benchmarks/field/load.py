"""Clients that keep a service busy while a benchmark looks at it."""

import asyncio
import threading
from types import TracebackType
from typing import Final

from dev.cluster.kube import Kube
from slipstream_runtime.evaluate import load, traffic

_LONGEST_SECONDS: Final = 300.0


class Load:
    """Closed load of a service, in a thread, for the time of a `with` block."""

    def __init__(self, kube: Kube, namespace: str, name: str, *, clients: int) -> None:
        service = kube.get("Service", namespace, name)
        assert service is not None
        port = service["spec"]["ports"][0]["port"]
        self._plan = traffic.Plan(
            url=f"http://{service['spec']['clusterIP']}:{port}",
            model=name,
            duration=_LONGEST_SECONDS,
            concurrency=clients,
            ignore_eos=True,
        )
        self._started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))

    def __enter__(self) -> None:
        self._thread.start()
        self._started.wait()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    async def _run(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        self._started.set()
        await load.run(self._plan, stop=self._stop)
