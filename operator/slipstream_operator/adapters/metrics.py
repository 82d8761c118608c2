"""Prometheus through prometheus-api-client. Its calls block, so each runs in a thread with a timeout."""

import asyncio
import contextlib
import re
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

import prometheus_api_client
import requests
from prometheus_api_client.exceptions import PrometheusApiClientException
from urllib3.util.retry import Retry

from slipstream_operator import errors, ports
from slipstream_operator.adapters import credentials, query_errors, vectors
from slipstream_operator.core.prometheus import Server
from slipstream_operator.core.scaling.metrics import samples
from slipstream_operator.core.scaling.metrics.values import RawSample, Sample, Samples, Unknown

TIMEOUT: Final = 10
"""Seconds without a byte after which a query fails."""
ANSWER_SECONDS: Final = 20.0
"""Seconds for a whole answer, or a server that sends byte after byte would never end it."""
ROUND_SECONDS: Final = 15.0
"""Seconds after which a round starts no further query, so that a Prometheus without answers delays a tick only once."""
_AT_ONCE: Final = 2
"""Queries at once: while one answer is read, Prometheus computes the next; more would overload a large Prometheus."""
_CHUNK_BYTES: Final = 1 << 18
"""Bytes of an answer that are read at once."""
_STATUS: Final = re.compile("HTTP Status Code ([0-9]+)")
_NO_RETRY: Final = Retry(total=0)
"""No retry: the next tick queries again, and a retry within a tick would only make the answer older."""


T = TypeVar("T")


async def _no_secrets(name: str) -> Mapping[str, bytes]:
    raise errors.NotFound(name)


class Metrics:
    """`ports.Metrics` of Prometheus servers. `read_secret` reads a Secret of the operator's namespace."""

    def __init__(self, read_secret: credentials.ReadSecret = _no_secrets) -> None:
        self._credentials = credentials.Cache(read_secret)
        self._connections: dict[
            Server, tuple[credentials.Credentials, prometheus_api_client.PrometheusConnect]
        ] = {}
        self._threads: dict[Server, ThreadPoolExecutor] = {}
        """Threads of each server, so that one that never answers blocks no other."""

    def close(self) -> None:
        """Close all connections, and let the threads end."""
        for _, connection in self._connections.values():
            connection.close()
        for threads in self._threads.values():
            threads.shutdown(wait=False, cancel_futures=True)

    async def query(self, server: Server, queries: Mapping[str, str]) -> Samples:
        """Run the queries; a failed one is Unknown with the reason. Samples with unreadable labels are dropped."""
        found: dict[str, list[Sample] | Unknown] = {name: [] for name in queries}

        def take(name: str, part: ports.Part) -> None:
            known = found[name]
            if isinstance(part, Unknown):
                found[name] = part
            elif isinstance(known, list):
                known.extend(
                    Sample(labels, value)
                    for text, value in part
                    if (labels := samples.labels(text)) is not None
                )

        await self.read(server, queries, take=take)
        return found

    async def read(self, server: Server, queries: Mapping[str, str], *, take: ports.Take) -> None:
        """Pass on each answer part by part as it arrives, or Unknown with the reason if the query fails."""
        try:
            connection = await self._connection(server)
        except credentials.CredentialsError as error:
            for name in queries:
                take(name, Unknown(str(error)))
            return
        slots = asyncio.Semaphore(_AT_ONCE)
        until = time.monotonic() + ROUND_SECONDS

        async def ask(name: str, query: str) -> None:
            async with slots:
                if time.monotonic() > until:
                    why = f"Prometheus took {ROUND_SECONDS:.0f} s for the queries before"
                    take(name, Unknown(why))
                    return
                answer = _Answer(connection, query)
                try:
                    async with asyncio.timeout(ANSWER_SECONDS):
                        while (part := await self._run(server, answer.part)) is not None:
                            take(name, part)
                except TimeoutError:
                    answer.cut()
                    take(name, Unknown(f"Prometheus took more than {ANSWER_SECONDS:g} s to answer"))
                except PrometheusApiClientException as error:
                    take(name, Unknown(self._refusal(server, str(error))))
                except requests.RequestException as error:
                    take(name, Unknown(query_errors.of_connection(error, seconds=TIMEOUT)))
                except (LookupError, TypeError, ValueError, RecursionError) as error:
                    take(name, Unknown(query_errors.of_answer(error, server)))

        await asyncio.gather(*(ask(name, query) for name, query in queries.items()))

    async def _run(self, server: Server, call: Callable[[], T]) -> T:
        """Run the call in a thread of the server."""
        threads = self._threads.get(server)
        if threads is None:
            threads = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="prometheus")
            self._threads[server] = threads
        return await asyncio.get_running_loop().run_in_executor(threads, call)

    async def _connection(self, server: Server) -> prometheus_api_client.PrometheusConnect:
        """Return the connection; a new one if the credentials were read again."""
        found = await self._credentials.of(server)
        known, connection = self._connections.get(server, (None, None))
        if connection is not None:
            if known is found:
                return connection
            connection.close()
        session = vectors.session()
        session.auth = found
        if server.secrets:
            session.max_redirects = 0  # another server must not get the Secrets
        connection = prometheus_api_client.PrometheusConnect(
            url=server.url, retry=_NO_RETRY, timeout=TIMEOUT, session=session
        )
        if found.context is not None:
            session.mount(
                server.url, credentials.TrustingAdapter(found.context, max_retries=_NO_RETRY)
            )
        self._connections[server] = (found, connection)
        return connection

    def _refusal(self, server: Server, text: str) -> str:
        """Return the reason of an answer other than 200."""
        status = _STATUS.match(text)
        if status is None or status[1] not in ("401", "403"):
            # NB: a proxy may repeat the request's headers in its answer.
            said = status[0] if status and server.secrets else text
            return f"Prometheus refused the query: {said}"[: query_errors.LENGTH]
        self._credentials.forget(server)
        remedy = "Check tokenSecret and headers" if server.secrets else "Set tokenSecret or headers"
        return (
            f"Prometheus refused the operator with HTTP {status[1]}. {remedy} of spec.prometheus in the "
            "ServingProfile"
        )


class _Answer:
    """Answer to a query, which is read part by part in a thread."""

    def __init__(self, connection: prometheus_api_client.PrometheusConnect, query: str) -> None:
        self._opened: list[requests.Response] = []
        self._parts = _read(connection, query, self._opened)

    def part(self) -> list[RawSample] | None:
        """Return the next part, None at the end; it blocks."""
        return next(self._parts, None)

    def cut(self) -> None:
        """End a read of the answer that blocks its thread."""
        for response in self._opened:
            # NB: the answer may have ended just now, and its connection be closed or in the pool again.
            with contextlib.suppress(OSError, RuntimeError, ValueError):
                response.raw.shutdown()


def _read(
    connection: prometheus_api_client.PrometheusConnect,
    query: str,
    opened: list[requests.Response],
) -> Iterator[list[RawSample]]:
    response = connection.custom_query(query, timeout=TIMEOUT)
    opened.append(response)
    with contextlib.closing(response):
        yield from vectors.read(response.iter_content(_CHUNK_BYTES))
