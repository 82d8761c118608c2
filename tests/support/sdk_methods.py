"""Calls of the official SDKs and of plain HTTP, and the runtimes that serve each of them."""

import dataclasses
import io
import json
from collections.abc import Awaitable, Callable
from typing import Any, Final, Literal

import anthropic
import httpx
import openai

from slipstream_runtime.engine.probes import tone
from tests.support.engines import NAME

MESSAGES: Final[Any] = [{"role": "user", "content": "hello"}]
TOOL_SCHEMA: Final = {
    "type": "object",
    "properties": {"unit": {"type": "string", "enum": ["K"]}},
    "required": ["unit"],
    "additionalProperties": False,
}
TOOLS: Final[Any] = [
    {"type": "function", "function": {"name": "weather", "strict": True, "parameters": TOOL_SCHEMA}}
]
DOCUMENTS: Final = ["a cat", "an engine", "hello"]

Served = Literal["yes", "no", "ignored"]
"""Whether a runtime serves a method, refuses it, or answers it as if the special field were not there."""
Model = Literal["chat", "embed", "rank", "speech"]
"""Model that vLLM needs for a method."""


@dataclasses.dataclass(frozen=True)
class Clients:
    """Clients of one address."""

    openai: openai.AsyncOpenAI
    anthropic: anthropic.AsyncAnthropic
    http: httpx.AsyncClient

    async def post(self, path: str, **body: object) -> Any:
        """Content of the answer; httpx.HTTPStatusError if it is a refusal."""
        answer = await self.http.post(path, json={"model": NAME, **body})
        return answer.raise_for_status().json()


class IgnoredError(Exception):
    """Valid answer without what the request asked for."""


@dataclasses.dataclass(frozen=True)
class Method:
    """Call with checks of its answer, and the runtimes that serve it; vLLM serves all."""

    call: Callable[[Clients], Awaitable[None]]
    model: Model = "chat"
    onnx: Served = "no"
    simulator: Served = "no"
    owned: bool = False
    """Whether the router answers itself, with what the engine's list says."""

    def routed(self, runtime: Served) -> Served:
        """Whether it is served through the router, with a runtime that serves it so."""
        return "ignored" if self.owned and runtime == "no" else runtime


async def models_list(clients: Clients) -> None:
    (model,) = (await clients.openai.models.list()).data
    assert model.id == NAME


async def models_retrieve(clients: Clients) -> None:
    model = await clients.openai.models.retrieve(NAME)
    assert model.id == NAME
    length = (model.model_extra or {})["max_model_len"]
    if length is None:
        raise IgnoredError
    assert length > 0


async def chat_create(clients: Clients) -> None:
    answer = await clients.openai.chat.completions.create(
        model=NAME, messages=MESSAGES, max_tokens=4
    )
    assert answer.usage is not None
    assert 0 < answer.usage.completion_tokens <= 4


async def chat_stream(clients: Clients) -> None:
    stream = await clients.openai.chat.completions.create(
        model=NAME,
        messages=MESSAGES,
        max_tokens=4,
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = [chunk async for chunk in stream]
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens > 0


async def chat_tools_auto(clients: Clients) -> None:
    answer = await clients.openai.chat.completions.create(
        model=NAME, messages=MESSAGES, max_tokens=4, tools=TOOLS, tool_choice="auto"
    )
    assert answer.choices[0].finish_reason in ("length", "stop")


async def chat_tool_named(clients: Clients) -> None:
    answer = await clients.openai.chat.completions.create(
        model=NAME, messages=MESSAGES, max_tokens=300, tools=TOOLS,
        tool_choice={"type": "function", "function": {"name": "weather"}},
        temperature=0,
    )  # fmt: skip
    if not answer.choices[0].message.tool_calls:
        raise IgnoredError(answer)
    call = answer.choices[0].message.tool_calls[0]
    assert call.type == "function"
    assert call.function.name == "weather"
    assert json.loads(call.function.arguments) == {"unit": "K"}


async def chat_schema(clients: Clients) -> None:
    form: Any = {"type": "json_schema", "json_schema": {"name": "unit", "schema": TOOL_SCHEMA}}
    answer = await clients.openai.chat.completions.create(
        model=NAME, messages=MESSAGES, max_tokens=100, response_format=form
    )
    text = answer.choices[0].message.content or ""
    if not text.startswith("{"):
        raise IgnoredError(text)
    assert json.loads(text) == {"unit": "K"}


async def completions_create(clients: Clients) -> None:
    answer = await clients.openai.completions.create(model=NAME, prompt="hello", max_tokens=4)
    assert answer.choices[0].finish_reason in ("length", "stop")


async def completions_stream(clients: Clients) -> None:
    stream = await clients.openai.completions.create(
        model=NAME, prompt="hello", max_tokens=4, stream=True
    )
    assert [chunk async for chunk in stream]


async def responses_create(clients: Clients) -> None:
    answer = await clients.openai.responses.create(
        model=NAME, input="hello", max_output_tokens=4, store=False
    )
    assert answer.usage is not None
    assert answer.usage.output_tokens > 0


async def responses_stream(clients: Clients) -> None:
    stream = await clients.openai.responses.create(
        model=NAME, input="hello", max_output_tokens=4, store=False, stream=True
    )
    kinds = [event.type async for event in stream]
    assert kinds[0] == "response.created"
    assert kinds[-1] in ("response.completed", "response.incomplete")


async def messages_create(clients: Clients) -> None:
    answer = await clients.anthropic.messages.create(model=NAME, messages=MESSAGES, max_tokens=4)
    assert 0 < answer.usage.output_tokens <= 4
    assert answer.stop_reason in ("max_tokens", "end_turn")


async def messages_stream(clients: Clients) -> None:
    async with clients.anthropic.messages.stream(
        model=NAME, messages=MESSAGES, max_tokens=4
    ) as stream:
        kinds = [event.type async for event in stream]
        final = await stream.get_final_message()
    assert (kinds[0], kinds[-1]) == ("message_start", "message_stop")
    assert final.usage.output_tokens > 0


async def messages_tools(clients: Clients) -> None:
    tool: Any = {"name": "weather", "strict": True, "input_schema": TOOL_SCHEMA}
    answer = await clients.anthropic.messages.create(
        model=NAME, messages=MESSAGES, max_tokens=300, tools=[tool], tool_choice={"type": "tool", "name": "weather"},
        extra_body={"temperature": 0},
    )  # fmt: skip
    calls = [block for block in answer.content if block.type == "tool_use"]
    assert calls, answer
    assert calls[0].name == "weather"
    assert calls[0].input == {"unit": "K"}


async def messages_count(clients: Clients) -> None:
    counted = await clients.anthropic.messages.count_tokens(model=NAME, messages=MESSAGES)
    assert counted.input_tokens >= len("hello")


async def embeddings_create(clients: Clients) -> None:
    """Ask for floats and, by the SDK's default, for vectors in base64, which must be equal."""
    packed = await clients.openai.embeddings.create(model=NAME, input=DOCUMENTS)
    plain = await clients.openai.embeddings.create(
        model=NAME, input=DOCUMENTS, encoding_format="float"
    )
    assert [item.index for item in packed.data] == [0, 1, 2]
    assert packed.usage.prompt_tokens > 0
    for one, other in zip(packed.data, plain.data, strict=True):
        differences = [abs(a - b) for a, b in zip(one.embedding, other.embedding, strict=True)]
        assert max(differences) < 1e-5
    assert packed.data[0].embedding != packed.data[1].embedding


async def transcriptions_create(clients: Clients) -> None:
    answer = await clients.openai.audio.transcriptions.create(
        model=NAME, file=_sound(), language="de", extra_body={"max_completion_tokens": 4}
    )
    assert isinstance(answer.text, str)
    assert answer.usage is not None
    assert (answer.usage.type, answer.usage.seconds) == ("duration", 1)


async def transcriptions_stream(clients: Clients) -> None:
    stream = await clients.openai.audio.transcriptions.create(
        model=NAME, file=_sound(), stream=True, extra_body={"max_completion_tokens": 4}
    )
    chunks: list[Any] = [chunk async for chunk in stream]
    assert chunks
    assert chunks[-1].choices[0]["finish_reason"] in ("length", "stop")


async def translations_create(clients: Clients) -> None:
    answer = await clients.openai.audio.translations.create(
        model=NAME, file=_sound(), extra_body={"max_completion_tokens": 4}
    )
    assert isinstance(answer.text, str)


def _sound() -> tuple[str, io.BytesIO, str]:
    return "tone.wav", io.BytesIO(tone()), "audio/wav"


def ranked(path: str) -> Callable[[Clients], Awaitable[None]]:
    async def call(clients: Clients) -> None:
        answer = await clients.post(path, query="hello", documents=DOCUMENTS)
        scores = [result["relevance_score"] for result in answer["results"]]
        assert len(scores) == 3
        assert scores == sorted(scores, reverse=True)
        assert {result["index"] for result in answer["results"]} == {0, 1, 2}

    return call


def scored(path: str) -> Callable[[Clients], Awaitable[None]]:
    async def call(clients: Clients) -> None:
        answer = await clients.post(path, text_1="hello", text_2=DOCUMENTS)
        assert [pair["index"] for pair in answer["data"]] == [0, 1, 2]
        assert all(isinstance(pair["score"], float) for pair in answer["data"])

    return call


async def classify(clients: Clients) -> None:
    answer = await clients.post("/classify", input=DOCUMENTS)
    assert len(answer["data"]) == 3
    assert all(item["num_classes"] == len(item["probs"]) for item in answer["data"])


async def pooling(clients: Clients) -> None:
    assert (await clients.post("/pooling", input="hello"))["data"]


async def tokenize(clients: Clients) -> None:
    counted = await clients.post("/tokenize", prompt="hello")
    assert counted["count"] == len(counted["tokens"]) >= 5


async def detokenize(clients: Clients) -> None:
    tokens = (await clients.post("/tokenize", prompt="hello", add_special_tokens=False))["tokens"]
    assert (await clients.post("/detokenize", tokens=tokens))["prompt"] == "hello"


METHODS: Final = {
    "openai models.list": Method(models_list, onnx="yes", simulator="yes", owned=True),
    "openai models.retrieve": Method(models_retrieve, onnx="yes", owned=True),
    "openai chat.completions.create": Method(chat_create, simulator="yes"),
    "openai chat.completions.create, streamed": Method(chat_stream, simulator="yes"),
    "openai chat.completions.create, tools auto": Method(chat_tools_auto, simulator="yes"),
    "openai chat.completions.create, a named tool": Method(chat_tool_named, simulator="ignored"),
    "openai chat.completions.create, JSON schema": Method(chat_schema, simulator="ignored"),
    "openai completions.create": Method(completions_create, simulator="yes"),
    "openai completions.create, streamed": Method(completions_stream, simulator="yes"),
    "openai responses.create": Method(responses_create),
    "openai responses.create, streamed": Method(responses_stream),
    "openai embeddings.create": Method(embeddings_create, model="embed", onnx="yes"),
    "openai audio.transcriptions.create": Method(transcriptions_create, model="speech"),
    "openai audio.transcriptions.create, streamed": Method(transcriptions_stream, model="speech"),
    "openai audio.translations.create": Method(translations_create, model="speech"),
    "anthropic messages.create": Method(messages_create),
    "anthropic messages.stream": Method(messages_stream),
    "anthropic messages.create, tools": Method(messages_tools),
    "anthropic messages.count_tokens": Method(messages_count),
    "`POST /rerank`": Method(ranked("/rerank"), model="rank", onnx="yes"),
    "`POST /v1/rerank`": Method(ranked("/v1/rerank"), model="rank", onnx="yes"),
    "`POST /v2/rerank`": Method(ranked("/v2/rerank"), model="rank", onnx="yes"),
    "`POST /score`": Method(scored("/score"), model="rank", onnx="yes"),
    "`POST /v1/score`": Method(scored("/v1/score"), model="rank", onnx="yes"),
    "`POST /classify`": Method(classify, model="rank", onnx="yes"),
    "`POST /pooling`": Method(pooling, model="rank"),
    "`POST /tokenize`": Method(tokenize),
    "`POST /detokenize`": Method(detokenize),
}
"""Method, as the table of the documentation calls it -> its call."""
