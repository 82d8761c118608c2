"""Limits of the time for a start, a drain, a held request, a silent stream and a request's body."""

import dataclasses
import math
from typing import Final

from slipstream_operator.api import units
from slipstream_operator.api.inferenceservice import InferenceServiceSpec
from slipstream_operator.api.servingprofile import Accelerator
from slipstream_operator.api.times import TimesSpec
from slipstream_operator.core.devices import Device
from slipstream_runtime import contract

START_SECONDS: Final = 3600
"""Seconds of a start if the size of the checkpoint is unknown; enough for 135 GB at SLOW_DOWNLOAD."""
PREPARATION_SECONDS: Final = 900
"""Seconds of a start besides the download: import, compilation, graph capture, first response."""
SLOW_DOWNLOAD: Final = 50e6
"""Bytes per second of a slow download, which a start must allow for."""
USUAL_DOWNLOAD: Final = 250e6
"""Bytes per second of a typical download, which a held request waits for."""
HOLD_SECONDS: Final = 300
"""Seconds for which a request is held; the default of the router."""
HOLD_GPU_SECONDS: Final = 600
"""Seconds for which a request is held if a replica may need a new GPU node, which most clouds add in 10 minutes."""
LONGEST_HOLD_SECONDS: Final = 3600
HOLD_STARTS: Final = 2
"""Usual starts for which a request is held: one that the request begins, and one more if that fails."""
DRAIN_GPU_SECONDS: Final = 300
"""Seconds of the drain of vLLM on GPUs: 8,000 output tokens, as reasoning models generate, at 37 ms."""
SLOW_TOKEN_SECONDS: Final = 0.04
"""Seconds per output token of a slow service, which convert limits.maxOutputTokens to a drain."""


@dataclasses.dataclass(frozen=True)
class Times:
    """Resolved times in seconds."""

    start: int
    """Maximum time of a start, after which the kubelet restarts the container."""
    drain: int
    """Maximum time of a drain of running requests."""
    hold: int
    """Maximum time for which a request is held while no replica is ready."""
    hold_follows_start: bool = False
    """Whether requests are held longer if starts take longer, since neither a hold nor a timeout is set."""
    idle: int | None = None
    """Maximum time between two events of a stream; None is the default of the router."""
    body: int | None = None
    """Maximum time for a client to send a body; None is the default of the router."""

    @property
    def grace(self) -> int:
        """Return the seconds from a pod's deletion to SIGKILL."""
        return contract.LINGER_SECONDS + self.drain + contract.EXIT_SECONDS


def of(
    spec: InferenceServiceSpec,
    accelerator: Accelerator,
    *,
    device: Device,
    generates_tokens: bool = True,
    weights_bytes: int | None = None,
) -> Times:
    """Return the times of the object, of the profile, or defaults that suit the model and the limits.

    `weights_bytes` is the size of all checkpoints, None if unknown.
    """
    given = configured(spec, accelerator)
    on_gpu = device.dedicated
    limits = spec.limits
    timeout = _seconds(limits.timeout) if limits and limits.timeout else None
    return Times(
        start=_seconds(given.start) if given.start else _start(weights_bytes if on_gpu else None),
        drain=_seconds(given.drain)
        if given.drain
        else _drain(spec, timeout)
        if on_gpu and generates_tokens
        else contract.DRAIN_SECONDS,
        hold=_seconds(given.hold) if given.hold else timeout or _hold(weights_bytes, on_gpu=on_gpu),
        hold_follows_start=not given.hold and timeout is None,
        idle=_seconds(given.idle) if given.idle else None,
        body=_seconds(given.body) if given.body else None,
    )


def hold(times: Times, usual_start: float | None) -> int:
    """Return the seconds for which the router holds a request, given the seconds of a usual start, if they are known.

    They are whole minutes, so that the router's configuration seldom changes.
    """
    if usual_start is None or not times.hold_follows_start:
        return times.hold
    enough = math.ceil(HOLD_STARTS * usual_start / 60) * 60
    return max(times.hold, min(enough, LONGEST_HOLD_SECONDS))


def configured(spec: InferenceServiceSpec, accelerator: Accelerator) -> TimesSpec:
    """Return the times that the object sets, or else those that the profile sets for the accelerator."""
    profile, own = accelerator.times or TimesSpec(), spec.times or TimesSpec()
    return TimesSpec(
        start=own.start or profile.start,
        drain=own.drain or profile.drain,
        hold=own.hold or profile.hold,
        idle=own.idle or profile.idle,
        body=own.body or profile.body,
    )


def _start(weights_bytes: int | None) -> int:
    download = 0.0 if weights_bytes is None else weights_bytes / SLOW_DOWNLOAD
    return max(START_SECONDS, PREPARATION_SECONDS + math.ceil(download))


def _drain(spec: InferenceServiceSpec, timeout: int | None) -> int:
    """Return the time of the longest possible response."""
    tokens = spec.limits.max_output_tokens if spec.limits else None
    longest = DRAIN_GPU_SECONDS if tokens is None else math.ceil(tokens * SLOW_TOKEN_SECONDS)
    longest = min(longest, timeout or longest, contract.LONGEST_DRAIN_SECONDS)
    return max(longest, contract.DRAIN_SECONDS)


def _hold(weights_bytes: int | None, *, on_gpu: bool) -> int:
    if not on_gpu:
        return HOLD_SECONDS
    download = 0.0 if weights_bytes is None else weights_bytes / USUAL_DOWNLOAD
    return min(HOLD_GPU_SECONDS + math.ceil(download), LONGEST_HOLD_SECONDS)


def _seconds(duration: str) -> int:
    return math.ceil(units.seconds(duration))
