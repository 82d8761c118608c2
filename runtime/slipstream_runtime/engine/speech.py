"""Speech: a task of models that hear, which an image without vLLM's audio libraries can't serve."""

import importlib.util
from collections.abc import Set
from typing import Final

from slipstream_runtime import logs
from slipstream_runtime.errors import UnsuitableError

TASKS: Final = frozenset({"transcription", "realtime"})
"""Tasks of vLLM for which it decodes audio."""
_DECODER: Final = "av"
"""Module by which vLLM decodes audio, from its extra `audio`."""


def decodes() -> bool:
    """Whether this image can decode audio."""
    return importlib.util.find_spec(_DECODER) is not None


def servable(tasks: Set[str], *, decodes: bool) -> frozenset[str]:
    """Return the tasks that can be served. UnsuitableError if the model has no task beside speech, and none can."""
    if decodes or not tasks & TASKS:
        return frozenset(tasks)
    left = frozenset(tasks - TASKS)
    if not left:
        raise UnsuitableError(
            "spec.model.uri: the model transcribes speech, for which this image lacks vLLM's audio libraries. Set "
            "spec.template.image to an image with vllm[audio]."
        )
    logs.event("speech is not served", reason="the image lacks vllm[audio]")
    return left
