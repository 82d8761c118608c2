"""Tenants of a real vLLM behind a real router: one can't pass another in the queue, nor find what it cached."""

import asyncio
import hashlib
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from dev import waiting
from slipstream_runtime import contract
from tests.support.engines import NAME, Engine, config, serving, write_model
from tests.support.processes import HANG_SECONDS, Router
from tests.support.routers import service

PRIORITIES = {"low": -1000, "high": 1000}
FIRST = -(2**62)
"""The priority that a client sets in its body to be served first: vLLM runs lower numbers first."""
PREFIX_HITS = "vllm:prefix_cache_hits_total"


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    model = tmp_path_factory.mktemp("model")
    write_model(model, positions=4096)
    batching = {"maxSequences": 1, "policy": "priority"}
    with serving(
        tmp_path_factory.mktemp("engine"), config(f"file://{model}", batching=batching)
    ) as engine:
        yield engine


@pytest.fixture(scope="module")
def router(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Router]:
    folder = tmp_path_factory.mktemp("router")
    keys = folder / "keys" / "chat"
    keys.mkdir(parents=True)
    for tenant, priority in PRIORITIES.items():
        digest = hashlib.sha256(f"key-{tenant}".encode()).hexdigest()
        (keys / tenant).write_text(json.dumps({"sha256": digest, "priority": priority}))
    chat = service(model=NAME, keys=True, limits={"concurrency": 8})
    settings = {"namespace": "team", "services": [chat]}
    place = {"chat-1": [(engine.port("api"), engine.port("management"))]}
    router = Router(folder, settings, place, "--keys", str(folder / "keys"))
    try:
        router.until_ready()
        yield router
    finally:
        router.kill()


def body(prompt: str, **fields: Any) -> dict[str, Any]:
    return {"model": NAME, "prompt": prompt, "ignore_eos": True, **fields}


async def test_a_priority_in_the_body_does_not_pass_a_key_of_higher_priority(
    engine: Engine, router: Router
) -> None:
    ended: list[str] = []
    async with httpx.AsyncClient(timeout=HANG_SECONDS) as http:

        async def send(name: str, tenant: str, **fields: Any) -> None:
            answer = await http.post(
                f"{router.api}/v1/completions",
                json=body(name, **fields),
                headers={"authorization": f"Bearer key-{tenant}"},
            )
            assert answer.status_code == 200
            ended.append(name)

        async def until(name: str, count: int) -> None:
            def reached() -> bool:
                return engine.metrics()[name] == count

            await asyncio.to_thread(
                waiting.until, reached, seconds=HANG_SECONDS, what=name, interval=0.05
            )

        async with asyncio.TaskGroup() as group:
            group.create_task(send("running", "low", max_tokens=3_500))
            await until(contract.RUNNING, 1)
            group.create_task(send("pushing", "low", max_tokens=5, priority=FIRST))
            await until(contract.WAITING, 1)
            group.create_task(send("entitled", "high", max_tokens=5))
            await until(contract.WAITING, 2)
    assert ended.index("entitled") < ended.index("pushing")


def test_a_tenant_finds_only_its_own_prefixes_in_the_cache(engine: Engine, router: Router) -> None:
    def hits(tenant: str, **fields: Any) -> float:
        before = engine.metrics()[PREFIX_HITS]
        httpx.post(
            f"{router.api}/v1/completions",
            json=body("a secret of the tenant " * 20, max_tokens=1, **fields),
            headers={"authorization": f"Bearer key-{tenant}"},
            timeout=HANG_SECONDS,
        ).raise_for_status()
        return engine.metrics()[PREFIX_HITS] - before

    assert hits("low") == 0
    assert hits("low") > 100
    assert hits("high") == 0
    assert hits("high", cache_salt="its own") > 100
