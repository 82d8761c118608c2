"""Effects of another version of vLLM on a service, known before an engine of it runs."""

import dataclasses
import enum
from collections.abc import Iterator

from slipstream_operator.api.inferenceservice import InferenceServiceSpec
from slipstream_operator.core import engine_arguments
from slipstream_operator.core.vllm_versions import VllmVersion


class Effect(enum.StrEnum):
    """Effect of the other version on one field."""

    REFUSED = "Refused"
    """The other version refuses what this one accepts."""
    CHANGED = "Changed"
    """The other version reads the field, but as another kind or with other choices."""


@dataclasses.dataclass(frozen=True)
class Finding:
    """Effect on one field, in one sentence."""

    effect: Effect
    message: str


def check(spec: InferenceServiceSpec, present: VllmVersion, other: VllmVersion) -> list[Finding]:
    """Return what would be different with the other version, refusals first."""
    before = _texts(spec, present)
    refused = [
        Finding(Effect.REFUSED, text)
        for plain, text in _texts(spec, other).items()
        if plain not in before
    ]
    return [*refused, *_changed(spec, present, other)]


def _texts(spec: InferenceServiceSpec, version: VllmVersion) -> dict[str, str]:
    """Return the problems without the version's name -> the problems."""
    _, problems = engine_arguments.read(spec, version)
    return {problem.replace(version.name, ""): problem for problem in problems}


def _changed(
    spec: InferenceServiceSpec, present: VllmVersion, other: VllmVersion
) -> Iterator[Finding]:
    valid, _ = engine_arguments.read(spec, other)
    for name in sorted(valid):
        before, after = present.arguments.get(name), other.arguments[name]
        if before is not None and before[0] != after[0]:
            yield Finding(
                Effect.CHANGED,
                f"spec.engineArgs.{name}: is of kind {after[0]} in vLLM {other.name}, and {before[0]} in "
                f"{present.name}. Check its value.",
            )
