"""The router's report of API keys that it does not accept, from the Secrets as its watches bring them."""

import hashlib
import json
from typing import Any

import pytest

from tests.support import routers

GOOD = {"team-a": f"sha256: {hashlib.sha256(b'sk').hexdigest()}".encode(), "plain": b"sk-plain"}


def keyed(name: str, secret: str | None) -> dict[str, Any]:
    return {**routers.service(keys=True, keySecret=secret), "name": name, "model": name}


async def test_each_service_with_a_problem_is_reported_and_a_good_one_is_not() -> None:
    services = [keyed("good", "good"), keyed("bad", "bad"), keyed("new", "new"), keyed("no", "no")]
    async with routers.routing(services=services) as found:
        assert found.router.key_report() is None  # no Secret was read yet
        found.router.update_keys("good", GOOD)
        found.router.update_keys("bad", {**GOOD, "team-b": b"sha256: no", "c": b"{"})
        found.router.update_keys("new", {})
        assert found.router.key_report() is None
        found.router.update_keys("no", None)
        assert json.loads(found.router.key_report() or "") == {
            "bad": {"refused": ["c", "team-b"], "omitted": 0},
            "new": {"missing": True},
            "no": {"unreadable": True},
        }
        found.router.update_keys("bad", GOOD)
        found.router.update_keys("new", GOOD)
        found.router.update_keys("no", GOOD)
        assert found.router.key_report() == "{}"


async def test_a_secret_that_can_be_read_no_longer_keeps_its_keys_and_is_no_problem() -> None:
    async with routers.routing(services=[keyed("chat", "keys")]) as found:
        found.router.update_keys("keys", GOOD)
        found.router.update_keys("keys", None)
        assert found.router.key_report() == "{}"


async def test_a_few_of_many_entries_are_named_and_all_are_counted() -> None:
    async with routers.routing(services=[keyed("chat", "keys")]) as found:
        found.router.update_keys("keys", {f"e{n}": b"sha256: no" for n in range(9)})
        report = json.loads(found.router.key_report() or "")
        assert report == {"chat": {"refused": ["e0", "e1", "e2", "e3"], "omitted": 5}}


async def test_the_report_of_many_services_is_bounded() -> None:
    services = [keyed(f"s{n}", f"keys-{n}") for n in range(400)]
    async with routers.routing(services=services) as found:
        for n in range(400):
            entries = {f"{'x' * 250}-{m}": b"sha256: no" for m in range(4)}
            found.router.update_keys(f"keys-{n}", entries)
        text = found.router.key_report() or ""
        assert len(text) <= 131_072
        assert len(json.loads(text)) >= 64


@pytest.mark.parametrize("settings", [{}, {"keys": True}])
async def test_a_router_without_secrets_of_keys_reports_nothing(settings: dict[str, Any]) -> None:
    async with routers.routing(services=[routers.service(**settings)]) as found:
        assert found.router.key_report() is None
