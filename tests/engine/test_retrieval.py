"""An index of the real encoder, its search service, and a route whose chats get passages and summaries of real models.

One encoder, one vLLM and one search service serve all tests.
"""

import contextlib
import signal
import ssl
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner

from dev import waiting
from slipstream_cli.main import main
from slipstream_runtime import contract
from slipstream_runtime.retrieval import command, index
from slipstream_runtime.router.balancing.endpoints import Address
from tests.support import engines, hooks, searches
from tests.support.cascades import stage
from tests.support.certificates import Authority
from tests.support.engines import Engine
from tests.support.processes import HANG_SECONDS, Process
from tests.support.routers import Running, routing
from tests.support.searches import Search

pytestmark = [pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")]
ENCODER = "minilm"
DIMENSIONS = 384


class Encoder(Process):
    """The real sentence encoder on ONNX Runtime."""

    def __init__(self, folder: Path, model: Path) -> None:
        served = {"uri": f"file://{model}", "name": ENCODER}
        settings = {"model": served, "device": "cpu", "cores": 1, "drainSeconds": 60}
        super().__init__(contract.ONNX_MODULE, folder, settings)


@pytest.fixture(scope="module")
def encoder(minilm: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Encoder]:
    found = Encoder(tmp_path_factory.mktemp("encoder"), minilm)
    try:
        found.until_ready()
        yield found
    finally:
        found.kill()


@pytest.fixture(scope="module")
def handbook(encoder: Encoder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("texts")
    (folder / "handbook.md").write_text(searches.HANDBOOK)
    (folder / "again.md").write_text(searches.HANDBOOK)
    output = folder / "handbook.npz"
    built = build(encoder, folder, output)
    assert built == f"{output}: 4 passages of 2 files, 4 duplicates left out\n"
    return output


def build(encoder: Encoder, *words: Path) -> str:
    *files, output = map(str, words)
    options = ["--embeddings", f"{encoder.api}/v1", "--model", ENCODER, "-o", output]
    result = CliRunner().invoke(main, ["index", *files, *options])
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture(scope="module")
def search(
    encoder: Encoder, handbook: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Search]:
    folder = tmp_path_factory.mktemp("search")
    found = Search(folder, handbook, embeddings=encoder.api, model=ENCODER)
    try:
        found.until_ready()
        yield found
    finally:
        found.process.send_signal(signal.SIGTERM)
        assert found.exit_code() == 0, found.log.read_text()


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    model = tmp_path_factory.mktemp("model")
    engines.write_model(model, positions=4096)
    config = engines.config(f"file://{model}")
    with engines.serving(tmp_path_factory.mktemp("engine"), config) as found:
        yield found


def ask(search: Search, question: str, *, store: str = "handbook", **more: Any) -> httpx.Response:
    url = f"{search.api}/v1/vector_stores/{store}/search"
    return httpx.post(url, json={"query": question, **more}, timeout=60)


def test_an_index_holds_the_encoders_vectors(handbook: Path) -> None:
    found = index.load(handbook)
    assert found.vectors.shape == (4, DIMENSIONS)
    assert [passage.source for passage in found.passages] == ["again.md"] * 4
    assert found.passages[1].text.startswith("Fees\n\nThe deposit")


@pytest.mark.parametrize(
    ("question", "heading"),
    [
        ("How much money do I have to leave for a place to moor?", "Fees"),
        ("Where do the young cats rest?", "Animals"),
        ("What happens when the wind is dangerous?", "Weather"),
        ("How many machines lift cargo?", "Harbour"),
    ],
)
def test_a_passage_is_found_by_its_meaning(search: Search, question: str, heading: str) -> None:
    page = ask(search, question, max_num_results=2).json()
    assert page["object"] == "vector_store.search_results.page"
    first, second = page["data"]
    assert first["content"][0]["text"].startswith(f"{heading}\n\n")
    assert 1 > first["score"] > second["score"]
    found = ask(search, question, ranking_options={"score_threshold": first["score"] - 0.0001})
    assert [each["file_id"] for each in found.json()["data"]] == [first["file_id"]]


REFUSED: list[tuple[dict[str, Any], int]] = [
    ({"question": "x", "store": "other"}, 404),
    ({"question": ""}, 400),
    ({"question": "x", "max_num_results": 51}, 400),
    ({"question": "x", "filters": {"type": "eq"}}, 400),
    ({"question": "x" * 100_000}, 413),
]


@pytest.mark.parametrize(("body", "status"), REFUSED)
def test_a_search_that_cannot_work_is_refused_in_openais_form(
    search: Search, body: dict[str, Any], status: int
) -> None:
    reply = ask(search, **body)
    assert reply.status_code == status
    assert reply.json()["error"]["code"] == status


def test_a_search_without_its_encoder_is_not_ready(
    search: Search, handbook: Path, engine: Engine, tmp_path: Path
) -> None:
    other = Search(tmp_path, handbook, embeddings=engine.api, model=engines.NAME)
    try:
        waiting.until(
            lambda: bool(other.events("encoder checked")),
            seconds=HANG_SECONDS,
            what="a check of the encoder",
            log=other.log,
        )
        assert other.get(contract.READY_PATH).status_code == 503
        assert ask(other, "x").status_code == 502
        assert "embeddings: answered 404" in other.events("encoder checked")[0]["trouble"]
    finally:
        other.kill()


async def test_a_search_can_need_a_key_and_tls_which_routers_verify(
    encoder: Encoder,
    engine: Engine,
    handbook: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(command.SEARCH_KEY, "s3cret")
    authority = Authority()
    folder = authority.fill(tmp_path / "tls", "127.0.0.1")
    options = ["--tls", str(folder), "--name", "texts"]
    found = Search(tmp_path, handbook, *options, embeddings=encoder.api, model=ENCODER)
    try:
        found.until_ready()
        url = f"https://127.0.0.1:{found.port('api')}/v1/vector_stores/texts/search"
        trusted = ssl.create_default_context(cadata=authority.pem.decode())
        async with httpx.AsyncClient(verify=trusted, timeout=60) as client:
            for key, status in ((None, 401), ("other", 401), ("s3cret", 200)):
                headers = {} if key is None else {"authorization": f"Bearer {key}"}
                reply = await client.post(url, json={"query": "x"}, headers=headers)
                assert reply.status_code == status
        retrieve = {"url": url, "timeout": 60, "key": {"secret": "search", "entry": "key"}}
        async with hooked(engine, retrieve=retrieve) as router:
            router.router.update_keys("search", {"key": b"s3cret"})
            await prompt_tokens(router, QUESTION)
            assert await hooks.failures(router, "retrieve", "unreachable") == 1
    finally:
        found.kill()


def test_building_names_what_is_wrong(encoder: Encoder, tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("text")
    words = ["index", str(file), "-o", str(tmp_path / "a.npz"), "--embeddings"]
    for url, model, message in (
        (f"{encoder.api}/v1", "other", "answered 404"),
        ("http://127.0.0.1:1/v1", ENCODER, "Cannot connect"),
        ("embeddings", ENCODER, "is no URL"),
    ):
        result = CliRunner().invoke(main, [*words, url, "--model", model])
        assert result.exit_code == 1
        assert message in result.stderr
    assert not (tmp_path / "a.npz").exists()


@contextlib.asynccontextmanager
async def hooked(engine: Engine, **given: Any) -> AsyncIterator[Running]:
    """Run a router of a route over the engine, which also writes summaries."""
    both = [{**stage(name), "model": engines.NAME} for name in ("chat", "brief")]
    async with routing(services=both) as router:
        shares = [{"service": "chat", "weight": 1}]
        router.configure(*both, routes=[{"name": "r", "model": "m", "backends": shares, **given}])
        port, management = engine.port("api"), engine.port("management")
        place = [Address("pod", "127.0.0.1", port, management)]
        router.router.update({"chat-1": place, "brief-1": place})
        yield router


QUESTION = [{"role": "user", "content": "How much is the deposit?"}]


async def prompt_tokens(router: Running, messages: list[dict[str, Any]]) -> int:
    reply = await router.ask(messages=messages, max_tokens=2, temperature=0)
    assert reply.status == 200, reply.body
    found: int = reply.content["usage"]["prompt_tokens"]
    return found


async def test_a_chat_reaches_vllm_with_the_passages_that_fit_its_budget(
    search: Search, engine: Engine
) -> None:
    url = f"{search.api}/v1/vector_stores/handbook/search"
    retrieve = {"url": url, "topK": 2, "budgetTokens": 100, "timeout": 60}
    async with hooked(engine) as plain:
        before = await prompt_tokens(plain, QUESTION)
    async with hooked(engine, retrieve=retrieve) as router:
        after = await prompt_tokens(router, QUESTION)
        # NB: a token of this model is a byte.
        assert 100 < after - before <= 4 * 100 + 1
        assert await hooks.outcomes(router, "retrieve") == (1, 0, 0)
        stream = await router.ask(messages=QUESTION, max_tokens=2, stream=True)
        assert stream.events[-1] == "[DONE]"


async def test_a_long_conversation_reaches_vllm_with_a_summary_of_vllm(engine: Engine) -> None:
    condense = {**hooks.CONDENSE, "timeout": 60}
    messages = hooks.conversation(2)
    async with hooked(engine) as plain:
        before = await prompt_tokens(plain, messages)
    async with hooked(engine, condense=condense) as router:
        after = await prompt_tokens(router, messages)
        again = await prompt_tokens(router, messages)
        assert after == again < before / 4
        assert await hooks.outcomes(router, "condense") == (2, 0, 0)
        labels = {"route": "r", "hook": "condense"}
        assert await router.metric(hooks.SUMMARIES, source="cache", **labels) == 1
        spent = await router.metric(hooks.TOKENS, kind="spent", **labels)
        assert spent > before - after


async def test_a_chat_that_passages_make_too_long_for_vllm_is_answered_without(
    search: Search, engine: Engine
) -> None:
    url = f"{search.api}/v1/vector_stores/handbook/search"
    messages = [{"role": "user", "content": "x" * 3900}]
    async with hooked(engine, retrieve={"url": url, "timeout": 60}) as router:
        assert await prompt_tokens(router, messages) < 4096
        assert await hooks.failures(router, "retrieve", "rejected") == 1
