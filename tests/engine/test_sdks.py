"""The official SDKs of OpenAI and Anthropic against the real vLLM, at the engine and through the router."""

import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import anthropic
import openai
import pytest

from dev import paths
from tests.support import routers
from tests.support.engines import NAME, Engine, config, write_model

KEY: Final = "sk-test"
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
TABLE: Final = paths.REPOSITORY / "docs/apis.md"


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """A Llama whose chat template writes tool calls as Hermes does, behind an API key."""
    folder, model = tmp_path_factory.mktemp("engine"), tmp_path_factory.mktemp("model")
    keys = folder / "keys"
    keys.mkdir()
    (keys / "team").write_text(KEY)
    write_model(model)
    settings = model / "tokenizer_config.json"
    found = json.loads(settings.read_text())
    found["chat_template"] += "{# <tool_call> #}"
    settings.write_text(json.dumps(found))
    structured = json.dumps({"backend": "xgrammar", "disable_any_whitespace": True})
    started = Engine(
        folder,
        config(
            f"file://{model}",
            apiKeys=str(keys),
            engineArgs={"structured-outputs-config": structured},
        ),
    )
    try:
        started.until_ready()
        yield started
    finally:
        started.kill()


@contextlib.asynccontextmanager
async def served(engine: Engine, where: str, folder: Path) -> AsyncIterator[str]:
    """Yield the address at which clients reach the engine."""
    if where == "engine":
        yield engine.api
        return
    token = folder / "router-token"
    token.mkdir()
    (token / "token").write_text(KEY)
    backend: Any = SimpleNamespace(port=engine.port("api"))
    services = [routers.service(model=NAME, activation=None)]
    async with routers.routing(backend, services=services, token=token) as running:
        yield f"http://127.0.0.1:{running.port}"


OpenAI = openai.AsyncOpenAI
Anthropic = anthropic.AsyncAnthropic


async def models_list(client: OpenAI) -> None:
    listed = await client.models.list()
    (model,) = listed.data
    assert model.id == NAME
    assert (model.model_extra or {})["max_model_len"] == 1024


async def models_retrieve(client: OpenAI) -> None:
    assert (await client.models.retrieve(NAME)).id == NAME
    with pytest.raises(openai.NotFoundError):
        await client.models.retrieve("other")


async def chat_create(client: OpenAI) -> None:
    answer = await client.chat.completions.create(model=NAME, messages=MESSAGES, max_tokens=4)
    assert answer.usage is not None
    assert 0 < answer.usage.completion_tokens <= 4


async def chat_stream(client: OpenAI) -> None:
    stream = await client.chat.completions.create(
        model=NAME,
        messages=MESSAGES,
        max_tokens=4,
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = [chunk async for chunk in stream]
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens > 0


async def chat_tools_auto(client: OpenAI) -> None:
    answer = await client.chat.completions.create(
        model=NAME, messages=MESSAGES, max_tokens=4, tools=TOOLS, tool_choice="auto"
    )
    assert answer.choices[0].finish_reason in ("length", "stop")


async def chat_tool_named(client: OpenAI) -> None:
    answer = await client.chat.completions.create(
        model=NAME, messages=MESSAGES, max_tokens=300, tools=TOOLS,
        tool_choice={"type": "function", "function": {"name": "weather"}},
        temperature=0,
    )  # fmt: skip
    assert answer.choices[0].message.tool_calls, answer
    call = answer.choices[0].message.tool_calls[0]
    assert call.type == "function"
    assert call.function.name == "weather"
    assert json.loads(call.function.arguments) == {"unit": "K"}


async def chat_schema(client: OpenAI) -> None:
    form: Any = {"type": "json_schema", "json_schema": {"name": "unit", "schema": TOOL_SCHEMA}}
    answer = await client.chat.completions.create(
        model=NAME, messages=MESSAGES, max_tokens=100, response_format=form
    )
    assert json.loads(answer.choices[0].message.content or "") == {"unit": "K"}


async def completions_create(client: OpenAI) -> None:
    answer = await client.completions.create(model=NAME, prompt="hello", max_tokens=4)
    assert answer.choices[0].finish_reason in ("length", "stop")


async def completions_stream(client: OpenAI) -> None:
    stream = await client.completions.create(model=NAME, prompt="hello", max_tokens=4, stream=True)
    assert [chunk async for chunk in stream]


async def responses_create(client: OpenAI) -> None:
    answer = await client.responses.create(
        model=NAME, input="hello", max_output_tokens=4, store=False
    )
    assert answer.usage is not None
    assert answer.usage.output_tokens > 0


async def responses_stream(client: OpenAI) -> None:
    stream = await client.responses.create(
        model=NAME, input="hello", max_output_tokens=4, store=False, stream=True
    )
    kinds = [event.type async for event in stream]
    assert kinds[0] == "response.created"
    assert kinds[-1] in ("response.completed", "response.incomplete")


async def unknown_model(client: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError):
        await client.chat.completions.create(model="other", messages=MESSAGES, max_tokens=1)


async def messages_create(client: Anthropic) -> None:
    answer = await client.messages.create(model=NAME, messages=MESSAGES, max_tokens=4)
    assert 0 < answer.usage.output_tokens <= 4
    assert answer.stop_reason in ("max_tokens", "end_turn")


async def messages_stream(client: Anthropic) -> None:
    async with client.messages.stream(model=NAME, messages=MESSAGES, max_tokens=4) as stream:
        kinds = [event.type async for event in stream]
        final = await stream.get_final_message()
    assert (kinds[0], kinds[-1]) == ("message_start", "message_stop")
    assert final.usage.output_tokens > 0


async def messages_tools(client: Anthropic) -> None:
    tool: Any = {"name": "weather", "strict": True, "input_schema": TOOL_SCHEMA}
    answer = await client.messages.create(
        model=NAME, messages=MESSAGES, max_tokens=300, tools=[tool], tool_choice={"type": "tool", "name": "weather"},
        extra_body={"temperature": 0},
    )  # fmt: skip
    calls = [block for block in answer.content if block.type == "tool_use"]
    assert calls, answer
    assert calls[0].name == "weather"
    assert calls[0].input == {"unit": "K"}


async def messages_count(client: Anthropic) -> None:
    counted = await client.messages.count_tokens(model=NAME, messages=MESSAGES)
    assert counted.input_tokens >= len("hello")


async def messages_unknown(client: Anthropic) -> None:
    with pytest.raises(anthropic.NotFoundError):
        await client.messages.create(model="other", messages=MESSAGES, max_tokens=1)


OPENAI: Final[dict[str, Callable[[OpenAI], Awaitable[None]]]] = {
    "models.list": models_list,
    "models.retrieve": models_retrieve,
    "chat.completions.create": chat_create,
    "chat.completions.create, streamed": chat_stream,
    "chat.completions.create, tools auto": chat_tools_auto,
    "chat.completions.create, a named tool": chat_tool_named,
    "chat.completions.create, JSON schema": chat_schema,
    "completions.create": completions_create,
    "completions.create, streamed": completions_stream,
    "responses.create": responses_create,
    "responses.create, streamed": responses_stream,
    "an unknown model": unknown_model,
}
ANTHROPIC: Final[dict[str, Callable[[Anthropic], Awaitable[None]]]] = {
    "messages.create": messages_create,
    "messages.stream": messages_stream,
    "messages.create, tools": messages_tools,
    "messages.count_tokens": messages_count,
    "an unknown model": messages_unknown,
}
WHERE: Final = ("engine", "router")


@pytest.mark.parametrize("where", WHERE)
@pytest.mark.parametrize("method", OPENAI)
async def test_openais_sdk(engine: Engine, where: str, method: str, tmp_path: Path) -> None:
    async with (
        served(engine, where, tmp_path) as url,
        OpenAI(base_url=f"{url}/v1", api_key=KEY, max_retries=0) as client,
    ):
        await OPENAI[method](client)


@pytest.mark.parametrize("where", WHERE)
@pytest.mark.parametrize("method", ANTHROPIC)
async def test_anthropics_sdk(engine: Engine, where: str, method: str, tmp_path: Path) -> None:
    async with (
        served(engine, where, tmp_path) as url,
        Anthropic(base_url=url, api_key=KEY, max_retries=0) as client,
    ):
        await ANTHROPIC[method](client)


async def test_a_wrong_key_is_an_error_of_authentication_in_both_sdks(engine: Engine) -> None:
    async with OpenAI(base_url=f"{engine.api}/v1", api_key="wrong", max_retries=0) as client:
        with pytest.raises(openai.AuthenticationError):
            await client.models.list()
    async with Anthropic(base_url=engine.api, api_key="wrong", max_retries=0) as other:
        with pytest.raises(anthropic.AuthenticationError):
            await other.messages.count_tokens(model=NAME, messages=MESSAGES)


def test_the_documentation_lists_the_methods() -> None:
    rows = {line.split("|")[1].strip() for line in TABLE.read_text().splitlines() if "|" in line}
    listed = {row.removeprefix("openai ").removeprefix("anthropic ") for row in rows}
    assert {*OPENAI, *ANTHROPIC} - {"an unknown model"} <= listed


def test_tool_calls_work_without_flags(engine: Engine) -> None:
    arguments = engine.get("/status").json()["arguments"]
    assert arguments[arguments.index("--tool-call-parser") + 1] == "hermes"
    assert "--enable-auto-tool-choice" in arguments
