"""Prometheus through prometheus-api-client, whose calls block: each runs in a thread and is bounded in time."""

import asyncio
from collections.abc import Mapping
from typing import Any, Final

import prometheus_api_client
import requests
from prometheus_api_client.exceptions import PrometheusApiClientException
from urllib3.util.retry import Retry

from slipstream_operator.adapters import vectors
from slipstream_operator.core.scaling.signals import Sample, Samples, Unknown

TIMEOUT: Final = 10
"""Seconds for one query: a thread can't be cancelled, so this is what ends it."""
_NO_RETRY: Final = Retry(total=0)
"""The next tick asks again; a retry inside a tick would only make the answer older."""


class Metrics:
    """`ports.Metrics` on a real Prometheus."""

    def __init__(self) -> None:
        self._connections: dict[str, prometheus_api_client.PrometheusConnect] = {}
        self._labels = vectors.Labels()

    async def query(self, url: str, queries: Mapping[str, str]) -> Samples:
        """All queries at once; one that fails is Unknown with its reason."""
        connection = self._connections.setdefault(
            url,
            prometheus_api_client.PrometheusConnect(
                url=url, retry=_NO_RETRY, timeout=TIMEOUT, session=vectors.session(self._labels)
            ),
        )
        results = await asyncio.gather(
            *(asyncio.to_thread(_ask, connection, query) for query in queries.values())
        )
        self._labels.age()
        return dict(zip(queries, results, strict=True))


def _ask(
    connection: prometheus_api_client.PrometheusConnect, query: str
) -> tuple[Sample, ...] | Unknown:
    try:
        return tuple(map(_sample, connection.custom_query(query, timeout=TIMEOUT)))
    except PrometheusApiClientException as error:
        return Unknown(f"Prometheus refused the query: {error}"[:500])
    except requests.RequestException as error:
        return Unknown(f"Prometheus did not answer: {type(error).__name__}")
    except (LookupError, TypeError, ValueError) as error:
        return Unknown(f"Prometheus gave no valid answer: {error!r}"[:500])


def _sample(series: Sample | Mapping[str, Any]) -> Sample:
    if isinstance(series, Sample):
        return series
    return Sample(labels=series["metric"], value=float(series["value"][1]))
