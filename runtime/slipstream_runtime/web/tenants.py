"""Fields of a request that its API key decides and not its client: salt of cached prefixes, and priority."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import Any, Final, Literal

from slipstream_runtime.web import openai
from slipstream_runtime.web.keyring import Client

Scope = Literal["Tenant", "Service"]
"""Requests that share cached prefixes: those of one tenant, or all of the service."""

_SALT_DIGITS: Final = 32
"""Hexadecimal digits of a salt; vLLM takes up to 128 characters."""
_PRIORITIZED: Final = frozenset(
    path
    for path, form in openai.FORMS.items()
    if form.computes and not form.uploads and path != openai.MESSAGES
)
"""Paths whose requests can have a `priority` in vLLM."""
_SALTED: Final = _PRIORITIZED | {openai.MESSAGES}
"""Paths whose requests can have a `cache_salt` in vLLM."""


@dataclasses.dataclass(frozen=True)
class Tenancy:
    """Rule by which the requests of a service's tenants are kept apart in its engines."""

    service: str
    scope: Scope = "Tenant"
    keys: bool = True
    """Whether clients need an API key. All clients without one are one tenant."""

    @property
    def separates(self) -> bool:
        """Whether tenants share no cached prefixes."""
        return self.keys and self.scope == "Tenant"

    def fields(self, path: str, content: Mapping[str, Any], client: Client) -> dict[str, Any]:
        """Return the fields to set in a body, whatever the client set.

        Without a salt of the tenant the client's own stays. vLLM runs requests of a lower number first.
        """
        fields: dict[str, Any] = {}
        if self.separates and path in _SALTED:
            fields["cache_salt"] = self._salt(client.tenant)
        if path in _PRIORITIZED and (client.priority or "priority" in content):
            fields["priority"] = -client.priority
        return fields

    def _salt(self, tenant: str) -> str:
        """Return the salt of a tenant's prefixes, which is the same in all routers and engines."""
        text = json.dumps([self.service, tenant])
        return hashlib.sha256(text.encode()).hexdigest()[:_SALT_DIGITS]
