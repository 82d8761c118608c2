"""Entries of services in the router's configuration, and the configuration as the router reads it."""

from typing import Any

from slipstream_operator.core import router_config
from slipstream_operator.core.observed import Key
from slipstream_operator.core.router_config import Entry
from slipstream_runtime.router.config import Config
from tests.support import given

EVERYTHING: dict[str, Any] = {
    "model": {
        **given.MODEL,
        "name": "Qwen",
        "adapters": [{"name": "sql", "uri": "hf://org/sql"}],
    },
    "limits": {
        "maxOutputTokens": 512,
        "maxPromptTokens": 2048,
        "timeout": "1m30s",
        "concurrency": 8,
        "queue": 16,
    },
    "cache": {"responses": {"ttl": "10m", "size": "128Mi"}},
    "routing": {
        "strategy": "LeastLoad",
        "apiKeys": {"name": "keys"},
        "cors": {"allowOrigins": ["https://*.example.com"]},
    },
    "scaling": {"minReplicas": 0, "idleAfter": "5m", "maxReplicas": 2},
}


def entry(spec: dict[str, Any] | None = None, *, name: str = given.NAME) -> Entry:
    """Return the entry of a service in the router's configuration."""
    found = given.entry(given.observed(parent=given.parent(spec, key=Key("team", name))))
    assert found is not None
    return found


def read(*services: Entry, routes: tuple[Any, ...] = ()) -> Config:
    """Return the configuration as the router reads it."""
    texts = router_config.documents("team", [entry.settings for entry in services], routes)
    assert not texts.parts
    return Config.model_validate_json(texts.main)


SERVICES = {name: entry(name=name) for name in ("small", "large")}
PARENTS = [given.parent(key=Key("team", name)) for name in SERVICES]
