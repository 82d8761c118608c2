"""The values that a decision is made from, what it is, and what is remembered between two."""

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
    """What a decision was made from."""

    work: float
    """Replicas that the load keeps busy."""
    requests: float
    utilisation: float
    need: int
    ready: int
    starting: int
    horizon: float
    """Seconds until a pod that is ordered now would be ready and measured."""


@dataclasses.dataclass(frozen=True)
class Decision:
    """What shall run, and why in one sentence."""

    desired: int
    reason: str
    known: bool
    """False if data were missing, so that the count could only be held."""
    infeasible: str | None = None
    """Which objectives no number of replicas would meet, and what would be feasible."""
    limited: str | None = None
    """Why more pods would not help now."""
    numbers: Numbers | None = None


@dataclasses.dataclass(frozen=True)
class State:
    """What decisions remember; what `memory` keeps of it is in the service's state ConfigMap."""

    desired: int
    since: float
    """When `desired` was decided, in seconds since the epoch."""
    reason: str
    revision: str = ""
    model: StepTimeModel = dataclasses.field(default_factory=StepTimeModel)
    feedback: Feedback = dataclasses.field(default_factory=Feedback)
    concurrency: float | None = None
    """Requests in flight that one replica carries inside its objectives, where no step time is known."""
    cold: ColdStart = dataclasses.field(default_factory=ColdStart)
    coming: tuple[str, ...] = ()
    """Pods that were not ready when it was last looked."""
    outlook: Outlook = dataclasses.field(default_factory=Outlook)
    spikes: Spikes = dataclasses.field(default_factory=Spikes)
    needs: Needs = ()
    watched_since: float | None = None
    """Since when data came without a long gap."""
    blind_since: float | None = None
    learned_at: float = 0.0
    raised_at: float = 0.0
    raised_from: int = 0
    lowered_at: float = 0.0
    lowered_from: int = 0
    """The last step down, which is on probation for a while."""
    caution: float = 1.0
    """How many times longer a lower need must last, after a step down that was wrong."""
    idle_since: float | None = None
    """Since when there was proof that nothing came and nothing was inside."""
    mix: Demand | None = None
    """What comes with one output token per second, as last seen: a throughput is kept ready without traffic, too."""
