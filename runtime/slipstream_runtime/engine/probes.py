"""Requests that an engine must answer before it is Ready: one of each task that clients may ask for."""

import io
import math
import struct
import wave
from collections.abc import Collection, Mapping
from typing import Final

from slipstream_runtime.engine.config import EngineConfig
from slipstream_runtime.host.probe import Answer, Probe
from slipstream_runtime.web import openai

_TEXT: Final = "one two three one two three one two"
"""Repeats itself, so that an n-gram lookup has something to propose."""

_SCHEMA: Final = {
    "type": "object",
    "properties": {"count": {"type": "integer"}},
    "required": ["count"],
    "additionalProperties": False,
}

UNPROBED: Final[Mapping[str, str]] = {
    "plugin": "the form of its requests is the plugin's own",
    "embed&token_classify": "only an input processor plugin makes its requests",
    "realtime": "it is served over a WebSocket, which the engine's front does not pass",
    "render": "it computes nothing",
}
"""Task of vLLM without a probe -> the reason."""


def build(
    config: EngineConfig, *, tasks: Collection[str], paths: Collection[str] = openai.FORMS
) -> list[Probe]:
    """Return the probes of the tasks, in order; `paths` are the paths that the engine serves.

    A completion comes first. It is long enough for a draft to be made and verified.
    """
    name = config.model.name
    probes = []
    if "generate" in tasks:
        probes += [_completion(name, config), _structured(config)]
    if "transcription" in tasks:
        probes.append(_transcription(name))
    if "embed" in tasks:
        probes.append(_pooled(name, "an embedding", openai.EMBEDDINGS))
    if "classify" in tasks:
        probes.append(_pooled(name, "a classification", openai.CLASSIFY))
    if "classify" in tasks and openai.RERANK in paths:
        pair = {"model": name, "query": _TEXT, "documents": [_TEXT]}
        probes.append(Probe("a ranking", openai.RERANK, pair, _results))
    if {"token_embed", "token_classify"} & {*tasks}:
        probes.append(_pooled(name, "a pooling", openai.POOLING))
    return probes


def of_adapter(name: str, config: EngineConfig, *, tasks: Collection[str]) -> Probe:
    """Return the probe of the adapter of this name."""
    if "generate" in tasks:
        return _completion(name, config, which=f" of adapter {name}")
    path = openai.EMBEDDINGS if "embed" in tasks else openai.POOLING
    what = "an embedding" if "embed" in tasks else "a pooling"
    return _pooled(name, f"{what} of adapter {name}", path)


def _completion(name: str, config: EngineConfig, *, which: str = "") -> Probe:
    tokens = config.speculation.tokens if config.speculation else 0
    completion = {
        "model": name,
        "prompt": _TEXT,
        "max_tokens": 2 + tokens,
        "temperature": 0,
        "ignore_eos": True,
    }
    return Probe(f"a completion{which}", openai.COMPLETIONS, completion, _tokens)


def _pooled(name: str, what: str, path: str) -> Probe:
    return Probe(what, path, {"model": name, "input": _TEXT}, _data)


def _transcription(name: str) -> Probe:
    fields = {"model": name, "max_completion_tokens": 2, "response_format": "json"}
    return Probe("a transcription", openai.TRANSCRIPTIONS, fields, _heard, file=tone())


def tone() -> bytes:
    """Return a WAV file with a tone of a quarter of a second."""
    rate, seconds, hertz = 16_000, 0.25, 440
    samples = (
        int(8_000 * math.sin(2 * math.pi * hertz * index / rate))
        for index in range(int(rate * seconds))
    )
    held = io.BytesIO()
    with wave.open(held, "wb") as file:
        file.setparams((1, 2, rate, 0, "NONE", ""))
        file.writeframes(b"".join(struct.pack("<h", sample) for sample in samples))
    return held.getvalue()


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


def _results(answer: Answer) -> str | None:
    return None if answer.get("results") else "the answer has no results"


def _heard(answer: Answer) -> str | None:
    # A tone has no words, so an empty text is a real answer.
    return None if isinstance(answer.get("text"), str) else "the answer has no text"
