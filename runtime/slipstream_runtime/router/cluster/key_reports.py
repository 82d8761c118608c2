"""Reports of problems with API keys to the operator, which can't read the Secrets: an annotation of a Lease."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

import orjson

from slipstream_runtime import contract, errors, logs
from slipstream_runtime.router.config import Route, SecretEntry
from slipstream_runtime.router.service import Service
from slipstream_runtime.router.tenants.key_secrets import KeySecrets

PERIOD_SECONDS: Final = 5.0
"""Seconds between two looks at the keys; a report is written only after a change."""
_AGAIN_SECONDS: Final = 300.0
"""Seconds after which problems are written again, because the Lease may have been made again."""
_MOST_SECONDS: Final = 120.0
"""Longest pause, in seconds, between two attempts while the API server refuses."""
_LARGEST: Final = 131_072
"""Bytes of a report: half of what the annotations of an object may have."""

Write = Callable[[str], Awaitable[None]]
"""Callback that writes a report, and raises if that fails."""


class KeyReports:
    """Task that writes each new report."""

    def __init__(
        self,
        report: Callable[[], str | None],
        write: Write,
        *,
        clock: Callable[[], float],
        period: float = PERIOD_SECONDS,
    ) -> None:
        self._report = report
        self._write = write
        self._clock = clock
        self._period = period

    async def run(self) -> None:
        """Report until cancelled."""
        written, at, pause = None, 0.0, self._period
        while True:
            await asyncio.sleep(pause)
            text = self._report()
            old = self._clock() - at >= _AGAIN_SECONDS and text != contract.NO_KEY_PROBLEMS
            if text is None or (text == written and not old):
                continue
            try:
                await self._write(text)
            except Exception as error:
                logs.failure("report of keys not written", reason=errors.describe(error))
                pause = min(_MOST_SECONDS, 2 * pause)
            else:
                written, at, pause = text, self._clock(), self._period


def report(services: Iterable[Service], routes: Iterable[Route], secrets: KeySecrets) -> str | None:
    """Return the report of all services and routes with keys; None without any, or while a Secret is being read."""
    watched = [(one, one.settings.key_secret) for one in services if one.settings.key_secret]
    searches = [
        (route.name, route.retrieve.key)
        for route in routes
        if route.retrieve and route.retrieve.key
    ]
    if not watched and not searches:
        return None
    if not all(secrets.tried(name) and one.keys_read for one, name in watched):
        return None
    if not all(secrets.tried(key.secret) for _, key in searches):
        return None
    found = {one.name: state for one, name in watched if (state := _state(one, name, secrets))}
    for name, key in searches:
        if state := _of_search(key, secrets):
            found[f"{contract.ROUTE_KEYS}{name}"] = state
    while len(text := _text(found)) > _LARGEST:
        found = dict(sorted(found.items())[: len(found) // 2])
    return text


def _state(service: Service, secret: str, secrets: KeySecrets) -> dict[str, object] | None:
    """Return the problem of a service's keys; None if all are accepted."""
    entries = secrets.content(secret)
    if entries is None:
        return {contract.KEYS_UNREADABLE: True}
    if not entries:
        return {contract.KEYS_MISSING: True}
    refused = sorted(service.refused_keys)
    if not refused:
        return None
    listed = refused[: contract.LISTED_KEYS]
    return {contract.KEYS_REFUSED: listed, "omitted": len(refused) - len(listed)}


def _of_search(key: SecretEntry, secrets: KeySecrets) -> dict[str, object] | None:
    """Return the problem of the key that a route sends to its search; None if there is one."""
    if secrets.content(key.secret) is None:
        return {contract.KEYS_UNREADABLE: True}
    # NB: a key that no header can carry is not sent either.
    return {contract.KEYS_MISSING: True} if secrets.bearer(key.secret, key.entry) is None else None


def _text(found: dict[str, dict[str, object]]) -> str:
    return orjson.dumps(found, option=orjson.OPT_SORT_KEYS).decode()
