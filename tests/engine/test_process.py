"""The engine as a process: a real vLLM with a tiny random model, from the start to SIGTERM.

One process serves all tests; the last one ends it. The model is its own draft, so all drafted tokens are accepted.
"""

import asyncio
import concurrent.futures
import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from dev import waiting
from slipstream_runtime import contract
from tests.support.engines import NAME, Engine, config, write_model
from tests.support.processes import HANG_SECONDS


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Engine, list[str]]]:
    """A ready engine, and the answers of its readiness probe until then."""
    folder = tmp_path_factory.mktemp("engine")
    model = tmp_path_factory.mktemp("model")
    write_model(model)
    uri = f"file://{model}"
    speculation = {"draft": uri, "tokens": 3}
    engine = Engine(folder, config(uri, speculation=speculation, openMetrics=True))
    try:
        yield engine, engine.until_ready()
    finally:
        engine.kill()


@pytest.fixture
def engine(started: tuple[Engine, list[str]]) -> Engine:
    return started[0]


def body(**more: object) -> dict[str, Any]:
    message = {"role": "user", "content": "hello"}
    return {"model": NAME, "messages": [message], "temperature": 0, "ignore_eos": True, **more}


def test_it_is_ready_after_the_first_completion_and_not_before(
    started: tuple[Engine, list[str]],
) -> None:
    engine, answers = started
    phases = list(dict.fromkeys(answers))
    assert phases[-1] == "200 ready"
    assert all(phase.startswith("503 ") for phase in phases[:-1])
    assert {"503 importing", "503 loading"} <= set(phases)
    entered = [entry["phase"] for entry in engine.events("phase")]
    assert entered == ["resolving", "importing", "loading", "probing", "ready"]
    assert (
        engine.metrics()["vllm:request_success_total"] == 2
    )  # a completion, and one with a JSON schema
    assert engine.get(contract.LIVE_PATH).status_code == 200


def test_it_answers_chats(engine: Engine) -> None:
    answer = httpx.post(f"{engine.api}/v1/chat/completions", json=body(max_tokens=8), timeout=60)
    assert answer.status_code == 200
    assert answer.json()["usage"]["completion_tokens"] == 8
    assert "connection" not in answer.headers


def test_it_streams_chats(engine: Engine) -> None:
    sent = body(max_tokens=8, stream=True, stream_options={"include_usage": True})
    answer = httpx.post(f"{engine.api}/v1/chat/completions", json=sent, timeout=60)
    events = [line.removeprefix("data: ") for line in answer.text.split("\n\n") if line]
    assert events[-1] == "[DONE]"
    assert json.loads(events[-2])["usage"]["completion_tokens"] == 8


def test_it_exports_vllms_metrics_and_its_own(engine: Engine) -> None:
    sent = body(max_tokens=40)
    httpx.post(f"{engine.api}/v1/chat/completions", json=sent, timeout=60).raise_for_status()
    found = engine.metrics()
    assert found[contract.ACCEPTED_TOKENS] > 0
    assert found[contract.ACCEPTED_TOKENS] / found[contract.DRAFT_TOKENS] > 0.9
    assert found[contract.GENERATION_TOKENS] >= 40
    for name in (contract.TTFT, contract.TPOT, contract.E2E, contract.ITL):
        assert found[f"{name}_count"] > 0
    for name in (contract.KV_USAGE, contract.RUNNING, contract.WAITING, contract.CACHE_INFO):
        assert name in found
    for name in (contract.TTFT, contract.TPOT, contract.E2E):
        assert engine.bounds(name) == contract.LATENCY_BUCKETS[name]
    assert found[contract.PHASE_DURATION] > 0
    assert found[contract.IN_FLIGHT] == found[contract.DRAINING] == found[contract.REFUSED] == 0


def _ask(engine: Engine, name: str, text: str, *, tokens: int, **headers: str) -> None:
    sent = body(max_tokens=tokens, messages=[{"role": "user", "content": text}])
    headers = {"x-request-id": name, **headers}
    url = f"{engine.api}/v1/chat/completions"
    httpx.post(url, json=sent, headers=headers, timeout=60).raise_for_status()


def _record(engine: Engine, name: str) -> dict[str, Any]:
    [found] = engine.get(f"{contract.RECORDS_PATH}?request={name}").text.splitlines()
    record: dict[str, Any] = json.loads(found)
    return record


def test_it_records_where_the_time_of_each_request_went(engine: Engine) -> None:
    text = "a story of a sea " * 40
    _ask(engine, "new", text, tokens=1)
    _ask(engine, "cached", text, tokens=50)
    _ask(engine, "cold", text[::-1], tokens=1, **{"x-slipstream-prefix": "0.900"})
    new, cached, cold = (_record(engine, name) for name in ("new", "cached", "cold"))
    assert (new["status"], new["outcome"], new["service"]) == (200, "answered", NAME)
    assert (new["promptTokens"], new["outputTokens"]) == (len(text) + 1, 1)
    assert (new["cachedTokens"], new["coldTokens"]) == (0, None)
    assert new["seconds"]["prefill"] > new["seconds"]["decode"] == 0
    assert cached["cachedTokens"] > 600
    assert cached["outputTokens"] == 50
    assert cached["seconds"]["decode"] > cached["seconds"]["prefill"]
    assert cached["batch"] == 1
    assert cold["coldTokens"] > 500
    assert cold["seconds"]["cold_prefix"] > cold["seconds"]["prefill"] > 0
    for each in (new, cached, cold):
        assert sum(each["firstSeconds"].values()) <= sum(each["seconds"].values()) + 1e-4
        assert "story" not in str(each)
    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        decoding = threads.submit(_ask, engine, "decoding", "x", tokens=300)
        texts = [f"{number} is a number " * 50 for number in range(7)]
        prompts = [
            threads.submit(_ask, engine, f"prompt-{number}", text, tokens=1)
            for number, text in enumerate(texts)
        ]
        for each in (decoding, *prompts):
            each.result()
    assert _record(engine, "decoding")["seconds"]["others_prefill"] > 0
    assert _record(engine, "decoding")["batch"] > 1
    others = [_record(engine, f"prompt-{number}")["seconds"] for number in range(7)]
    assert max(each["others_prefill"] for each in others) > 0
    found = engine.metrics()
    assert found[contract.ENGINE_TIME] > 0
    assert found[contract.STEP_COUNT] > 300 / 4
    assert found[contract.STEP_PROMPT_TOKENS] > 7 * 800
    assert "Iteration(" not in engine.log.read_text()


def test_endpoint_pickers_find_typed_gauges_on_the_apis_port(engine: Engine) -> None:
    answer = httpx.get(f"{engine.api}{contract.METRICS_PATH}", timeout=60)
    assert answer.status_code == 200
    for name in (contract.KV_USAGE, contract.RUNNING, contract.WAITING):
        assert f"# TYPE {name} gauge" in answer.text


def test_its_status_tells_versions_capacity_and_arguments(engine: Engine) -> None:
    status = engine.get(contract.STATUS_PATH).json()
    assert status["phase"] == "ready"
    assert status["versions"]["vllm"].startswith("0.")
    assert status["kvCapacityTokens"] > 1024
    assert status["maxSequences"] == engine.metrics()[contract.SEQUENCES] == 128
    assert status["maxModelLength"] == 1024
    assert status["arguments"][:4:2] == ["--model", "--served-model-name"]


@pytest.mark.parametrize("path", ["/metrics", "/load", "/invocations", "/docs", "/readyz"])
def test_other_routes_of_vllm_are_closed(engine: Engine, path: str) -> None:
    assert httpx.post(engine.api + path, json=body()).status_code == 404


async def follow(client: httpx.AsyncClient, url: str, begun: asyncio.Event) -> list[str]:
    sent = body(max_tokens=900, stream=True)
    events: list[str] = []
    async with client.stream("POST", f"{url}/v1/chat/completions", json=sent) as answer:
        async for line in answer.aiter_lines():
            if line.startswith("data: "):
                events.append(line.removeprefix("data: "))
                begun.set()
    return events


async def test_sigterm_finishes_what_is_in_flight_and_refuses_the_rest(engine: Engine) -> None:
    api, management = engine.api, engine.management
    async with httpx.AsyncClient(timeout=90) as client:
        begun = [asyncio.Event() for _ in range(4)]
        streams = [asyncio.create_task(follow(client, api, event)) for event in begun]
        for event in begun:
            await event.wait()
        engine.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(HANG_SECONDS):
            while (await client.get(management + contract.READY_PATH)).text != "draining\n":
                pass
        refused = await client.post(f"{api}/v1/chat/completions", json=body(max_tokens=1))
        assert (await client.get(management + contract.LIVE_PATH)).status_code == 200
        engine.process.send_signal(signal.SIGTERM)
        finished = await asyncio.gather(*streams)
    assert refused.status_code == 503
    assert refused.headers["retry-after"] == "1"
    assert refused.headers["connection"] == "close"
    assert refused.json()["error"]["type"] == "ServiceUnavailableError"
    for events in finished:
        assert events[-1] == "[DONE]"
        assert json.loads(events[-2])["choices"][0]["finish_reason"] == "length"
    assert engine.exit_code() == 0
    assert not engine.termination_log.exists()
    assert [entry["phase"] for entry in engine.events("phase")][-2:] == ["draining", "stopped"]


def test_a_missing_model_is_told_in_the_termination_log(tmp_path: Path) -> None:
    engine = Engine(tmp_path, config("file:///there/is/none"))
    assert engine.exit_code() == 1
    reason = "file:///there/is/none: there is no folder /there/is/none in the container.\n"
    assert engine.termination_log.read_text() == reason


def test_a_checkpoint_of_another_kind_is_told_before_vllm_is_imported(tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text(json.dumps({"dtype": "bfloat16"}))
    engine = Engine(tmp_path, config(f"file://{model}", quantization={"method": "int4"}))
    assert engine.exit_code() == 2
    assert 'spec.quantization.method: "int4" needs' in engine.termination_log.read_text()
    assert [entry["phase"] for entry in engine.events("phase")] == ["resolving", "failed"]


def test_a_bad_file_is_told_on_stderr_and_in_the_termination_log(tmp_path: Path) -> None:
    engine = Engine(tmp_path, {"model": {"uri": "file:///m"}})
    assert engine.exit_code() == 2
    for text in (engine.log.read_text(), engine.termination_log.read_text()):
        assert "model.name: Field required" in text
        assert len(text.splitlines()) == 1


def test_sigterm_during_the_start_ends_it_at_once(tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    write_model(model)
    engine = Engine(tmp_path, config(f"file://{model}"))
    waiting.until(
        lambda: any(entry["phase"] == "importing" for entry in engine.events("phase")),
        seconds=HANG_SECONDS,
        what="the import",
    )
    engine.process.send_signal(signal.SIGTERM)
    assert engine.exit_code() == 0
    assert "ready" not in [entry["phase"] for entry in engine.events("phase")]
