"""Turns of tenants: the next free slot goes to the tenant with the fewest, so each gets its share of the slots. Pure.

A tenant alone may have all slots. While another tenant sends requests, a few slots are kept free of tenants that have
their share: otherwise the other tenant's next request would wait until an answer ends.
"""

import math
from collections import OrderedDict
from collections.abc import Collection
from typing import Final

KEPT_SHARE: Final = 16
"""One slot of this number is kept free."""
LEAST_SLOTS: Final = 4
"""Slots of a service below which none is kept free, and from which at least one is."""
PRESENT_SECONDS: Final = 30.0
"""Seconds after a tenant's last request or answer in which a slot is kept for its next request."""
_REMEMBERED: Final = 4096
"""Tenants whose last turn is known: more than wait at once."""


class _Seen:
    """Last request or answer of one priority, and the last one of another tenant. It changes, to cost little."""

    __slots__ = ("at", "before", "tenant")

    def __init__(self) -> None:
        self.tenant: str | None = None
        self.at = -math.inf
        self.before = -math.inf


class Turns:
    """Slots and last turn of each tenant of one service. Times are in seconds of a monotonic clock."""

    def __init__(self) -> None:
        self._slots: dict[str, int] = {}
        self._last: OrderedDict[str, int] = OrderedDict()
        self._turn = 0
        self._seen: dict[int, _Seen] = {}
        """By priority."""

    def saw(self, tenant: str, *, priority: int, now: float) -> None:
        """Note a request or the end of an answer."""
        seen = self._seen.get(priority)
        if seen is None:
            seen = self._seen[priority] = _Seen()
        if seen.tenant != tenant:
            seen.tenant, seen.before = tenant, seen.at
        seen.at = now

    def began(self, tenant: str, slots: int) -> None:
        """Count slots that the tenant got."""
        self._slots[tenant] = self._slots.get(tenant, 0) + slots
        self._turn += 1
        self._last[tenant] = self._turn
        self._last.move_to_end(tenant)
        if len(self._last) > _REMEMBERED:
            self._last.popitem(last=False)

    def ended(self, tenant: str, slots: int) -> None:
        """Count slots that the tenant gave back."""
        left = self._slots.get(tenant, 0) - slots
        if left > 0:
            self._slots[tenant] = left
        else:
            self._slots.pop(tenant, None)

    def rank(self, tenant: str) -> tuple[int, int]:
        """Return the place of the tenant among the waiting ones: the least is next."""
        return self._slots.get(tenant, 0), self._last.get(tenant, 0)

    def contended(self, tenant: str, *, priority: int, now: float) -> bool:
        """Whether slots are kept for another tenant, of this priority or a higher one."""
        since = now - PRESENT_SECONDS
        for its_priority, seen in self._seen.items():
            at = seen.before if seen.tenant == tenant else seen.at
            if at >= since and its_priority >= priority:
                return True
        return False

    def admits(self, tenant: str, *, slots: int, taken: int) -> bool:
        """Whether the tenant may take one of the free slots, while some are kept for others."""
        if slots - taken > kept(slots):
            return True
        has = self._slots.get(tenant, 0)
        present = max(2, len(self._slots) + (has == 0))
        return has < max(1, slots // present)

    def fits(self, tenant: str, wanted: int, slots: int, *, waiting: Collection[str]) -> bool:
        """Whether a request for `wanted` slots stays within the tenant's share of all slots."""
        present = {tenant, *self._slots, *waiting}
        return wanted <= max(1, slots // len(present))


def kept(slots: int) -> int:
    """Return the slots that are kept free of tenants that have their share."""
    return 0 if slots < LEAST_SLOTS else max(1, slots // KEPT_SHARE)
