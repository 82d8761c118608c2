"""Reports of a router about API keys: written after changes, repeated after failures."""

import asyncio
import contextlib
import json
from collections.abc import Iterator

import pytest

from slipstream_runtime.router.cluster import key_reports
from slipstream_runtime.router.cluster.key_reports import KeyReports
from slipstream_runtime.router.config import Route
from slipstream_runtime.router.tenants.key_secrets import KeySecrets

PERIOD = 0.001


class Target:
    """Lease that refuses the first writes."""

    def __init__(self, failures: int = 0) -> None:
        self.failures = failures
        self.written: list[str] = []

    async def write(self, text: str) -> None:
        if self.failures:
            self.failures -= 1
            raise OSError("no API server")
        self.written.append(text)


class Keys:
    """Reports of a router, one after another; the last one stays."""

    def __init__(self, *reports: str | None) -> None:
        self._reports: Iterator[str | None] = iter(reports)
        self.last: str | None = None
        self.ended = asyncio.Event()
        self.looks = 0

    def report(self) -> str | None:
        try:
            self.last = next(self._reports)
        except StopIteration:
            self.looks += 1
            if self.looks > 3:
                self.ended.set()
        return self.last


async def run(keys: Keys, target: Target, *, times: Iterator[float] | None = None) -> list[str]:
    def clock() -> float:
        return 0.0 if times is None else next(times)

    reports = KeyReports(keys.report, target.write, clock=clock, period=PERIOD)
    task = asyncio.create_task(reports.run())
    async with asyncio.timeout(60):
        await keys.ended.wait()
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    return target.written


@pytest.mark.parametrize(
    ("reports", "written"),
    [
        ((None, None), []),
        (("{}",), ["{}"]),  # a former router may have reported more
        (("{1}", "{1}", "{2}", "{2}"), ["{1}", "{2}"]),
        (("{1}", None, "{1}"), ["{1}"]),
    ],
)
async def test_each_new_report_is_written_once(
    reports: tuple[str | None, ...], written: list[str]
) -> None:
    assert await run(Keys(*reports), Target()) == written


async def test_a_report_that_was_not_written_is_written_later() -> None:
    assert await run(Keys("{1}"), Target(failures=2)) == ["{1}"]


async def test_a_problem_is_reported_again_after_minutes_in_case_the_lease_was_made_again() -> None:
    later = iter([0.0, 0.0, *(float(400 * step) for step in range(1, 1000))])
    assert (await run(Keys("{1}"), Target(), times=later))[:2] == ["{1}", "{1}"]
    later = iter([0.0, 0.0, *(float(400 * step) for step in range(1, 1000))])
    assert await run(Keys("{}"), Target(), times=later) == ["{}"]


def _route(name: str, secret: str, entry: str) -> Route:
    return Route.model_validate(
        {
            "name": name,
            "model": name,
            "backends": [{"service": "chat", "weight": 1}],
            "retrieve": {"url": "http://s/", "key": {"secret": secret, "entry": entry}},
        }
    )


def test_a_key_that_a_search_needs_and_that_is_not_there_is_reported() -> None:
    secrets = KeySecrets()
    routes = [
        _route("good", "keys", "search"),
        _route("empty", "keys", "blank"),
        _route("other", "keys", "none"),
        _route("broken", "keys", "lines"),
        _route("gone", "no-secret", "search"),
        _route("closed", "denied", "search"),
    ]
    secrets.put("keys", {"search": b"sk-1", "blank": b" ", "lines": b"sk-1\nsk-2"})
    secrets.put("no-secret", {})
    assert key_reports.report((), routes, secrets) is None
    secrets.put("denied", None)
    found = json.loads(key_reports.report((), routes, secrets) or "")
    assert found == {
        "route/empty": {"missing": True},
        "route/other": {"missing": True},
        "route/broken": {"missing": True},
        "route/gone": {"missing": True},
        "route/closed": {"unreadable": True},
    }
    assert key_reports.report((), (), secrets) is None
