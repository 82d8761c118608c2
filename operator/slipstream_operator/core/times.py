"""Times of an engine's life: how long a start, a drain and a held request may take."""

import dataclasses
import math
from typing import Final

from slipstream_operator.api import units
from slipstream_operator.api.inferenceservice import InferenceServiceSpec
from slipstream_operator.api.servingprofile import Accelerator
from slipstream_operator.api.times import Times as Asked
from slipstream_operator.core.devices import Device
from slipstream_runtime import contract

START_SECONDS: Final = 3600
"""Budget of a start where nothing is known of the checkpoint: enough for 135 GB at SLOW_DOWNLOAD."""
PREPARATION_SECONDS: Final = 900
"""Part of a start's budget besides the download: import, compilation, graph capture, first answer."""
SLOW_DOWNLOAD: Final = 50e6
"""Bytes per second of a slow download, which a start's budget must bear."""
USUAL_DOWNLOAD: Final = 250e6
"""Bytes per second of a usual download, which a held request waits for."""
HOLD_SECONDS: Final = 300
"""Longest hold of a request, as the router has it by default."""
HOLD_GPU_SECONDS: Final = 600
"""Longest hold where a replica may wait for a new GPU node: most clouds bring one within ten minutes."""
LONGEST_HOLD_SECONDS: Final = 3600
DRAIN_GPU_SECONDS: Final = 300
"""Drain of vLLM on GPUs: the time of 8,000 output tokens at 37 ms, as reasoning models use them."""
SLOW_TOKEN_SECONDS: Final = 0.04
"""Time of one output token of a slow service, by which limits.maxOutputTokens becomes a drain."""


@dataclasses.dataclass(frozen=True)
class Times:
    """Seconds, each decided."""

    start: int
    """Budget of a start, after which the kubelet restarts the container."""
    drain: int
    """Longest drain of running requests."""
    hold: int
    """Longest hold of a request while no replica is ready."""

    @property
    def grace(self) -> int:
        """Seconds from a pod's deletion to SIGKILL."""
        return contract.LINGER_SECONDS + self.drain + contract.EXIT_SECONDS


def of(
    spec: InferenceServiceSpec,
    accelerator: Accelerator,
    *,
    device: Device,
    generates_tokens: bool = True,
    weights_bytes: int | None = None,
) -> Times:
    """Return the object's times, else the profile's, else those that the model and the limits make enough.

    `weights_bytes` is the size of all checkpoints, None if unknown.
    """
    said = asked(spec, accelerator)
    on_gpu = device.dedicated
    limits = spec.limits
    timeout = _seconds(limits.timeout) if limits and limits.timeout else None
    return Times(
        start=_seconds(said.start) if said.start else _start(weights_bytes if on_gpu else None),
        drain=_seconds(said.drain)
        if said.drain
        else _drain(spec, timeout)
        if on_gpu and generates_tokens
        else contract.DRAIN_SECONDS,
        hold=_seconds(said.hold)
        if said.hold
        else max(HOLD_SECONDS, timeout or _hold(weights_bytes, on_gpu=on_gpu)),
    )


def asked(spec: InferenceServiceSpec, accelerator: Accelerator) -> Asked:
    """Return the times that the object names, else those that the profile names for the accelerator."""
    profile, own = accelerator.times or Asked(), spec.times or Asked()
    return Asked(
        start=own.start or profile.start,
        drain=own.drain or profile.drain,
        hold=own.hold or profile.hold,
    )


def _start(weights_bytes: int | None) -> int:
    download = 0.0 if weights_bytes is None else weights_bytes / SLOW_DOWNLOAD
    return max(START_SECONDS, PREPARATION_SECONDS + math.ceil(download))


def _drain(spec: InferenceServiceSpec, timeout: int | None) -> int:
    """As long as the longest answer may take, if that is known to be less than usual."""
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
