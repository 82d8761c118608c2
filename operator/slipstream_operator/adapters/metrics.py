"""Prometheus through prometheus-api-client. Its calls block, so each runs in a thread with a timeout."""

import asyncio
import contextlib
import time
from collections.abc import Iterator, Mapping
from typing import Final

import orjson
import prometheus_api_client
import requests
from prometheus_api_client.exceptions import PrometheusApiClientException
from urllib3.util.retry import Retry

from slipstream_operator import ports
from slipstream_operator.adapters import vectors
from slipstream_operator.core.scaling.metrics.values import RawSample, Sample, Samples, Unknown

TIMEOUT: Final = 10
"""Seconds for one query. A thread can't be cancelled, so only this timeout ends it."""
ROUND_SECONDS: Final = 15.0
"""Seconds after which a round starts no further query, so that a Prometheus without answers delays a tick only once."""
_AT_ONCE: Final = 2
"""Queries at once: while one answer is read, Prometheus computes the next; more would overload a large Prometheus."""
_CHUNK_BYTES: Final = 1 << 18
"""Bytes of an answer that are read at once."""
_NO_RETRY: Final = Retry(total=0)
"""No retry: the next tick queries again, and a retry within a tick would only make the answer older."""


class Metrics:
    """`ports.Metrics` of a Prometheus server."""

    def __init__(self) -> None:
        self._connections: dict[str, prometheus_api_client.PrometheusConnect] = {}

    async def query(self, url: str, queries: Mapping[str, str]) -> Samples:
        """Run the queries; a failed one is Unknown with the reason."""
        found: dict[str, list[Sample] | Unknown] = {name: [] for name in queries}

        def take(name: str, part: ports.Part) -> None:
            known = found[name]
            if isinstance(part, Unknown):
                found[name] = part
            elif isinstance(known, list):
                known.extend(Sample(orjson.loads(labels), value) for labels, value in part)

        await self.read(url, queries, take=take)
        return found

    async def read(self, url: str, queries: Mapping[str, str], *, take: ports.Take) -> None:
        """Pass on each answer part by part as it arrives, or Unknown with the reason if the query fails."""
        connection = self._connections.setdefault(
            url,
            prometheus_api_client.PrometheusConnect(
                url=url, retry=_NO_RETRY, timeout=TIMEOUT, session=vectors.session()
            ),
        )
        slots = asyncio.Semaphore(_AT_ONCE)
        until = time.monotonic() + ROUND_SECONDS

        async def ask(name: str, query: str) -> None:
            async with slots:
                if time.monotonic() > until:
                    why = f"Prometheus took {ROUND_SECONDS:.0f} s for the queries before"
                    take(name, Unknown(why))
                    return
                parts = _ask(connection, query)
                try:
                    while (part := await asyncio.to_thread(next, parts, None)) is not None:
                        take(name, part)
                except PrometheusApiClientException as error:
                    take(name, Unknown(f"Prometheus refused the query: {error}"[:500]))
                except requests.RequestException as error:
                    take(name, Unknown(f"Prometheus did not answer: {type(error).__name__}"))
                except (LookupError, TypeError, ValueError) as error:
                    take(name, Unknown(f"Prometheus gave no valid answer: {error!r}"[:500]))

        await asyncio.gather(*(ask(name, query) for name, query in queries.items()))


def _ask(
    connection: prometheus_api_client.PrometheusConnect, query: str
) -> Iterator[list[RawSample]]:
    """Yield the answer part by part; each part blocks."""
    with contextlib.closing(connection.custom_query(query, timeout=TIMEOUT)) as answer:
        yield from vectors.read(answer.iter_content(_CHUNK_BYTES))
