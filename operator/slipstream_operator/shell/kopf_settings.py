"""Settings of kopf: watch only, and write nothing."""

from typing import Final

import kopf

from slipstream_operator import kinds, names
from slipstream_operator.shell import kopf_storages

REQUEST_TIMEOUT: Final = 30.0
"""Seconds for one request of kopf."""
CONNECT_TIMEOUT: Final = 10.0
"""Seconds."""


def configured() -> kopf.OperatorSettings:
    """Return the settings of kopf for `handlers`."""
    settings = kopf.OperatorSettings()
    settings.peering.standalone = True
    settings.posting.enabled = False
    settings.networking.request_timeout = REQUEST_TIMEOUT
    settings.networking.connect_timeout = CONNECT_TIMEOUT
    settings.watching.connect_timeout = CONNECT_TIMEOUT
    settings.watching.chunk_size = 500
    settings.queueing.idle_timeout = 0.1  # seconds that an idle task per object stays in memory
    settings.persistence.finalizer = f"{names.GROUP}/finalizer"
    settings.persistence.diffbase_storage = kopf_storages.NoDiffBase()
    settings.persistence.progress_storage = kopf_storages.NoProgress()
    for kind in kinds.WATCHED:
        if kind.labeled:
            settings.watching.label_selectors[kind.resource] = names.MANAGED_BY_SELECTOR
    return settings
