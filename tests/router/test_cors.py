"""Browsers: a service's scripts may come from the origins that it allows, and from no others."""

import pytest

from slipstream_runtime.router.messages import cors
from tests.support import backends
from tests.support.routers import CHAT, Running, routing, service

ORIGIN = "https://chat.example.com"
ALLOWED = {"cors": {"allowOrigins": [ORIGIN]}}


async def preflight(router: Running, origin: str, path: str = CHAT) -> tuple[int, dict[str, str]]:
    headers = {
        "origin": origin,
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization,content-type,x-stainless-lang",
        "host": "chat",
    }
    url = f"http://127.0.0.1:{router.port}{path}"
    async with router.http.options(url, headers=headers) as response:
        return response.status, {name.lower(): value for name, value in response.headers.items()}


async def test_a_browser_gets_its_preflight_its_answer_and_its_refusals() -> None:
    async with (
        backends.running() as (engine,),
        routing(engine, services=[service(**ALLOWED)]) as router,
    ):
        status, headers = await preflight(router, ORIGIN)
        assert status == 204
        assert headers["access-control-allow-origin"] == ORIGIN
        assert headers["access-control-allow-methods"] == "POST"
        assert "x-stainless-lang" in headers["access-control-allow-headers"]
        assert engine.received == []
        for asked in ({}, {"stream": True}, {"model": "other"}, {"raw": b"{"}):
            reply = await router.ask(headers={"origin": ORIGIN}, **asked)  # type: ignore[arg-type]
            assert reply.headers["access-control-allow-origin"] == ORIGIN
            assert reply.headers["vary"] == "Origin"
        listed = await router.get("/v1/models", origin=ORIGIN)
        assert listed.headers["access-control-allow-origin"] == ORIGIN


async def test_another_origin_is_refused_and_no_answer_is_opened_to_it() -> None:
    async with (
        backends.running() as (engine,),
        routing(engine, services=[service(**ALLOWED)]) as router,
    ):
        status, headers = await preflight(router, "https://evil.example")
        assert status == 403
        assert "access-control-allow-origin" not in headers
        reply = await router.ask(headers={"origin": "https://evil.example"})
        assert "access-control-allow-origin" not in reply.headers


async def test_a_service_without_the_field_is_not_opened_by_another_service() -> None:
    closed = service(name="closed", model="closed")
    services = [closed, service(**ALLOWED)]
    async with backends.running() as (engine,), routing(engine, services=services) as router:
        mine = await router.ask(headers={"origin": ORIGIN}, model="m")
        other = await router.ask(headers={"origin": ORIGIN}, model="closed")
        assert "access-control-allow-origin" in mine.headers
        assert "access-control-allow-origin" not in other.headers


async def test_without_the_field_options_stays_405() -> None:
    async with routing() as router:
        status, headers = await preflight(router, ORIGIN)
        assert status == 405
        assert "access-control-allow-origin" not in headers


@pytest.mark.parametrize(
    ("allowed", "origin", "expected"),
    [
        (["*"], "https://a.example", True),
        (["https://a.example"], "https://a.example", True),
        (["https://a.example"], "http://a.example", False),
        (["https://a.example"], "https://a.example:8443", False),
        (["https://a.example"], "https://a.example.evil.test", False),
        (["https://*.a.example"], "https://x.y.a.example", True),
        (["https://*.a.example"], "https://a.example", False),
        (["https://*.a.example"], "https://evila.example", False),
        (["https://*.a.example"], "http://x.a.example", False),
        (["http://localhost:3000"], "http://localhost:3000", True),
        ([], "https://a.example", False),
        (["https://a.example"], "null", False),
    ],
)
def test_an_origin_is_allowed_by_itself_by_its_domain_or_by_all(
    allowed: list[str], origin: str, expected: bool
) -> None:
    assert cors.allows(allowed, origin) is expected
