"""Phases, probes, status and metrics of an engine, without vLLM."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Counter

from dev import metrics as pages
from slipstream_runtime import contract
from slipstream_runtime.host import front, management, metrics
from slipstream_runtime.host.lifecycle import Lifecycle, Phase
from slipstream_runtime.host.status import AdapterStatus, EngineStatus
from slipstream_runtime.web import asgi


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def started() -> tuple[Lifecycle, Clock]:
    clock = Clock()
    return Lifecycle(clock=clock), clock


def test_phases_only_go_forward_and_take_time() -> None:
    life, clock = started()
    seen: list[tuple[Phase, Phase, float]] = []
    life.subscribe(lambda before, phase, took: seen.append((before, phase, took)))
    clock.now = 2.0
    assert life.enter(Phase.LOADING)
    assert not life.enter(Phase.IMPORTING)
    assert not life.enter(Phase.LOADING)
    clock.now = 5.0
    assert life.enter(Phase.READY)
    clock.now = 6.0
    assert seen == [(Phase.STARTING, Phase.LOADING, 2.0), (Phase.LOADING, Phase.READY, 3.0)]
    assert life.seconds() == {Phase.STARTING: 2.0, Phase.LOADING: 3.0, Phase.READY: 1.0}


@pytest.mark.parametrize("phase", [phase for phase in Phase if phase is not Phase.READY])
def test_only_a_ready_engine_has_anybody_to_tell_that_it_leaves(phase: Phase) -> None:
    life, _ = started()
    life.enter(phase)
    assert not life.leave()


def test_an_engine_begins_to_leave_once_and_serves_until_it_drains() -> None:
    life, _ = started()
    life.enter(Phase.READY)
    assert life.leave()
    assert life.leaving
    assert life.serves
    assert not life.ready
    assert not life.leave()
    life.enter(Phase.DRAINING)
    assert life.leaving
    assert not life.serves


def test_the_first_reason_of_a_failure_stays() -> None:
    life, _ = started()
    life.fail("first")
    life.fail("second")
    assert (life.phase, life.reason) == (Phase.FAILED, "first")


async def get(manager: management.Management, path: str) -> tuple[int, str]:
    sent: list[asgi.Message] = []

    async def receive() -> asgi.Message:
        return {"type": "http.request"}

    async def send(message: asgi.Message) -> None:
        sent.append(message)

    await manager({"type": "http", "path": path, "headers": []}, receive, send)
    return sent[0]["status"], sent[1]["body"].decode()


def managed(life: Lifecycle) -> tuple[management.Management, metrics.Metrics]:
    observed = metrics.Metrics(life)
    known = EngineStatus("m", arguments=["--model", "/m"], kv_capacity_tokens=256)
    return management.Management(life=life, metrics=observed, status=known), observed


@pytest.mark.parametrize("phase", list(Phase))
async def test_probes_follow_the_phase(phase: Phase) -> None:
    life, _ = started()
    life.enter(phase)
    manager, _ = managed(life)
    assert await get(manager, contract.READY_PATH) == (
        200 if phase is Phase.READY else 503,
        f"{phase.value}\n",
    )
    alive, _ = await get(manager, contract.LIVE_PATH)
    assert alive == (503 if phase is Phase.FAILED else 200)


@pytest.mark.parametrize(("silence", "status"), [(59.0, 200), (61.0, 503)])
async def test_an_event_loop_that_stopped_is_not_alive(silence: float, status: int) -> None:
    life, clock = started()
    life.enter(Phase.READY)
    life.beat()
    clock.now = silence
    manager, _ = managed(life)
    assert (await get(manager, contract.LIVE_PATH))[0] == status


async def test_a_long_load_is_alive() -> None:
    life, clock = started()
    life.enter(Phase.LOADING)
    clock.now = 9999.0
    manager, _ = managed(life)
    assert (await get(manager, contract.LIVE_PATH))[0] == 200


async def test_the_status_tells_what_is_known() -> None:
    life, clock = started()
    clock.now = 1.23456
    life.enter(Phase.LOADING)
    manager, _ = managed(life)
    status, body = await get(manager, contract.STATUS_PATH)
    assert status == 200
    assert json.loads(body) == {
        "phase": "loading",
        "reason": None,
        "phaseSeconds": {"starting": 1.235, "loading": 0.0},
        "inFlight": 0,
        "model": "m",
        "versions": {},
        "kvCapacityTokens": 256,
        "maxSequences": None,
        "maxModelLength": None,
        "adapters": {},
        "arguments": ["--model", "/m"],
    }


async def test_other_paths_are_not_found() -> None:
    manager, _ = managed(started()[0])
    assert (await get(manager, "/v1/models"))[0] == 404


def samples(observed: metrics.Metrics) -> dict[tuple[str, ...], float]:
    return {
        (sample.name, *sample.labels.values()): sample.value
        for sample in pages.samples(observed.render().decode())
    }


async def nothing(*_: Any) -> None:
    """An application that does nothing."""


async def test_metrics_are_ours_and_once_ready_vllms() -> None:
    life, clock = started()
    observed = metrics.Metrics(life)
    registry = CollectorRegistry()
    Counter("vllm:prompt_tokens", "x", registry=registry).inc(3)
    guard = front.Front(nothing, life=life, probe_key="k")
    observed.watch(guard, engine=registry)
    clock.now = 4.0
    life.enter(Phase.PROBING)
    assert (contract.PROMPT_TOKENS,) not in samples(observed)
    life.enter(Phase.READY)
    guard.refused["draining"] += 2
    life.leave()
    found = samples(observed)
    assert found[(contract.PROMPT_TOKENS,)] == 3
    assert found[(contract.PHASE_DURATION, "starting")] == 4.0
    assert found[(contract.DRAINING,)] == 1
    assert found[(contract.IN_FLIGHT,)] == 0
    assert found[(contract.REFUSED, "draining")] == 2
    assert found[(contract.REFUSED, "loading")] == 0


def test_listeners_run_on_every_change() -> None:
    life, _ = started()
    phases: list[Phase] = []
    listener: Callable[[Phase, Phase, float], None] = lambda _b, phase, _t: phases.append(phase)  # noqa: E731
    life.subscribe(listener)
    for phase in Phase:
        life.enter(phase)
    assert phases == list(Phase)[1:]


async def test_adapters_are_in_status_and_metrics_with_what_is_wrong() -> None:
    life, _ = started()
    manager, observed = managed(life)
    adapters = manager._engine_status.adapters
    observed.watch_adapters(adapters)
    adapters["sql"] = AdapterStatus("file:///sql")
    adapters["chat"] = AdapterStatus("file:///chat", "there is no folder")
    _, text = await get(manager, contract.METRICS_PATH)
    assert 'slipstream_engine_adapter_loaded{adapter="sql"} 1.0' in text
    assert 'slipstream_engine_adapter_loaded{adapter="chat"} 0.0' in text
    _, status = await get(manager, contract.STATUS_PATH)
    assert json.loads(status)["adapters"] == {
        "sql": {"uri": "file:///sql", "loaded": True, "reason": None},
        "chat": {"uri": "file:///chat", "loaded": False, "reason": "there is no folder"},
    }
