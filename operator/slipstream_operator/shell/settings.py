"""kopf's settings: watch only, write nothing."""

from typing import Final

import kopf

from slipstream_operator import names
from slipstream_operator.shell import storages

REQUEST_TIMEOUT: Final = 30.0
CONNECT_TIMEOUT: Final = 10.0


def configured(children: list[tuple[str, str, str]]) -> kopf.OperatorSettings:
    """Settings for our handlers; `children` are (group, version, plural) of kinds that only matter with our label."""
    settings = kopf.OperatorSettings()
    settings.peering.standalone = True
    settings.posting.enabled = False
    settings.networking.request_timeout = REQUEST_TIMEOUT
    settings.networking.connect_timeout = CONNECT_TIMEOUT
    settings.watching.connect_timeout = CONNECT_TIMEOUT
    settings.watching.chunk_size = 500
    settings.queueing.idle_timeout = 0.1  # a task per object lives this long: memory at start
    settings.persistence.finalizer = f"{names.GROUP}/finalizer"
    settings.persistence.diffbase_storage = storages.NoDiffBase()
    settings.persistence.progress_storage = storages.NoProgress()
    for resource in children:
        settings.watching.label_selectors[resource] = names.MANAGED_BY_SELECTOR
    return settings
