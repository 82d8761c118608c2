"""Watches of the Secrets with keys and tokens: one for each Secret, since the router may read only those by name."""

import asyncio
import base64
from collections.abc import Callable, Collection, Mapping
from typing import Final

from slipstream_runtime import logs
from slipstream_runtime.router.cluster.client import Cluster, Manifest, Mirror

_SECRETS: Final = "/api/v1/namespaces/{}/secrets"


class KeyWatches:
    """Watches that begin and end while the router runs, as its configuration names Secrets."""

    def __init__(
        self,
        cluster: Cluster,
        *,
        namespace: str,
        changed: Callable[[str, Mapping[str, bytes] | None], None],
        chance: Callable[[], float],
    ) -> None:
        self._cluster = cluster
        self._path = _SECRETS.format(namespace)
        self._changed = changed
        self._chance = chance
        self._wanted: Collection[str] = ()
        self._owners: Mapping[str, str] = {}
        self._again: set[str] = set()
        """Secrets to read again, because another owner is expected."""
        self._renamed = asyncio.Event()

    def follow(self, names: Collection[str], *, owners: Mapping[str, str]) -> None:
        """Watch these Secrets and no others from now on.

        A Secret in `owners` has no entries unless the object with that uid owns it.
        """
        if owners != self._owners:
            self._again |= {*owners, *self._owners}
        self._wanted, self._owners = names, owners
        self._renamed.set()

    async def run(self) -> None:
        """Watch until cancelled."""
        watches: dict[str, asyncio.Task[None]] = {}
        async with asyncio.TaskGroup() as group:
            while True:
                for name in watches.keys() - (set(self._wanted) - self._again):
                    watches.pop(name).cancel()
                self._again.clear()
                for name in sorted(set(self._wanted) - watches.keys()):
                    watches[name] = group.create_task(self._mirror(name).run())
                self._renamed.clear()
                await self._renamed.wait()

    def _mirror(self, name: str) -> Mirror:
        def changed(objects: Mapping[str, Manifest]) -> None:
            found = objects.get(name, {})
            data = (found.get("data") or {}) if self._is_expected(name, found) else {}
            self._changed(name, {entry: base64.b64decode(text) for entry, text in data.items()})

        return Mirror(
            self._cluster,
            self._path,
            changed=changed,
            failed=lambda: self._changed(name, None),
            chance=self._chance,
            query={"fieldSelector": f"metadata.name={name}"},
        )

    def _is_expected(self, name: str, found: Manifest) -> bool:
        """Whether the Secret may be used: any with this name, or only that of the expected owner."""
        owners = found.get("metadata", {}).get("ownerReferences") or ()
        expected = self._owners.get(name)
        if expected is None or expected in {owner.get("uid") for owner in owners}:
            return True
        if found:
            logs.failure("Secret of another owner not used", secret=name)
        return False
