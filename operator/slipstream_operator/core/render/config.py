"""ConfigMaps of revisions, of adapters and of the service's state."""

import json
from collections.abc import Mapping
from typing import Any, Final

from slipstream_operator import names
from slipstream_operator.core import build_sources, revisions
from slipstream_operator.core.observed import Key, Manifest
from slipstream_operator.core.render import common
from slipstream_runtime import contract

SCALING_KEY: Final = "scaling.json"
SPECULATION_KEY: Final = "speculation.json"
FETCHED_KEY: Final = "fetched.json"
ROLLOUT_KEY: Final = "rollout.json"


def revision_data(
    *,
    config: Manifest,
    template: Manifest,
    devices: Manifest | None = None,
    builds: Manifest | None = None,
) -> dict[str, str]:
    """Return the texts of a new revision."""
    parts = {
        revisions.ENGINE_KEY: config,
        revisions.TEMPLATE_KEY: template,
        revisions.DEVICES_KEY: devices,
        build_sources.BUILDS_KEY: builds,
    }
    return {
        key: json.dumps(part, indent=1, sort_keys=True)
        for key, part in parts.items()
        if part is not None
    }


def revision(key: Key, uid: str, *, revision: str, data: Mapping[str, str]) -> dict[str, Any]:
    """Return the immutable ConfigMap with the engine configuration and the pod template of a revision."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": common.metadata(
            key,
            uid,
            name=names.revision_name(key.name, revision),
            component="engine",
            revision=revision,
        ),
        "immutable": True,
        "data": dict(data),
    }


def state(key: Key, uid: str, *, texts: Mapping[str, str]) -> dict[str, Any]:
    """Return the ConfigMap that keeps the operator's decisions and learned values across restarts."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": common.metadata(key, uid, name=names.state_name(key.name), component="state"),
        "data": dict(texts),
    }


def adapters(key: Key, uid: str, *, listed: Mapping[str, str]) -> dict[str, Any]:
    """Return the ConfigMap with the desired LoRA adapters, which running engines watch."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": common.metadata(
            key, uid, name=names.adapters_name(key.name), component="adapters"
        ),
        "data": {contract.ADAPTERS_FILE: json.dumps(listed, indent=1, sort_keys=True)},
    }
