"""Request that an engine must answer before it is Ready, by the model's task."""

from slipstream_runtime.host.probe import Answer, Probe
from slipstream_runtime.onnx.exported import Task
from slipstream_runtime.web import openai

_TEXT = "one two three"


def build(name: str, *, task: Task) -> list[Probe]:
    """Return the probes in order."""
    one = {"model": name, "input": _TEXT}
    match task:
        case "embed":
            return [Probe("an embedding", openai.EMBEDDINGS, one, _data)]
        case "classify":
            return [Probe("a classification", openai.CLASSIFY, one, _data)]
        case "rerank":
            pair = {"model": name, "query": _TEXT, "documents": [_TEXT]}
            return [Probe("a ranking", openai.RERANK, pair, _results)]


def _data(answer: Answer) -> str | None:
    return None if answer.get("data") else "the answer has no data"


def _results(answer: Answer) -> str | None:
    return None if answer.get("results") else "the answer has no results"
