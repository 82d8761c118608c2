"""What an engine must have done once before it is Ready: each thing that its clients may ask for."""

from collections.abc import Collection
from typing import Final

from slipstream_runtime.engine.config import EngineConfig
from slipstream_runtime.engine.output import Output
from slipstream_runtime.host.probe import Answer, Probe

_TEXT: Final = "one two three one two three one two"
"""Repeats itself, so that an n-gram lookup has something to propose."""


def build(config: EngineConfig, *, tasks: Collection[str]) -> list[Probe]:
    """The probes, in order; the first is long enough for a draft to be made and verified."""
    name, output = config.model.name, config.output
    probes = [of(name, config, tasks=tasks)]
    if output is not None and output.form is not None:
        probes.append(_formed(name, output))
    return probes


def of(name: str, config: EngineConfig, *, tasks: Collection[str]) -> Probe:
    """The probe of the model, or of an adapter, of this name."""
    which = "" if name == config.model.name else f" of adapter {name}"
    if "generate" not in tasks:
        embedding = {"model": name, "input": _TEXT}
        return Probe(f"an embedding{which}", "/v1/embeddings", embedding, _data)
    tokens = config.speculation.tokens if config.speculation else 0
    completion = {
        "model": name,
        "prompt": _TEXT,
        "max_tokens": 2 + tokens,
        "temperature": 0,
        "ignore_eos": True,
    }
    return Probe(f"a completion{which}", "/v1/completions", completion, _tokens)


def _formed(name: str, output: Output) -> Probe:
    """A completion that begins as spec.output wants it; how it ends, a few tokens don't tell."""
    body = {"model": name, "prompt": _TEXT, "max_tokens": 8, "temperature": 0}
    fields = {"structured_outputs": output.form}
    return Probe(
        "a completion in the form of spec.output", "/v1/completions", body | fields, _tokens
    )


def _tokens(answer: Answer) -> str | None:
    if not answer.get("usage", {}).get("completion_tokens"):
        return "the answer has no tokens"
    return None


def _data(answer: Answer) -> str | None:
    return None if answer.get("data") else "the answer has no data"
