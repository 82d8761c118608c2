"""Prometheus through prometheus-api-client, whose calls block: each runs in a thread and is bounded in time."""

import asyncio
import time
from collections.abc import Mapping
from typing import Final

import prometheus_api_client
import requests
from prometheus_api_client.exceptions import PrometheusApiClientException
from urllib3.util.retry import Retry

from slipstream_operator import ports
from slipstream_operator.adapters import vectors
from slipstream_operator.core.scaling.signals import Sample, Samples, Unknown

TIMEOUT: Final = 10
"""Seconds for one query: a thread can't be cancelled, so this is what ends it."""
ROUND_SECONDS: Final = 15.0
"""After which no further query of a round begins: a Prometheus that answers none must not hold up a tick for each."""
_AT_ONCE: Final = 2
"""Queries: while one answer is read the next one is made, and a large Prometheus is not flooded."""
_NO_RETRY: Final = Retry(total=0)
"""The next tick asks again; a retry inside a tick would only make the answer older."""


class Metrics:
    """`ports.Metrics` on a real Prometheus."""

    def __init__(self) -> None:
        self._connections: dict[str, prometheus_api_client.PrometheusConnect] = {}

    async def query(self, url: str, queries: Mapping[str, str]) -> Samples:
        """Answer every query; one that fails is Unknown with its reason."""
        found: dict[str, list[Sample] | Unknown] = {name: [] for name in queries}

        def take(name: str, part: ports.Part) -> None:
            known = found[name]
            if isinstance(part, Unknown):
                found[name] = part
            elif isinstance(known, list):
                known.extend(part)

        await self.read(url, queries, take=take)
        return found

    async def read(self, url: str, queries: Mapping[str, str], *, take: ports.Take) -> None:
        """Hand over every answer as it comes, part by part; Unknown with its reason last, if it fails."""
        connection = self._connections.setdefault(
            url,
            prometheus_api_client.PrometheusConnect(
                url=url, retry=_NO_RETRY, timeout=TIMEOUT, session=vectors.session()
            ),
        )
        places = asyncio.Semaphore(_AT_ONCE)
        until = time.monotonic() + ROUND_SECONDS

        async def ask(name: str, query: str) -> None:
            async with places:
                if time.monotonic() > until:
                    take(
                        name,
                        Unknown(f"Prometheus took {ROUND_SECONDS:.0f} s for the queries before"),
                    )
                    return
                answer = await asyncio.to_thread(_ask, connection, query)
                _hand_over(name, answer, take)

        await asyncio.gather(*(ask(name, query) for name, query in queries.items()))


def _ask(connection: prometheus_api_client.PrometheusConnect, query: str) -> bytes | Unknown:
    try:
        answer: bytes = connection.custom_query(query, timeout=TIMEOUT)
    except PrometheusApiClientException as error:
        return Unknown(f"Prometheus refused the query: {error}"[:500])
    except requests.RequestException as error:
        return Unknown(f"Prometheus did not answer: {type(error).__name__}")
    return answer


def _hand_over(name: str, answer: bytes | Unknown, take: ports.Take) -> None:
    if isinstance(answer, Unknown):
        take(name, answer)
        return
    try:
        for part in vectors.read(answer):
            take(name, part)
    except (LookupError, TypeError, ValueError) as error:
        take(name, Unknown(f"Prometheus gave no valid answer: {error!r}"[:500]))
