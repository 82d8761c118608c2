"""API keys and budgets of the services of a route."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.backends import Backend
from tests.support.cascades import cascading, route, said, says, stage
from tests.support.routers import Running

HASH = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b"

KEY = {"authorization": "Bearer secret"}


def keep(folder: Path, service: str, **fields: Any) -> None:
    """Return an API key of the service."""
    (folder / service).mkdir(exist_ok=True)
    (folder / service / "team").write_text(json.dumps({"sha256": HASH, "tenant": "a", **fields}))


def left(router: Running, position: int) -> float:
    level: float = route(router).services[position].budgets.left("a")
    return level


async def test_a_key_must_open_every_service_of_the_route(
    small: Backend, large: Backend, tmp_path: Path
) -> None:
    keep(tmp_path, "small")
    async with cascading(small, large, keys=tmp_path) as router:
        assert (await router.ask(headers=KEY)).status == 401
        assert [m["id"] for m in (await router.get("/v1/models", **KEY)).content["data"]] == [
            "m-small"
        ]
        assert not any(each.method == "POST" for each in small.received)


async def test_a_key_need_not_open_what_gets_no_requests(small: Backend, tmp_path: Path) -> None:
    keep(tmp_path, "small")
    shares = [{"service": "small", "weight": 1}, {"service": "large", "weight": 0}]
    async with cascading(small, None, keys=tmp_path) as router:
        named = [stage(name, keys=True) for name in ("small", "large")]
        router.configure(*named, routes=[{"name": "r", "model": "m", "backends": shares}])
        assert (await router.ask(headers=KEY)).status == 200


async def test_a_key_that_is_not_for_a_stages_model_is_403(
    small: Backend, large: Backend, tmp_path: Path
) -> None:
    keep(tmp_path, "small")
    keep(tmp_path, "large", models=["another"])
    async with cascading(small, large, keys=tmp_path) as router:
        assert (await router.ask(headers=KEY)).status == 403
        assert small.received == []


async def test_each_stage_settles_what_it_spent(
    small: Backend, large: Backend, tmp_path: Path
) -> None:
    for name in ("small", "large"):
        keep(tmp_path, name, tokensPerMinute=1000)
    small.always = says("?", sure=0.1, output=100)
    async with cascading(small, large, keys=tmp_path) as router:
        reply = await router.ask(headers=KEY, stream=True, max_tokens=500)
        assert said(reply) == "0 1 2 "
        assert left(router, 0) == pytest.approx(1000 - 107, abs=20)
        assert left(router, 1) == pytest.approx(1000 - 10, abs=9)


async def test_a_budget_that_is_used_up_is_no_reason_to_ask_the_large_model(
    small: Backend, large: Backend, tmp_path: Path
) -> None:
    keep(tmp_path, "small", tokensPerMinute=100)
    keep(tmp_path, "large")
    async with cascading(small, large, keys=tmp_path) as router:
        assert (await router.ask(headers=KEY, max_tokens=500)).status == 429
        assert large.received == []
