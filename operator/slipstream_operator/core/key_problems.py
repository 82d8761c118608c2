"""Problems with the API keys of services, as their router reports them: the operator can't read the Secrets.

The router writes them into an annotation of a Lease, `{"chat": {"refused": ["team-a"], "omitted": 3}}`. Whoever may
change the Lease can forge them, so only names of entries are read, and their number and length are limited.
"""

import dataclasses
import json
import re
from collections.abc import Mapping
from typing import Any, Final

from slipstream_operator.core import wording
from slipstream_operator.names import Reason
from slipstream_runtime import contract

LONGEST: Final = 262_144
"""Characters of a report, the maximum of all annotations of an object."""
_ENTRY: Final = re.compile(r"[-._A-Za-z0-9]{1,253}")
"""Name of a Secret's entry, as the API server allows it."""
_MOST: Final = 10**6
"""Entries that one Secret of 1 MiB can hold, and more."""


@dataclasses.dataclass(frozen=True)
class KeyProblem:
    """Reason why keys of one service are not accepted."""

    state: str
    """`refused`, `missing` or `unreadable`, as the contract names them."""
    entries: tuple[str, ...] = ()
    """Names of entries that are no keys."""
    omitted: int = 0
    """Further entries that are no keys."""


def parse(text: object) -> Mapping[str, KeyProblem]:
    """Return the problem of each service in a report; nothing of a malformed report."""
    if not isinstance(text, str) or len(text) > LONGEST:
        return {}
    try:
        report = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    if not isinstance(report, dict):
        return {}
    found = {service: _problem(entry) for service, entry in report.items()}
    return {service: problem for service, problem in found.items() if problem is not None}


def verdict(problem: KeyProblem, *, secret: str) -> tuple[str, str]:
    """Return the reason and the message of the service's condition."""
    where = f"spec.routing.apiKeys.name: Secret {secret}"
    if problem.state == contract.KEYS_MISSING:
        return (
            Reason.KEYS_MISSING,
            f"{where} does not exist or has no entry, so every key is refused. Create it, or add a key.",
        )
    if problem.state == contract.KEYS_UNREADABLE:
        message = (
            f"{where} can't be read by the router, so requests get 503. Check the Role {contract.ROUTER_NAME}, and the "
            "log of the router."
        )
        return Reason.KEYS_UNREADABLE, message
    listed = ", ".join(problem.entries)
    more = f" and {problem.omitted} more" if problem.omitted else ""
    many = len(problem.entries) + problem.omitted
    message = (
        f"{where} has {wording.agreeing(many, 'entry', 'entries')} without a valid key: {listed}{more}. Requests with "
        "their keys are refused, and all other keys stay valid. The log of the router has the field of each entry. "
        "Correct or delete them."
    )
    return Reason.KEYS_REFUSED, message


def _problem(entry: Any) -> KeyProblem | None:
    if not isinstance(entry, dict):
        return None
    for state in (contract.KEYS_MISSING, contract.KEYS_UNREADABLE):
        if entry.get(state) is True:
            return KeyProblem(state)
    refused, omitted = entry.get(contract.KEYS_REFUSED), entry.get("omitted", 0)
    if not isinstance(refused, list) or type(omitted) is not int or not 0 <= omitted <= _MOST:
        return None
    entries = tuple(
        name
        for name in refused[: contract.LISTED_KEYS]
        if isinstance(name, str) and _ENTRY.fullmatch(name)
    )
    return KeyProblem(contract.KEYS_REFUSED, entries, omitted) if entries else None
