"""Outcome of one reconcile and of the last tick: the values that a status is written from."""

import dataclasses
from collections.abc import Mapping

from slipstream_operator.core import revisions
from slipstream_operator.core.build_sources import BuildSource
from slipstream_operator.core.fetching import TaskState
from slipstream_operator.core.gateway import Attachment
from slipstream_operator.core.observed import Ref
from slipstream_operator.core.profile import Profile
from slipstream_operator.core.resolved import Resolved
from slipstream_operator.core.rollout.state import Progress
from slipstream_operator.core.router_config import RouterProblem
from slipstream_operator.core.scaling.metrics.values import (
    BatchSpeculation,
    DraftTokens,
    Load,
    Reading,
    Unknown,
)
from slipstream_operator.core.scaling.state import Decision, State
from slipstream_operator.errors import PermanentError


@dataclasses.dataclass(frozen=True)
class Measured:
    """Measurements of a service at the last tick of the scaling loop."""

    load: Load | Unknown
    readings: tuple[Reading, ...] | Unknown
    draft_tokens: DraftTokens | None = None
    gain: float | None = None
    """Output tokens per second of decoding, over those without draft tokens."""
    by_batch: tuple[BatchSpeculation, ...] = ()
    loss: str | None = None
    """Warning that speculation gains nothing."""
    kv_capacity: int | None = None
    profile: Profile | None = None
    adapters: Mapping[str, bool] = dataclasses.field(default_factory=dict)
    """LoRA adapter -> whether every engine has it loaded."""


@dataclasses.dataclass(frozen=True)
class Outcome:
    """Outcome of one reconcile."""

    rejected: PermanentError | None = None
    resolved: Resolved | None = None
    rollout: revisions.Rollout | None = None
    progress: Progress = dataclasses.field(default_factory=Progress)
    """Rollout in steps."""
    conflicts: tuple[Ref, ...] = ()
    failures: tuple[str, ...] = ()
    decision: Decision | None = None
    state: State | None = None
    measured: Measured | None = None
    gateway: Attachment | None = None
    """State of the service at its inference gateway, if it uses one."""
    fetching: TaskState | None = None
    """State of the download or inspection that engines wait for."""
    router: RouterProblem | None = None
    """Cause for which the router that serves it can't be changed."""
    loss: str | None = None
    """Reason for the restart of a replica that spans nodes."""
    prefetch: str | None = None
    """Progress of the prefetch of images, as a sentence."""

    @property
    def building(self) -> BuildSource | None:
        """Return the build that the service waits for, or whose artifact outlives it; None if all are Ready.

        A build that the service waits for comes first.
        """
        sources = self.resolved.builds if self.resolved is not None else ()
        problems = [source for source in sources if source.problem is not None]
        return min(problems, key=lambda source: not source.waits, default=None)

    @property
    def at_zero(self) -> bool:
        """Whether the service is scaled to zero and no engine runs until a request arrives."""
        return (
            self.resolved is not None
            and self.resolved.bounds.follows_load
            and self.decision is not None
            and self.decision.desired == 0
        )
