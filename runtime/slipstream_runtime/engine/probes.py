"""Requests that an engine must answer before it is Ready: one of each kind that clients can send."""

from collections.abc import Collection
from typing import Final

from slipstream_runtime.engine.config import EngineConfig
from slipstream_runtime.host.probe import Answer, Probe
from slipstream_runtime.web import openai

_TEXT: Final = "one two three one two three one two"
"""Text with repetitions, so that an n-gram lookup proposes draft tokens."""

_SCHEMA: Final = {
    "type": "object",
    "properties": {"count": {"type": "integer"}},
    "required": ["count"],
    "additionalProperties": False,
}


def build(config: EngineConfig, *, tasks: Collection[str]) -> list[Probe]:
    """Return the probes in order; the first is long enough for tokens to be drafted and verified."""
    probes = [of(config.model.name, config, tasks=tasks)]
    return [*probes, _structured(config)] if "generate" in tasks else probes


def of(name: str, config: EngineConfig, *, tasks: Collection[str]) -> Probe:
    """Return the probe of the model or adapter of this name."""
    which = "" if name == config.model.name else f" of adapter {name}"
    if "generate" not in tasks:
        embedding = {"model": name, "input": _TEXT}
        return Probe(f"an embedding{which}", openai.EMBEDDINGS, embedding, _data)
    tokens = config.speculation.tokens if config.speculation else 0
    completion = {
        "model": name,
        "prompt": _TEXT,
        "max_tokens": 2 + tokens,
        "temperature": 0,
        "ignore_eos": True,
    }
    return Probe(f"a completion{which}", openai.COMPLETIONS, completion, _tokens)


def _structured(config: EngineConfig) -> Probe:
    """Return a completion with the structure of spec.output or a JSON schema; it is cut after a few tokens."""
    structure = config.output.structure if config.output else None
    what = "with the structure of spec.output" if structure else "with a JSON schema"
    body = {
        "model": config.model.name,
        "prompt": _TEXT,
        "max_tokens": 8,
        "temperature": 0,
        "structured_outputs": structure or {"json": _SCHEMA},
    }
    return Probe(f"a completion {what}", openai.COMPLETIONS, body, _tokens)


def _tokens(answer: Answer) -> str | None:
    if not answer.get("usage", {}).get("completion_tokens"):
        return "the answer has no tokens"
    return None


def _data(answer: Answer) -> str | None:
    return None if answer.get("data") else "the answer has no data"
