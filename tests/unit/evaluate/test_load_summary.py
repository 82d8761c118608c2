"""Load runs: what is sent when, what the records add up to, and what a client's retry hides."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from slipstream_runtime.evaluate import load, records, traffic

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def plan(**fields: object) -> traffic.Plan:
    base = traffic.Plan(url="http://127.0.0.1:9", model="m", duration=5.0, rate=20.0)
    return replace(base, **fields)  # type: ignore[arg-type]


def test_a_summary_counts_failures_but_ranks_only_whole_answers() -> None:
    found = records.summarize(
        [
            records.Record(0.0, 1.0, 200, None, 0, 0.1, 0.01, 10, 5),
            records.Record(1.0, 3.0, 200, None, 1, 0.3, 0.03, 10, 5),
            records.Record(2.0, 8.0, 200, "Truncated", 0, 9.0, 9.0, 0, 2),
            records.Record(2.0, 0.1, 503, "HTTP 503", 1),
            records.Record(2.0, 0.1, None, "ConnectError", 1),
        ]
    )
    assert (found.requests, found.succeeded, found.failed) == (5, 2, 3)
    assert (found.retried, found.recovered) == (3, 1)
    assert found.seconds == 10.0
    assert found.output_tokens_per_second == pytest.approx(1.2)
    assert found.ttft == records.Latency(2, 0.2, 0.1, 0.3, 0.3)
    assert found.e2e.mean == 2.0
    assert found.statuses == {"200": 3, "503": 1, "none": 1}
    assert found.errors == {"ConnectError": 1, "HTTP 503": 1, "Truncated": 1}


def test_an_empty_run_has_no_latency() -> None:
    found = records.summarize([])
    assert found.requests == found.requests_per_second == 0
    assert found.ttft == records.Latency(0, None, None, None, None)


@given(st.lists(st.floats(0, 100), min_size=1), st.sampled_from(records.QUANTILES))
def test_a_quantile_is_the_least_value_that_covers_its_share(
    values: list[float], share: float
) -> None:
    ordered = sorted(values)
    found = records.quantile(ordered, share)
    assert sum(value <= found for value in ordered) >= share * len(ordered)
    assert sum(value < found for value in ordered) < share * len(ordered)


def test_arrivals_are_poisson_seeded_and_bounded() -> None:
    times = list(plan(duration=500.0).arrivals())
    assert times == list(plan(duration=500.0).arrivals())
    assert times != list(plan(duration=500.0, seed=1).arrivals())
    assert times == sorted(times)
    assert times[-1] < 500.0
    assert len(times) == pytest.approx(500 * 20, rel=0.05)
    assert len(list(plan(requests=7).arrivals())) == 7


def test_given_arrival_times_are_kept_up_to_the_end_of_the_run() -> None:
    given = plan(rate=None, times=(0.5, 0.5, 4.0, 5.0))
    assert list(given.arrivals()) == [0.5, 0.5, 4.0]
    assert list(replace(given, requests=1).arrivals()) == [0.5]


def test_bodies_carry_the_plan_and_prompts_come_in_turn() -> None:
    path, body = next(plan(prompt_tokens=6, max_tokens=9, ignore_eos=True).bodies())
    assert path == "/v1/chat/completions"
    assert (body["model"], body["max_tokens"], body["ignore_eos"]) == ("m", 9, True)
    [message] = body["messages"]  # type: ignore[misc]
    assert len(message["content"].split()) == 6  # type: ignore[has-type]
    prompts = traffic.parse_prompts(['{"prompt": "a", "max_tokens": 2}', "", '{"messages": []}'])
    bodies = plan(prompts=prompts).bodies()
    taken = [next(bodies) for _ in range(3)]
    assert [path for path, _ in taken] == ["/v1/completions", path, "/v1/completions"]
    assert taken[2][1]["max_tokens"] == 2


@pytest.mark.parametrize("line", ["[1]", "{", '{"prompt": "a", "messages": []}', ""])
def test_a_wrong_prompt_file_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match=r"line 1|no prompt"):
        traffic.parse_prompts([line])


@pytest.mark.parametrize(
    "fields", [{"rate": None}, {"concurrency": 2}, {"times": (1.0,)}, {"duration": 0.0}]
)
def test_an_impossible_plan_is_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"exactly one|positive"):
        plan(**fields)


@asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[str]:
    application = web.Application()
    application.router.add_post("/v1/chat/completions", handler)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def stream(request: web.Request, *events: str) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    for event in events:
        await response.write(f"data: {event}\n\n".encode())
    await response.write_eof()
    return response


TOKEN = '{"choices": [{"delta": {"content": "a "}}]}'
USAGE = '{"choices": [], "usage": {"prompt_tokens": 4, "completion_tokens": 2}}'


async def test_one_retry_hides_one_refusal_and_is_counted() -> None:
    refusals = iter([True, False, True, True])

    async def handler(request: web.Request) -> web.StreamResponse:
        if next(refusals):
            return web.Response(status=503)
        return await stream(request, TOKEN, TOKEN, USAGE, "[DONE]")

    async with serving(handler) as url:
        report = await load.run(plan(url=url, rate=None, concurrency=1, requests=2))
    first, second = report.records
    assert (first.status, first.retries, first.succeeded) == (200, 1, True)
    assert (first.prompt_tokens, first.output_tokens) == (4, 2)
    assert first.ttft is not None and first.tpot is not None
    assert (second.status, second.retries, second.error) == (503, 1, "HTTP 503")
    assert (report.summary.retried, report.summary.recovered) == (2, 1)


@pytest.mark.parametrize(
    ("events", "error"),
    [
        ((TOKEN, "[DONE]"), None),
        ((TOKEN,), "Truncated"),
        ((TOKEN, '{"error": {"code": 503}}'), "StreamError"),
        ((TOKEN, "{"), "Malformed"),
    ],
)
async def test_an_answer_counts_only_if_it_is_whole(
    events: tuple[str, ...], error: str | None
) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        return await stream(request, *events)

    async with serving(handler) as url:
        report = await load.run(plan(url=url, rate=None, concurrency=1, requests=1))
    [record] = report.records
    assert (record.error, record.retries, record.output_tokens) == (error, 0, 1)


async def test_nobody_there_is_an_error_after_the_retry() -> None:
    report = await load.run(plan(rate=None, concurrency=1, requests=1))
    [record] = report.records
    assert (record.status, record.error, record.retries) == (None, "ConnectError", 1)


async def test_an_open_run_sends_on_time_and_ends_in_time() -> None:
    never = asyncio.Event()
    seen = 0

    async def handler(request: web.Request) -> web.StreamResponse:
        nonlocal seen
        seen += 1
        await never.wait()
        return web.Response()

    progress: list[tuple[int, int]] = []
    async with serving(handler) as url:
        asked = plan(url=url, rate=100.0, duration=0.3, timeout=0.3)
        report = await load.run(asked, progress=lambda *at: progress.append(at))
        never.set()
    assert seen == len(report.records) == len(list(asked.arrivals()))
    assert report.summary.errors == {"Timeout": seen}
    assert progress[-1] == (seen, seen)
