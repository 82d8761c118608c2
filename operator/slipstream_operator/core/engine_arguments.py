"""Checks of spec.engineArgs and other names of vLLM against the arguments of the service's vLLM version."""

import difflib
import json
import math
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final, TypeAlias

from slipstream_operator.api.inferenceservice import InferenceServiceSpec
from slipstream_operator.core import argument_rights, vllm_versions
from slipstream_operator.core.argument_classes import (
    ARGUMENTS_NEEDED,
    ENGINE,
    FIELDS_NEEDED,
    OWNED,
    SERVER,
    SHARED,
)
from slipstream_operator.core.vllm_versions import VllmVersion
from slipstream_operator.errors import PermanentError
from slipstream_operator.names import Reason

Scalar: TypeAlias = bool | int | float | str
Value: TypeAlias = Scalar | list[Scalar]

_FIELD: Final = "spec.engineArgs"


def check(spec: InferenceServiceSpec) -> dict[str, Value]:
    """Return spec.engineArgs with values of the types that vLLM reads. PermanentError names all invalid arguments."""
    found, problems = read(spec, version_of(spec))
    if problems:
        raise PermanentError(Reason.INVALID_SPEC, " ".join(problems))
    return found


def version_of(spec: InferenceServiceSpec) -> VllmVersion:
    """Return the vLLM version that the service runs. PermanentError names those that the operator knows."""
    name = spec.engine.version if spec.engine else None
    if name is None:
        return vllm_versions.PINNED
    if name not in vllm_versions.KNOWN:
        raise PermanentError(
            Reason.INVALID_SPEC,
            f'spec.engine.version: "{name}" can\'t be checked because this operator knows the arguments of vLLM '
            f"{' and '.join(vllm_versions.KNOWN)}. Use one of them.",
        )
    return vllm_versions.KNOWN[name]


def read(spec: InferenceServiceSpec, version: VllmVersion) -> tuple[dict[str, Value], list[str]]:
    """Return the valid arguments of spec.engineArgs, and the problems that a version has with the names in the spec."""
    found: dict[str, Value] = {}
    problems = [*_backend(spec, version), *_parsers(spec, version)]
    for name, given in sorted((spec.engine_args or {}).items()):
        try:
            value = _value(name, given, version)
            if problem := _doubled(spec, name) or _alone(spec, name):
                raise ValueError(problem)
        except ValueError as error:
            problems.append(f"{_FIELD}.{name}: {error}")
        else:
            if value is not None:
                found[name] = value
    return found, problems


def _backend(spec: InferenceServiceSpec, version: VllmVersion) -> list[str]:
    """Return the problem of spec.attention.backend, if it has one."""
    backend = spec.attention.backend if spec.attention else None
    known = version.arguments["attention-backend"][1:]
    if backend is None or backend in known:
        return []
    near = difflib.get_close_matches(backend.upper(), known, n=1)
    return [
        f"spec.attention.backend: vLLM {version.name} has no attention backend {_shown(backend)}. "
        + (
            f"Did you mean {near[0]}?"
            if near
            else "Use a backend such as FLASH_ATTN or FLASHINFER."
        )
    ]


def check_allowed(spec: InferenceServiceSpec, allowed: Collection[str], *, profile: str) -> None:
    """Raise PermanentError if an argument reaches further than the service and the profile does not allow it."""
    given = spec.engine_args or {}
    problems = [
        f"{_FIELD}.{name}: {effect}, and ServingProfile {profile} does not allow it. Leave it out, or ask the "
        f"platform team to add it to engineArgs.allow."
        for name, value in sorted(given.items())
        if name not in allowed and (effect := argument_rights.effect(name, value)) is not None
    ]
    if problems:
        raise PermanentError(Reason.NOT_ALLOWED, " ".join(problems))


def _parsers(spec: InferenceServiceSpec, version: VllmVersion) -> list[str]:
    """Return the problems of spec.model's parsers; a plugin can bring parsers that vLLM lacks."""
    model, arguments = spec.model, spec.engine_args or {}
    if model is None:
        return []
    named = (
        ("toolParser", "tool call parser", model.tool_parser, version.tool_parsers, "tool-parser-plugin"),
        (
            "reasoningParser", "reasoning parser", model.reasoning_parser, version.reasoning_parsers,
            "reasoning-parser-plugin",
        ),
    )  # fmt: skip
    problems = []
    for field, what, given, known, plugin in named:
        if given in (None, "auto", "none", *known) or plugin in arguments:
            continue
        near = difflib.get_close_matches(str(given), known, n=1)
        problems.append(
            f"spec.model.{field}: vLLM {version.name} has no {what} {_shown(given)}. "
            + (
                f"Did you mean {near[0]}?"
                if near
                else f"Use auto, none or one of {', '.join(known)}."
            )
        )
    return problems


def _value(name: str, given: object, version: VllmVersion) -> Value | None:
    """Return the value for the engine; None if the argument has no effect. Raise ValueError with the problem."""
    if name in OWNED:
        raise ValueError(f"can't be set here. {OWNED[name]}")
    if name not in version.arguments:
        near = difflib.get_close_matches(_normal(name), version.arguments, n=1)
        raise ValueError(
            f"vLLM {version.name} has no such argument. "
            + (f"Did you mean {near[0]}?" if near else "Correct the name, or leave it out.")
        )
    if name not in ENGINE and name not in SERVER:
        raise ValueError(
            f"Slipstream does not support this argument of vLLM {version.name} yet. Leave it out."
        )
    kind, *choices = version.arguments[name]
    if kind.startswith("list of "):
        items = given if isinstance(given, list) else [given]
        return [_item(kind.removeprefix("list of "), choices, item) for item in items]
    value = _scalar(kind, choices, given)
    if name == "gpu-memory-utilization" and isinstance(value, float) and not 0 < value <= 1:
        raise ValueError(
            f"{_shown(given)} is not a share of a GPU's memory. Use a value above 0 and at most 1."
        )
    if kind == "flag":
        return value or None
    return value


def _normal(name: str) -> str:
    return name.lstrip("-").replace("_", "-").lower()


def _item(kind: str, choices: list[str], given: object) -> Scalar:
    value = _scalar(kind, choices, given)
    if isinstance(value, str) and (value.startswith("-") or not value):
        raise ValueError(
            f"{_shown(given)} can't be an item of a list. Use text that is not empty and does not start with -."
        )
    return value


def _scalar(kind: str, choices: list[str], given: object) -> Scalar:
    if not isinstance(given, bool | int | float | str):
        remedy = "Write JSON as text." if kind == "json" else "Set one value."
        raise ValueError(f"{_shown(given)} is not text, a number or a boolean. {remedy}")
    if kind == "choice":
        if str(given) not in choices:
            raise ValueError(f"{_shown(given)} is not supported. Use one of {', '.join(choices)}.")
        return str(given)
    read, what = _READERS[kind]
    value = read(given)
    if value is None:
        raise ValueError(f"{_shown(given)} is not valid. Use {what}.")
    return value


def _shown(given: object) -> str:
    return json.dumps(given, ensure_ascii=False, default=str)


def _bool(given: Scalar) -> bool | None:
    words = {"true": True, "false": False}
    return given if isinstance(given, bool) else words.get(str(given).lower())


def _int(given: Scalar) -> int | None:
    if isinstance(given, bool):
        return None
    if isinstance(given, float):
        return int(given) if given.is_integer() else None
    return int(given) if re.fullmatch(r"-?[0-9]{1,18}", str(given)) else None


def _size(given: Scalar) -> int | None:
    """Return the size as vLLM reads it: 8k is 8000, 8K is 8192."""
    match = re.fullmatch(r"([0-9]{1,9})([kmgtKMGT])", str(given))
    if match is None:
        return _int(given)
    exponent = "kmgt".index(match[2].lower()) + 1
    unit: int = (1024 if match[2].isupper() else 1000) ** exponent
    return int(match[1]) * unit


def _float(given: Scalar) -> float | None:
    if isinstance(given, bool):
        return None
    try:
        value = float(given)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _str(given: Scalar) -> str | None:
    return None if isinstance(given, bool) else str(given)


def _json(given: Scalar) -> str | None:
    try:
        return str(given) if isinstance(json.loads(str(given)), dict | list) else None
    except ValueError:
        return None


_READERS: Final[Mapping[str, tuple[Callable[[Scalar], Scalar | None], str]]] = {
    "bool": (_bool, "true or false"),
    "flag": (_bool, "true or false"),
    "int": (_int, "an integer, such as 64"),
    "size": (_size, "an integer, such as 8192 or 8k"),
    "float": (_float, "a number, such as 0.9"),
    "str": (_str, "text in quotes"),
    "json": (_json, "JSON as text, such as '{\"mode\": 3}'"),
}


def _doubled(spec: InferenceServiceSpec, name: str) -> str | None:
    """Return the problem if a field of spec sets the same."""
    if name not in SHARED:
        return None
    part, *attributes = SHARED[name]
    owner = getattr(spec, part)
    for attribute in attributes:
        if owner is not None and attribute in owner.model_fields_set:
            return f"spec.{part}.{_alias(owner, attribute)} sets the same. Leave out one of them."
    return None


def _alone(spec: InferenceServiceSpec, name: str) -> str | None:
    """Return the problem if the argument has no effect without a field or another argument that is not set."""
    other = ARGUMENTS_NEEDED.get(name)
    if other is not None and not ((spec.engine_args or {}).get(other) or _by_field(spec, other)):
        return f"has no effect without {other}. Set both, or neither."
    if name not in FIELDS_NEEDED:
        return None
    part, attribute = FIELDS_NEEDED[name]
    owner = getattr(spec, part)
    if owner is not None and getattr(owner, attribute):
        return None
    return f"has no effect without spec.{part}.{attribute}. Set both, or neither."


def _by_field(spec: InferenceServiceSpec, argument: str) -> bool:
    """Whether a field names what this argument names."""
    part, *attributes = SHARED.get(argument, ("",))
    owner = getattr(spec, part, None)
    named = {getattr(owner, attribute, None) for attribute in attributes}
    return not named <= {None, "auto", "none"}


def _alias(owner: Any, attribute: str) -> str:
    return str(type(owner).model_fields[attribute].alias or attribute)
