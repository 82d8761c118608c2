"""Decision of a tick, the figures behind it, and the state between two decisions."""

import dataclasses

from slipstream_operator.core.scaling.models.coldstart import ColdStart
from slipstream_operator.core.scaling.models.feedback import Feedback
from slipstream_operator.core.scaling.models.forecast import Outlook
from slipstream_operator.core.scaling.models.sizing import Demand
from slipstream_operator.core.scaling.models.spikes import Spikes
from slipstream_operator.core.scaling.models.steptime import StepTimeModel
from slipstream_operator.core.scaling.stabilization import Needs


@dataclasses.dataclass(frozen=True)
class Numbers:
    """Figures that a decision was made from."""

    work: float
    """Replicas that the load keeps busy."""
    requests: float
    utilization: float
    need: int
    ready: int
    starting: int
    horizon: float
    """Seconds until a pod that is started now would be ready and measured."""


@dataclasses.dataclass(frozen=True)
class Decision:
    """Desired replicas, and the reason in one sentence."""

    desired: int
    reason: str
    known: bool
    """False if data were missing, so that the count was held."""
    infeasible: str | None = None
    """Objectives that no number of replicas can meet, and feasible ones."""
    limited: str | None = None
    """Reason for which more pods would not help now."""
    numbers: Numbers | None = None
    failed: bool = False
    """Whether the decision failed on a value, so that the count was held."""


@dataclasses.dataclass(frozen=True)
class State:
    """State between two decisions; `persistence` saves a part of it in the service's state ConfigMap."""

    desired: int
    since: float
    """Time of the last change of `desired`, in seconds since the epoch, like all times here."""
    reason: str
    revision: str = ""
    model: StepTimeModel = dataclasses.field(default_factory=StepTimeModel)
    feedback: Feedback = dataclasses.field(default_factory=Feedback)
    concurrency: float | None = None
    """Requests in flight that one replica can have within its objectives, if the step time is unknown."""
    cold: ColdStart = dataclasses.field(default_factory=ColdStart)
    coming: tuple[str, ...] = ()
    """Names of the pods that were not ready at the last tick."""
    outlook: Outlook = dataclasses.field(default_factory=Outlook)
    spikes: Spikes = dataclasses.field(default_factory=Spikes)
    needs: Needs = ()
    watched_since: float | None = None
    """Start of the time in which data came without a long gap."""
    blind_since: float | None = None
    """Start of the current gap in the data."""
    learned_at: float = 0.0
    raised_at: float = 0.0
    raised_from: int = 0
    lowered_at: float = 0.0
    lowered_from: int = 0
    """Replicas before the last scale-down, which is reverted if it soon hurts an objective."""
    caution: float = 1.0
    """Factor of the stabilization window, raised after a wrong scale-down."""
    idle_since: float | None = None
    """Start of the time in which there was proof of no arrivals and no requests in flight."""
    mix: Demand | None = None
    """Demand per output token per second, as last measured, for a throughput objective without traffic."""
