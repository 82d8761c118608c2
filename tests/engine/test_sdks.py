"""Official SDKs of OpenAI and Anthropic, and plain HTTP, against every runtime, and through the router.

Tests of one engine stand one after the other, because one engine runs at a time.
"""

import contextlib
import json
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import anthropic
import httpx
import openai
import pytest

from dev import paths
from slipstream_runtime import contract
from slipstream_runtime.onnx import export
from tests.support import encoders, routers, sdk_methods, task_models
from tests.support.engines import NAME, Engine, config, write_model
from tests.support.processes import Process, Simulator
from tests.support.sdk_methods import MESSAGES, METHODS, Clients, IgnoredError

pytestmark = [
    # NB: of torch's own code, whenever it exports a model.
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"),
]
KEY: Final = "sk-test"
TABLE: Final = paths.REPOSITORY / "docs/apis.md"
HEADER: Final = [
    "Method",
    "vLLM",
    "vLLM, routed",
    "ONNX Runtime",
    "ONNX Runtime, routed",
    "Simulator",
    "Simulator, routed",
]


def write_chat(folder: Path) -> None:
    """A Llama whose chat template writes tool calls as Hermes does."""
    write_model(folder)
    settings = folder / "tokenizer_config.json"
    found = json.loads(settings.read_text())
    found["chat_template"] += "{# <tool_call> #}"
    settings.write_text(json.dumps(found))


def write_classifier(folder: Path) -> None:
    encoders.write_classifier(folder / "source", labels=["no", "yes"])
    export.export(folder / "source", folder)


STRUCTURED: Final = json.dumps({"backend": "xgrammar", "disable_any_whitespace": True})
VLLM: Final[dict[str, tuple[Callable[[Path], None], dict[str, str]]]] = {
    "chat": (write_chat, {"structured-outputs-config": STRUCTURED}),
    "embed": (write_model, {"runner": "pooling", "convert": "embed"}),
    "rank": (lambda folder: task_models.write_head(folder, labels=1), {}),
    "speech": (task_models.write_speech, {}),
}
"""Model of a method -> how it is written, and the arguments of its engine."""


KINDS: Final = ("speech", "rank", "embed", "onnx encoder", "onnx classifier", "simulator", "chat")
"""Order of the engines."""


def start(kind: str, folder: Path, *, minilm: Path) -> Process:
    """Start an engine behind an API key; the simulator needs no key."""
    keys, model = folder / "keys", folder / "model"
    keys.mkdir()
    (keys / "team").write_text(KEY)
    if kind == "simulator":
        return Simulator(folder, {"model": {"name": NAME}, "coldStart": 0, "alpha": 0.001})
    if kind == "onnx encoder":
        model = minilm
    else:
        model.mkdir()
    if kind == "onnx classifier":
        write_classifier(model)
    if kind.startswith("onnx"):
        settings = config(f"file://{model}", apiKeys=str(keys))
        del settings["cache"]
        return Process(contract.ONNX_MODULE, folder, settings)
    write, arguments = VLLM[kind]
    write(model)
    return Engine(folder, config(f"file://{model}", apiKeys=str(keys), engineArgs=arguments))


class Engines:
    """The engine that runs; one of another kind replaces it."""

    def __init__(self, start: Callable[[str], Process]) -> None:
        self._start = start
        self._kind: str | None = None
        self._running: Process | None = None

    def get(self, kind: str) -> Process:
        """Return a ready engine of this kind."""
        if self._running is None or self._kind != kind:
            self.kill()
            self._kind, self._running = kind, self._start(kind)
            self._running.until_ready()
        return self._running

    def kill(self) -> None:
        if self._running is not None:
            self._running.kill()
            self._running = None


@pytest.fixture(scope="module")
def engines(minilm: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engines]:
    """Engines of all kinds, one at a time."""
    found = Engines(lambda kind: start(kind, tmp_path_factory.mktemp("engine"), minilm=minilm))
    try:
        yield found
    finally:
        found.kill()


@pytest.fixture
def engine(engines: Engines, request: pytest.FixtureRequest) -> Process:
    """A ready engine of the kind that the test asks for."""
    return engines.get(request.param)


@contextlib.asynccontextmanager
async def served(engine: Process, where: str, folder: Path) -> AsyncIterator[str]:
    """Yield the address at which clients reach the engine."""
    if where != "router":
        yield engine.api
        return
    token = folder / "router-token"
    token.mkdir()
    (token / "token").write_text(KEY)
    backend: Any = SimpleNamespace(port=engine.port("api"))
    services = [routers.service(model=NAME, activation=None)]
    async with routers.routing(backend, services=services, token=token) as running:
        yield f"http://127.0.0.1:{running.port}"


@contextlib.asynccontextmanager
async def connected(engine: Process, where: str, folder: Path) -> AsyncIterator[Clients]:
    """Yield clients that have the key and try once."""
    async with (
        served(engine, where, folder) as url,
        openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=KEY, max_retries=0) as first,
        anthropic.AsyncAnthropic(base_url=url, api_key=KEY, max_retries=0) as second,
        httpx.AsyncClient(
            base_url=url, headers={"authorization": f"Bearer {KEY}"}, timeout=60
        ) as http,
    ):
        yield Clients(first, second, http)


def cases() -> list[Any]:
    """Engine, place, method and whether it is served there: one case for each cell of the table, by engine."""
    found = []
    for name, method in METHODS.items():
        onnx = "onnx classifier" if name == "`POST /classify`" else "onnx encoder"
        found += [
            (method.model, "engine", name, "yes"),
            (method.model, "router", name, "yes"),
            (onnx, "engine", name, method.onnx),
            (onnx, "router", name, method.routed(method.onnx)),
            ("simulator", "engine", name, method.simulator),
            ("simulator", "router", name, method.routed(method.simulator)),
        ]
    return sorted(found, key=lambda case: KINDS.index(case[0]))


@pytest.mark.parametrize("engine", ["speech"], indirect=True)
@pytest.mark.parametrize("where", ["engine", "router"])
async def test_sound_that_cannot_be_decoded_is_the_clients_error(
    engine: Process, where: str, tmp_path: Path
) -> None:
    async with connected(engine, where, tmp_path) as clients:
        with pytest.raises(openai.BadRequestError):
            await clients.openai.audio.transcriptions.create(
                model=NAME, file=("a.wav", b"no sound", "audio/wav")
            )
    assert engine.get("/status").json()["phase"] == "ready"


@pytest.mark.parametrize(("engine", "where", "name", "outcome"), cases(), indirect=["engine"])
async def test_each_method_is_served_or_refused_as_the_table_says(
    engine: Process, where: str, name: str, outcome: sdk_methods.Served, tmp_path: Path
) -> None:
    call = METHODS[name].call
    async with connected(engine, where, tmp_path) as clients:
        if outcome == "yes":
            await call(clients)
        elif outcome == "ignored":
            with pytest.raises(IgnoredError):
                await call(clients)
        else:
            errors = (openai.NotFoundError, anthropic.NotFoundError, httpx.HTTPStatusError)
            with pytest.raises(errors) as refusal:
                await call(clients)
            assert refusal.value.response.status_code == 404
            assert "There is no route" in refusal.value.response.text


CHAT: Final = pytest.mark.parametrize("engine", ["chat"], indirect=True)


@CHAT
@pytest.mark.parametrize("where", ["engine", "router"])
async def test_an_unknown_model_is_not_found_in_both_sdks(
    engine: Process, where: str, tmp_path: Path
) -> None:
    async with connected(engine, where, tmp_path) as clients:
        with pytest.raises(openai.NotFoundError):
            await clients.openai.models.retrieve("other")
        with pytest.raises(openai.NotFoundError):
            await clients.openai.chat.completions.create(
                model="other", messages=MESSAGES, max_tokens=1
            )
        with pytest.raises(anthropic.NotFoundError):
            await clients.anthropic.messages.create(model="other", messages=MESSAGES, max_tokens=1)


@CHAT
async def test_a_wrong_key_is_an_error_of_authentication_in_both_sdks(engine: Process) -> None:
    async with openai.AsyncOpenAI(
        base_url=f"{engine.api}/v1", api_key="wrong", max_retries=0
    ) as client:
        with pytest.raises(openai.AuthenticationError):
            await client.models.list()
    async with anthropic.AsyncAnthropic(
        base_url=engine.api, api_key="wrong", max_retries=0
    ) as other:
        with pytest.raises(anthropic.AuthenticationError):
            await other.messages.count_tokens(model=NAME, messages=MESSAGES)


@CHAT
def test_tool_calls_work_without_flags(engine: Process) -> None:
    arguments = engine.get("/status").json()["arguments"]
    assert arguments[arguments.index("--tool-call-parser") + 1] == "hermes"
    assert "--enable-auto-tool-choice" in arguments


def test_the_documentation_has_the_table_of_these_tests() -> None:
    lines = [line for line in TABLE.read_text().splitlines() if line.startswith("|")]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    begin = rows.index(HEADER)
    expected = [
        [
            name,
            "yes",
            "yes",
            *(
                outcome
                for runtime in (method.onnx, method.simulator)
                for outcome in (runtime, method.routed(runtime))
            ),
        ]
        for name, method in METHODS.items()
    ]
    assert rows[begin + 2 :] == expected
