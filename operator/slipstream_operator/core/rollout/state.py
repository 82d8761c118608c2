"""State of a rollout in steps, and its text in the service's state ConfigMap."""

import dataclasses
import enum
import json
import math
from collections.abc import Mapping
from typing import Any, Final

import pydantic

_LONGEST_REASON: Final = 1024
"""Characters of a reason, as in status."""
_LAST_TIME: Final = 253402300799.0
"""Last second of the year 9999, since the epoch."""
_MOST_STEPS: Final = 10


class Phase(enum.StrEnum):
    """Phase of a rollout."""

    COMPARING = "Comparing"
    """The canary starts, or gets its share of the requests."""
    PROMOTING = "Promoting"
    """The canary gets all its replicas, and then all requests."""
    SWITCHED = "Switched"
    """The canary gets all requests; the stable revision stays until the router has loaded that."""
    REJECTED = "Rejected"
    """The stable revision gets all requests, and the canary has no pods."""


@dataclasses.dataclass(frozen=True)
class State:
    """State of one rollout. Times are seconds since the epoch."""

    stable: str
    """Hash of the revision that served all requests when the rollout began."""
    canary: str
    """Hash of the revision that the spec asks for."""
    since: float
    """Start of the phase; while comparing, the time from which the canary gets the step's share."""
    phase: Phase = Phase.COMPARING
    step: int = -1
    """Index of the present step; -1 before the canary gets requests."""
    passed: bool = True
    """Whether the step is over, and the next one waits for replicas of the canary."""
    forced: bool = False
    """Whether the user promoted the canary, whatever the comparison says."""
    held: bool = False
    """Whether it was reported that the step has no verdict."""
    verdict: str = ""
    """Verdict of the last comparison; empty before the first."""
    reason: str = ""
    """Explanation of the phase or the verdict, with figures."""

    @property
    def rejected(self) -> bool:
        """Whether the canary was rolled back or aborted."""
        return self.phase is Phase.REJECTED


@dataclasses.dataclass(frozen=True)
class Progress:
    """Rollout of a service, and the user's commands that were carried out."""

    state: State | None = None
    """None while no rollout is in progress and no revision is rejected."""
    done: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Command -> value of its annotation that was carried out. The same value is not carried out again."""

    @property
    def text(self) -> str | None:
        """Return the text to store; None if there is nothing to store."""
        if self.state is None and not self.done:
            return None
        data: dict[str, Any] = {"done": dict(self.done)}
        if self.state is not None:
            state = dataclasses.asdict(self.state) | {"since": round(self.state.since, 1)}
            if self.state.phase is Phase.COMPARING:
                # NB: the figures of a comparison change with each look at it.
                state |= {"verdict": "", "reason": ""}
            data["state"] = state
        return json.dumps(data, sort_keys=True, separators=(",", ":"))

    @classmethod
    def parse(cls, text: str, *, now: float) -> "Progress":
        """Return the stored progress; an empty one if the text is malformed, as after an edit by hand.

        A time after `now` was written by another clock and is set to it.
        """
        try:
            found = _ADAPTER.validate_python(json.loads(text))
        except (ValueError, TypeError, OverflowError, RecursionError):
            return cls()
        state = found.state
        if state is None:
            return found
        if not _is_plausible(state):
            return cls()
        return cls(dataclasses.replace(state, since=min(state.since, now)), found.done)


_ADAPTER: Final = pydantic.TypeAdapter(Progress)


def _is_plausible(state: State) -> bool:
    return (
        state.stable != state.canary
        and all(_is_hash(found) for found in (state.stable, state.canary))
        and math.isfinite(state.since)
        and 0 <= state.since <= _LAST_TIME
        and -1 <= state.step < _MOST_STEPS
        and max(len(state.reason), len(state.verdict)) <= _LONGEST_REASON
    )


def _is_hash(text: str) -> bool:
    return len(text) == 8 and set(text) <= set("0123456789abcdef")
