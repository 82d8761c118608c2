"""In-memory state of each service that the reconciler and the scaling loop share."""

import dataclasses
import math

from slipstream_operator.core import revisions
from slipstream_operator.core.fetching import Fetched
from slipstream_operator.core.groups import Loss
from slipstream_operator.core.observed import Key
from slipstream_operator.core.resolve import Resolved
from slipstream_operator.core.router import Entry
from slipstream_operator.core.scaling.rest import Rest
from slipstream_operator.core.scaling.state import Decision, State
from slipstream_operator.core.speculation import SwitchedOff
from slipstream_operator.core.status.outcome import Measured


@dataclasses.dataclass(slots=True)
class Account:
    """One service's page."""

    resolved: Resolved | None = None
    rollout: revisions.Rollout | None = None
    engines: int | None = None
    """Data-parallel engines of one replica of the active revision; None before one was active."""
    state: State | None = None
    decision: Decision | None = None
    measured: Measured | None = None
    rest: Rest | None = None
    """None while anything is going on."""
    told: object = None
    """Of what was measured and decided, what the reconcile was last asked for at once."""
    fetched: Fetched | None = None
    """The download or inspection that is done."""
    off: SwitchedOff | None = None
    """The speculation that was found not to pay."""
    below_since: float | None = None
    """Since when too few guesses were accepted, on the monotonic clock."""
    loss_since: float | None = None
    """Since when speculation has made decoding slower, on the monotonic clock."""
    remembered: bool = False
    """Whether what an earlier leader kept was taken up."""
    saved: str = ""
    """The scaling state as it was last written to the cluster."""
    saved_at: float = 0.0
    saved_decision: tuple[int, str] | None = None
    """Count and reason in it; None as long as none was written."""
    status_at: float = -math.inf
    looked: bool = False
    """Whether `entry` is known."""
    entry: Entry | None = None
    """The service as its namespace's router shall have it."""
    loss: Loss | None = None
    """Why a group of pods that are one replica restarts."""
    left_at: float | None = None
    """Since when requests go past the router, on the monotonic clock."""


class Ledger:
    """The pages of all services."""

    def __init__(self) -> None:
        self._accounts: dict[Key, Account] = {}

    def of(self, key: Key) -> Account:
        """The service's page, begun if there is none."""
        return self._accounts.setdefault(key, Account())

    def forget(self, key: Key) -> None:
        """The service is gone."""
        self._accounts.pop(key, None)

    def known(self) -> list[tuple[Key, Account]]:
        """All pages."""
        return list(self._accounts.items())

    def decided(self) -> list[tuple[str, str, int]]:
        """Namespace, name and replicas of each service that something was decided for."""
        return [
            (key.namespace, key.name, account.decision.desired)
            for key, account in self._accounts.items()
            if account.decision is not None
        ]
