"""Search service: `POST /v1/vector_stores/{id}/search`, as OpenAI describes it."""

import asyncio
import hmac
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import pydantic
from aiohttp import web
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from slipstream_runtime import contract, logs
from slipstream_runtime.retrieval.embeddings import Embeddings, EmbeddingsError
from slipstream_runtime.retrieval.index import PROBE, Found, Index
from slipstream_runtime.web.refusal import Refusal, invalid, malformed, unauthorized

BODY_BYTES: Final = 64 * 1024
IN_FLIGHT: Final = 256
"""Searches at once; further ones get 429."""
CHECK_SECONDS: Final = 30.0
"""Seconds between two checks that the encoder is the index's own; 1 s until the first success."""


class Query(pydantic.BaseModel):
    """Body of a search. Other fields of OpenAI's form, which the service does not have, are refused."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    class Ranking(pydantic.BaseModel):
        """Least score of results."""

        model_config = pydantic.ConfigDict(extra="forbid", frozen=True)
        score_threshold: float | None = None

    query: str = pydantic.Field(min_length=1, max_length=32_768)
    max_num_results: int = pydantic.Field(default=10, ge=1, le=50)
    ranking_options: Ranking = Ranking()


class Metrics:
    """Series of one search service."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "slipstream_retrieval_requests_total",
            "Searches, by status code.",
            ("code",),
            registry=self.registry,
        )
        self.duration = Histogram(
            "slipstream_retrieval_duration_seconds",
            "Time of a search, with the time of the encoder.",
            buckets=contract.LATENCY_BUCKETS[contract.TTFT],
            registry=self.registry,
        )
        self.passages = Gauge(
            "slipstream_retrieval_passages", "Passages of the index.", registry=self.registry
        )


class Server:
    """Search in one index, whose questions a service turns into vectors."""

    def __init__(
        self, index: Index, embeddings: Embeddings, *, name: str, key: str | None = None
    ) -> None:
        self._index = index
        self._embeddings = embeddings
        self._name = name
        self._key = None if key is None else key.encode()
        self._in_flight = 0
        self.foreign = False
        """Whether another encoder than the index's own answers."""
        self.ready = False
        """Whether the service gives vectors of the encoder that made the index."""
        self.metrics = Metrics()
        self.metrics.passages.set(len(index.passages))

    def api(self) -> web.Application:
        """Return the application for clients."""
        app = web.Application(client_max_size=BODY_BYTES, middlewares=[self._answer])
        app.router.add_post("/v1/vector_stores/{id}/search", self._search)
        return app

    def management(self) -> web.Application:
        """Return the application for probes and Prometheus."""
        app = web.Application()
        app.router.add_get(contract.LIVE_PATH, self._live)
        app.router.add_get(contract.READY_PATH, self._is_ready)
        app.router.add_get(contract.METRICS_PATH, self._metrics)
        return app

    async def watch(self) -> None:
        """Check again and again that the encoder is the index's own, until cancelled."""
        said = ""
        while True:
            trouble = await self._trouble()
            self.ready = trouble is None
            if trouble != said and (trouble or said):
                logs.event("encoder checked", ready=self.ready, trouble=trouble or "")
            said = trouble or ""
            await asyncio.sleep(CHECK_SECONDS if self.ready else 1.0)

    async def _trouble(self) -> str | None:
        try:
            [vector] = await self._embeddings.vectors([PROBE])
        except EmbeddingsError as error:
            return error.reason
        self.foreign = not self._index.is_of(vector)
        if not self.foreign:
            return None
        return (
            f"{self._embeddings.model} gives other vectors than {self._index.model}, of which the index is. Build the "
            "index again with slipstream index, or name its model."
        )

    @web.middleware
    async def _answer(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        """Answer in OpenAI's form, also if the request is refused; count it."""
        began = time.monotonic()
        try:
            response = await handler(request)
        except Refusal as refusal:
            response = _refused(refusal)
        except web.HTTPException as error:
            response = _refused(Refusal(error.status, f"{error.reason}."))
        except EmbeddingsError as error:
            logs.failure("no vectors", reason=error.reason)
            response = _refused(Refusal(502, "The encoder gives no vectors now. Retry later."))
        self.metrics.requests.labels(str(response.status)).inc()
        if response.status == 200:
            self.metrics.duration.observe(time.monotonic() - began)
        return response

    async def _search(self, request: web.Request) -> web.Response:
        if self._key is not None and not hmac.compare_digest(_bearer(request), self._key):
            raise unauthorized()
        if request.match_info["id"] != self._name:
            raise Refusal(404, f"There is no index of this name. Use {self._name}.")
        query = _query(await request.read())
        if self.foreign:
            raise Refusal(503, "The encoder is not the one that made the index.")
        if self._in_flight >= IN_FLIGHT:
            raise Refusal(429, f"{IN_FLIGHT} searches are running. Retry later.", retry_after=1)
        self._in_flight += 1
        try:
            [vector] = await self._embeddings.vectors([query.query])
            if vector.shape != self._index.probe.shape:
                raise EmbeddingsError("the encoder gives vectors of another length than the index")
            found = await asyncio.to_thread(self._index.search, vector, most=query.max_num_results)
        finally:
            self._in_flight -= 1
        least = query.ranking_options.score_threshold
        results = [each for each in found if least is None or each.score >= least]
        return web.json_response(_page(query.query, results))

    async def _live(self, _: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _is_ready(self, _: web.Request) -> web.Response:
        text = "ready\n" if self.ready else "not ready\n"
        return web.Response(text=text, status=200 if self.ready else 503)

    async def _metrics(self, _: web.Request) -> web.Response:
        return web.Response(body=generate_latest(self.metrics.registry), content_type="text/plain")


def _query(raw: bytes) -> Query:
    try:
        content = json.loads(raw)
    except (ValueError, RecursionError):
        raise malformed("The body is not JSON.") from None
    try:
        return Query.model_validate(content)
    except pydantic.ValidationError as error:
        raise invalid(error) from None


def _page(question: str, results: list[Found]) -> Mapping[str, Any]:
    return {
        "object": "vector_store.search_results.page",
        "search_query": [question],
        "data": [
            {
                "file_id": f"passage-{found.number}",
                "filename": found.passage.source,
                "score": round(found.score, 6),
                "attributes": {},
                "content": [{"type": "text", "text": found.passage.text}],
            }
            for found in results
        ],
        "has_more": False,
        "next_page": None,
    }


def _refused(refusal: Refusal) -> web.Response:
    return web.json_response(refusal.content, status=refusal.status, headers=refusal.headers)


def _bearer(request: web.Request) -> bytes:
    kind, _, key = request.headers.get("authorization", "").partition(" ")
    # NB: bytes that are no UTF-8 come as halves of surrogate pairs.
    return key.strip().encode(errors="surrogateescape") if kind.lower() == "bearer" else b""
