"""Prometheus adapter against a server that misbehaves: no answer makes it raise."""

import asyncio
import json
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from slipstream_operator.adapters import metrics
from slipstream_operator.core.prometheus import Server
from slipstream_operator.core.scaling.metrics.values import Sample, Unknown

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def _prometheus(handler: Handler) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_route("*", "/api/v1/query", handler)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def _ask(url: str, *queries: str) -> dict[str, Any]:
    adapter = metrics.Metrics()
    try:
        return dict(await adapter.query(Server(url), {query: query for query in queries}))
    finally:
        adapter.close()


def _vector(*series: tuple[dict[str, str], str]) -> dict[str, Any]:
    result = [{"metric": labels, "value": [1767000000.0, value]} for labels, value in series]
    return {"status": "success", "data": {"resultType": "vector", "result": result}}


def _answers(body: object) -> Handler:
    async def answer(_: web.Request) -> web.Response:
        return web.json_response(body)

    return answer


async def test_a_vector_becomes_samples() -> None:
    body = _vector(({"pod": "a"}, "1.5"), ({"pod": "b"}, "0"))
    async with _prometheus(_answers(body)) as url:
        assert await _ask(url, "up") == {
            "up": [Sample({"pod": "a"}, 1.5), Sample({"pod": "b"}, 0.0)]
        }


async def test_an_empty_vector_has_no_samples() -> None:
    async with _prometheus(_answers(_vector())) as url:
        assert await _ask(url, "up") == {"up": []}


async def test_nan_is_kept() -> None:
    async with _prometheus(_answers(_vector(({}, "NaN")))) as url:
        found = await _ask(url, "up")
    (sample,) = found["up"]
    assert math.isnan(sample.value)


@pytest.mark.parametrize(
    "body",
    [
        {},
        [],
        {"status": "success", "data": {}},
        {"status": "success", "data": {"resultType": "vector", "result": None}},
        {"status": "success", "data": {"resultType": "scalar", "result": [1.0, "2"]}},
        {"status": "success", "data": {"resultType": "vector", "result": [{"metric": {}}]}},
        _vector(({}, "many")),
    ],
    ids=["empty", "a list", "no result", "null", "a scalar", "no value", "no number"],
)
async def test_a_malformed_answer_is_unknown(body: object) -> None:
    async with _prometheus(_answers(body)) as url:
        found = (await _ask(url, "up"))["up"]
    assert isinstance(found, Unknown)
    assert found.reason.startswith("Prometheus gave no valid answer: ")


PARTIAL = {"warnings": ["No StoreAPIs matched", "PromQL info: metric might not be a counter"]}
ANNOTATED = {
    "warnings": ["PromQL warning: bucket label is missing"],
    "infos": ["PromQL info: metric might not be a counter"],
    "isPartial": False,
}


@pytest.mark.parametrize("series", [(), (({"pod": "a"}, "1"),)], ids=["empty", "one series"])
@pytest.mark.parametrize("partial", [PARTIAL, {"isPartial": True}], ids=["warnings", "isPartial"])
@pytest.mark.parametrize("first", [False, True])
async def test_an_answer_without_a_part_of_the_series_is_unknown(
    series: tuple[Any, ...], partial: dict[str, Any], *, first: bool
) -> None:
    body = {**partial, **_vector(*series)} if first else {**_vector(*series), **partial}
    async with _prometheus(_text(body)) as url:
        found = (await _ask(url, "up"))["up"]
    assert isinstance(found, Unknown)
    assert found.reason.startswith("Prometheus answered without a part of the series: ")


@pytest.mark.parametrize("series", [(), (({"pod": "a"}, "1"),)], ids=["empty", "one series"])
async def test_remarks_about_the_query_change_nothing(series: tuple[Any, ...]) -> None:
    async with _prometheus(_text({**_vector(*series), **ANNOTATED})) as url:
        found = await _ask(url, "up")
    assert found == {"up": [Sample(labels, float(value)) for labels, value in series]}


def _text(body: object) -> Handler:
    """Answer with JSON without spaces, as Prometheus writes it, which is parsed in parts."""

    async def answer(_: web.Request) -> web.Response:
        return web.Response(
            text=json.dumps(body, separators=(",", ":")), content_type="application/json"
        )

    return answer


async def test_an_answer_without_json_is_unknown() -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(text="<html>", content_type="text/html")

    async with _prometheus(answer) as url:
        found = (await _ask(url, "up"))["up"]
    assert found == Unknown(
        "Prometheus gave no valid answer: it is no JSON, as from a login page. Check spec.prometheus.url in the "
        "ServingProfile"
    )


@pytest.mark.parametrize("status", [400, 422, 500, 503])
async def test_an_error_is_unknown_and_not_retried(status: int) -> None:
    asked = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(request.query.get("query"))
        return web.Response(status=status, text="no")

    async with _prometheus(answer) as url:
        found = (await _ask(url, "up"))["up"]
    assert isinstance(found, Unknown)
    assert found.reason.startswith("Prometheus refused the query: ")
    assert str(status) in found.reason
    assert len(asked) == 1


async def test_no_answer_in_time_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "TIMEOUT", 0.2)
    gone = asyncio.Event()

    async def answer(_: web.Request) -> web.Response:
        await gone.wait()
        return web.Response()

    async with _prometheus(answer) as url:
        found = (await _ask(url, "up"))["up"]
        gone.set()
    assert isinstance(found, Unknown)
    assert found.reason == "Prometheus did not answer within 0.2 s"


async def test_no_server_is_unknown() -> None:
    async with _prometheus(_answers({})) as url:
        pass
    found = (await _ask(url, "up"))["up"]
    assert found == Unknown(
        "Prometheus did not answer: ConnectionError. Check spec.prometheus.url in the ServingProfile"
    )


async def test_one_failed_query_leaves_the_others() -> None:
    async def answer(request: web.Request) -> web.Response:
        if "bad" in request.query_string or "bad" in await request.text():
            return web.Response(status=400, text="parse error")
        return web.json_response(_vector(({}, "1")))

    async with _prometheus(answer) as url:
        found = await _ask(url, "good", "bad", "fine")
    assert {name: isinstance(result, Unknown) for name, result in found.items()} == {
        "good": False,
        "bad": True,
        "fine": False,
    }


async def test_the_loop_is_not_blocked_meanwhile() -> None:
    arrived, leave = asyncio.Event(), asyncio.Event()

    async def answer(_: web.Request) -> web.Response:
        arrived.set()
        await leave.wait()
        return web.json_response(_vector())

    async with _prometheus(answer) as url:
        asking = asyncio.create_task(_ask(url, "up"))
        await arrived.wait()  # the server, on the same loop, was served
        assert not asking.done()
        leave.set()
        assert await asking == {"up": []}


def _as_prometheus_writes(*series: tuple[dict[str, str], str]) -> Handler:
    text = json.dumps(_vector(*series), separators=(",", ":"))

    async def answer(_: web.Request) -> web.Response:
        return web.Response(text=text, content_type="application/json")

    return answer


async def test_an_answer_without_spaces_is_read_the_same() -> None:
    series = [({"pod": "a"}, "1.5"), ({}, "-Inf"), ({"pod": 'b"},"value":[1,"2"]{"metric":'}, "0")]
    async with _prometheus(_as_prometheus_writes(*series)) as url:
        found = await _ask(url, "up")
    assert found["up"] == [Sample(labels, float(value)) for labels, value in series]


async def test_a_large_answer_is_passed_on_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "_CHUNK_BYTES", 1 << 16)
    series = [({"pod": f'p{number}"}},{{"metric":'}, str(number)) for number in range(5000)]
    parts: list[Any] = []
    async with _prometheus(_as_prometheus_writes(*series)) as url:
        adapter = metrics.Metrics()
        await adapter.read(Server(url), {"up": "up"}, take=lambda _, part: parts.append(part))
        adapter.close()
    assert len(parts) > 2
    assert [(json.loads(labels), value) for part in parts for labels, value in part] == [
        (labels, float(value)) for labels, value in series
    ]


async def test_an_incomplete_large_answer_is_unknown() -> None:
    series = [({"pod": f"p{number}"}, str(number)) for number in range(5000)]
    text = json.dumps(_vector(*series), separators=(",", ":"))

    async def answer(_: web.Request) -> web.Response:
        return web.Response(text=text[:-20], content_type="application/json")

    async with _prometheus(answer) as url:
        found = (await _ask(url, "up"))["up"]
    assert isinstance(found, Unknown)


async def test_a_round_that_takes_too_long_starts_no_further_query(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(metrics, "ROUND_SECONDS", -1.0)
    asked = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(request.query.get("query"))
        return web.json_response(_vector())

    async with _prometheus(answer) as url:
        found = (await _ask(url, "up"))["up"]
    assert isinstance(found, Unknown)
    assert asked == []


async def test_a_native_histogram_at_the_end_of_an_answer_leaves_the_other_series() -> None:
    """It would otherwise make the query Unknown for the services of all tenants."""
    text = (
        '{"status":"success","data":{"resultType":"vector","result":['
        '{"metric":{"pod":"a]}]"},"value":[1,"2"]},{"metric":{},"histogram":[1,{"buckets":[[0,"1"]]}]}'
        ']},"warnings":["PromQL info: a metric of b]}] is no counter"]}'
    )

    async def answer(_: web.Request) -> web.Response:
        return web.Response(text=text, content_type="application/json")

    async with _prometheus(answer) as url:
        assert await _ask(url, "up") == {"up": [Sample({"pod": "a]}]"}, 2.0)]}


def _endless(begin: bytes, part: bytes, *, pause: float) -> tuple[Handler, list[bytes]]:
    """Return a server whose answers never end, and the parts that it sent."""
    sent: list[bytes] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            await response.write(begin)
            while True:
                sent.append(part)
                await response.write(part)
                await asyncio.sleep(pause)
        finally:
            assert request.transport is not None
            request.transport.abort()

    return answer, sent


async def test_an_answer_that_drips_is_unknown_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "ANSWER_SECONDS", 0.5)
    handler, _ = _endless(b"", b" ", pause=0.02)
    async with _prometheus(handler) as url:
        found = (await _ask(url, "up"))["up"]
    assert found == Unknown("Prometheus took more than 0.5 s to answer")


async def test_heads_that_drip_block_no_other_server() -> None:
    over, clients = asyncio.Event(), []

    async def drip(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        clients.append(asyncio.current_task())
        while not over.is_set():
            writer.write(b"H")
            await asyncio.sleep(0.02)
        writer.close()
        await writer.wait_closed()

    adapter = metrics.Metrics()
    queries = {str(number): "up" for number in range(40)}
    slow = await asyncio.start_server(drip, "127.0.0.1", 0)
    address = f"http://127.0.0.1:{slow.sockets[0].getsockname()[1]}"
    async with slow, _prometheus(_answers(_vector(({}, "1")))) as url:
        waiting = asyncio.create_task(adapter.query(Server(address), queries))
        found = await adapter.query(Server(url), queries)
        assert not any(isinstance(one, Unknown) for one in found.values())
        assert not waiting.done()
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        slow.close()
        over.set()
        await asyncio.gather(*filter(None, clients))
    adapter.close()


async def test_a_series_without_an_end_is_unknown() -> None:
    begin = b'{"status":"success","data":{"resultType":"vector","result":[{"metric":'
    handler, sent = _endless(begin, b"x" * 2**20, pause=0)
    async with _prometheus(handler) as url:
        found = (await _ask(url, "up"))["up"]
    assert isinstance(found, Unknown)
    assert "more than 4 MiB" in found.reason
    assert len(sent) < 32


async def test_an_answer_that_is_too_large_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics.vectors, "MOST_BYTES", 1000)
    series = [({"pod": f"p{number}"}, str(number)) for number in range(50)]
    async with _prometheus(_as_prometheus_writes(*series)) as url:
        found = (await _ask(url, "up"))["up"]
    assert found == Unknown(
        "Prometheus gave no valid answer: ValueError('the answer is too large')"
    )
