"""The simulator as a process: the OpenAI API, vLLM's metrics, probes and the drain."""

import asyncio
import json
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pydantic
import pytest

from dev import metrics
from slipstream_runtime import contract
from slipstream_runtime.simulator import config

DEADLINE = 120.0


class Pod:
    """One running simulator and a client of it."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        ports: dict[str, int],
        http: aiohttp.ClientSession,
    ) -> None:
        self.process = process
        self.http = http
        self.api = f"http://127.0.0.1:{ports['api']}"
        self.management = f"http://127.0.0.1:{ports['management']}"

    async def status(self) -> dict[str, object]:
        async with self.http.get(self.management + contract.STATUS_PATH) as response:
            found: dict[str, object] = await response.json()
            return found

    async def ready(self) -> int:
        async with self.http.get(self.management + contract.READY_PATH) as response:
            return response.status

    async def chat(self, **fields: object) -> tuple[int, dict[str, Any]]:
        body = {"model": "m", "messages": [{"role": "user", "content": "x" * 40}], **fields}
        async with self.http.post(f"{self.api}/v1/chat/completions", json=body) as response:
            return response.status, await response.json()

    async def metrics(self) -> dict[tuple[str, ...], float]:
        async with self.http.get(self.management + contract.METRICS_PATH) as response:
            text = await response.text()
        return {
            (sample.name, *sorted(sample.labels.values())): sample.value
            for sample in metrics.samples(text)
        }


@asynccontextmanager
async def running(folder: Path, **settings: object) -> AsyncIterator[Pod]:
    file = folder / "simulator.json"
    file.write_text(
        json.dumps({"model": {"name": "m"}, "coldStart": 0, "lingerSeconds": 0, **settings})
    )
    command = (sys.executable, "-m", "slipstream_runtime.simulator", "--config", str(file))
    ports = ("--api-port", "0", "--management-port", "0")
    process = await asyncio.create_subprocess_exec(*command, *ports, stderr=asyncio.subprocess.PIPE)
    try:
        assert process.stderr is not None
        async with asyncio.timeout(DEADLINE):
            line = json.loads(await process.stderr.readline())
        async with aiohttp.ClientSession() as http:
            yield Pod(process, line, http)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def until(check: Callable[[], Awaitable[bool]]) -> None:
    deadline = time.monotonic() + DEADLINE
    while not await check():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


async def until_ready(pod: Pod) -> None:
    async def check() -> bool:
        return await pod.ready() == 200

    await until(check)


async def events(response: aiohttp.ClientResponse) -> list[str]:
    assert response.status == 200
    assert response.content_type == "text/event-stream"
    lines = [line.decode().strip() async for line in response.content]
    return [line.removeprefix("data: ") for line in lines if line]


async def test_it_answers_like_openai_and_counts_like_vllm(tmp_path: Path) -> None:
    async with running(tmp_path, alpha=0.001) as pod:
        await until_ready(pod)
        async with pod.http.get(f"{pod.api}/v1/models") as response:
            assert [model["id"] for model in (await response.json())["data"]] == ["m"]

        status, whole = await pod.chat(max_completion_tokens=5, max_tokens=9)
        assert status == 200
        usage = {"prompt_tokens": 14, "completion_tokens": 5, "total_tokens": 19}
        assert whole["usage"] == usage
        [choice] = whole["choices"]
        assert choice["finish_reason"] == "length"
        assert len(choice["message"]["content"].split()) == 5

        body: dict[str, object] = {"model": "m", "prompt": [1, 2, 3], "stream": True}
        async with pod.http.post(f"{pod.api}/v1/completions", json=body) as response:
            *parts, last, done = await events(response)
        assert done == "[DONE]"
        text = "".join(json.loads(part)["choices"][0]["text"] for part in parts)
        assert len(text.split()) == 128
        assert json.loads(last)["choices"][0]["finish_reason"] == "stop"

        body = {"messages": [{"role": "user", "content": [{"type": "text", "text": "hello"}]}]}
        body |= {"model": "m", "max_tokens": 3, "stream": True}
        body |= {"stream_options": {"include_usage": True}}
        async with pod.http.post(f"{pod.api}/v1/chat/completions", json=body) as response:
            role, *parts, counts, done = await events(response)
        assert done == "[DONE]"
        assert json.loads(role)["choices"][0]["delta"] == {"role": "assistant", "content": ""}
        deltas = [json.loads(part)["choices"][0]["delta"].get("content", "") for part in parts]
        assert len("".join(deltas).split()) == 3
        assert json.loads(counts)["usage"]["completion_tokens"] == 3

        found = await pod.metrics()
        assert found[contract.GENERATION_TOKENS, "0", "m"] == 5 + 128 + 3
        assert found[contract.PROMPT_TOKENS, "0", "m"] == 14 + 3 + 6
        assert found["vllm:prompt_tokens_by_source_total", "0", "local_compute", "m"] == 23
        assert found[contract.REQUEST_SUCCESS, "0", "length", "m"] == 2
        assert found[contract.REQUEST_SUCCESS, "0", "m", "stop"] == 1
        for name in (contract.TTFT, contract.TPOT, contract.E2E):
            assert found[f"{name}_count", "0", "m"] == 3
            edges = {
                key[-2 if key[-1] == "m" else -1] for key in found if key[0] == f"{name}_bucket"
            }
            assert len(edges) == len(contract.LATENCY_BUCKETS[name]) + 1
        assert found[f"{contract.ITL}_count", "0", "m"] == 4 + 127 + 2
        assert found["vllm:iteration_tokens_total_sum", "0", "m"] == 23 + 136
        assert found[contract.RUNNING, "0", "m"] == found[contract.WAITING, "0", "m"] == 0
        assert any(key[0] == contract.CACHE_INFO and "12500" in key for key in found)


WRONG: list[tuple[dict[str, object], int, str]] = [
    ({"model": "other"}, 404, "does not exist"),
    ({"max_tokens": 0}, 400, "max_tokens"),
    ({"messages": []}, 400, "messages"),
    ({"n": 2}, 400, "n"),
    ({"max_tokens": 10**9}, 400, "KV tokens"),
]


async def test_errors_have_the_form_of_openai(tmp_path: Path) -> None:
    async with running(tmp_path) as pod:
        await until_ready(pod)
        for fields, status, words in WRONG:
            found, body = await pod.chat(**fields)
            assert found == status
            error = body["error"]
            assert isinstance(error, dict)
            assert error["code"] == status
            assert words in error["message"]
            assert set(error) == {"message", "type", "param", "code"}


async def test_a_full_batch_queues_and_a_client_that_leaves_frees_its_place(
    tmp_path: Path,
) -> None:
    async with running(tmp_path, alpha=0.005, maxSequences=1) as pod:
        await until_ready(pod)
        first = asyncio.create_task(pod.chat(max_tokens=100_000))

        async def shows(running: int, waiting: int) -> bool:
            found = await pod.metrics()
            reason = found["vllm:num_requests_waiting_by_reason", "0", "capacity", "m"]
            assert found[contract.WAITING, "0", "m"] == reason
            return (found[contract.RUNNING, "0", "m"], reason) == (running, waiting)

        await until(lambda: shows(1, 0))
        second = asyncio.create_task(pod.chat(max_tokens=2))
        await until(lambda: shows(1, 1))
        first.cancel()
        status, _ = await second
        assert status == 200
        await until(lambda: shows(0, 0))
        found = await pod.metrics()
        assert found[contract.REQUEST_SUCCESS, "0", "length", "m"] == 1
        assert found[contract.IN_FLIGHT,] == 0


async def test_sigterm_refuses_new_requests_and_finishes_the_old(tmp_path: Path) -> None:
    async with running(tmp_path, alpha=0.01) as pod:
        await until_ready(pod)
        old = asyncio.create_task(pod.chat(max_tokens=140))

        async def started() -> bool:
            return (await pod.status())["inFlight"] == 1

        await until(started)
        pod.process.send_signal(signal.SIGTERM)

        async def drains() -> bool:
            return (await pod.status())["phase"] == "draining"

        await until(drains)
        request = {"model": "m", "prompt": "late"}
        async with pod.http.post(f"{pod.api}/v1/completions", json=request) as response:
            assert response.status == 503
            assert int(response.headers["Retry-After"]) >= 1
            body = await response.json()
        assert isinstance(body["error"], dict)
        status, answer = await old
        assert status == 200
        assert isinstance(answer["usage"], dict)
        assert answer["usage"]["completion_tokens"] == 140
        async with asyncio.timeout(DEADLINE):
            assert await pod.process.wait() == 0


async def test_until_proxies_noticed_sigterm_requests_are_served_and_their_connections_closed(
    tmp_path: Path,
) -> None:
    async with running(tmp_path, lingerSeconds=1) as pod:
        await until_ready(pod)
        pod.process.send_signal(signal.SIGTERM)

        async def leaves() -> bool:
            return await pod.ready() == 503

        await until(leaves)
        request = {"model": "m", "prompt": "late"}
        async with pod.http.post(f"{pod.api}/v1/completions", json=request) as response:
            assert response.status == 200
            assert response.headers["Connection"] == "close"
        async with asyncio.timeout(DEADLINE):
            assert await pod.process.wait() == 0


async def test_the_drain_ends_in_time_with_an_error_for_the_rest(tmp_path: Path) -> None:
    async with running(tmp_path, alpha=0.01, drainSeconds=0) as pod:
        await until_ready(pod)
        body = {"model": "m", "prompt": "x", "max_tokens": 100_000, "stream": True}
        async with pod.http.post(f"{pod.api}/v1/completions", json=body) as response:
            pod.process.send_signal(signal.SIGTERM)
            last = (await events(response))[-1]
        assert json.loads(last)["error"]["code"] == 503
        async with asyncio.timeout(DEADLINE):
            assert await pod.process.wait() == 0


async def test_a_loading_pod_says_when_to_come_back_and_stops_at_once(tmp_path: Path) -> None:
    async with running(tmp_path, coldStart=60) as pod:
        assert await pod.ready() == 503
        assert (await pod.status())["phase"] == "loading"
        request = {"model": "m", "prompt": "early"}
        async with pod.http.post(f"{pod.api}/v1/completions", json=request) as response:
            assert response.status == 503
            assert 1 < int(response.headers["Retry-After"]) <= 60
        assert (await pod.metrics())[contract.REFUSED, "loading"] == 1
        pod.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(DEADLINE):
            assert await pod.process.wait() == 0


def test_a_wrong_key_is_named_in_the_error(tmp_path: Path) -> None:
    file = tmp_path / "simulator.json"
    file.write_text('{"model": {"name": "m"}, "gama": 1}')
    with pytest.raises(pydantic.ValidationError, match="gama"):
        config.load(file)


async def test_typed_metrics_are_on_the_api_port_where_a_picker_reads_them(tmp_path: Path) -> None:
    async with running(tmp_path, openMetrics=True) as pod:
        await until_ready(pod)
        async with pod.http.get(f"{pod.api}{contract.METRICS_PATH}") as response:
            assert response.status == 200
            page = await response.text()
    for gauge in (contract.WAITING, contract.RUNNING, contract.KV_USAGE):
        assert f"# TYPE {gauge} gauge" in page


async def test_metrics_are_not_on_the_api_port_unless_asked_for(tmp_path: Path) -> None:
    async with running(tmp_path) as pod:
        await until_ready(pod)
        async with pod.http.get(f"{pod.api}{contract.METRICS_PATH}") as response:
            assert response.status == 404


async def test_a_body_of_very_many_parts_is_refused_before_it_is_parsed(tmp_path: Path) -> None:
    async with running(tmp_path) as pod:
        answer, error = await pod.chat(x=[[]] * 220_000)
        assert answer == 400
        assert "objects, lists and fields" in error["error"]["message"]
