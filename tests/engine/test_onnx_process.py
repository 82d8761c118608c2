"""The ONNX Runtime engine as a process: a real sentence encoder, from its export to SIGTERM, beside PyTorch.

One process serves most tests; the last one of them ends it.
"""

import asyncio
import base64
import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from slipstream_runtime import contract
from slipstream_runtime.onnx import export, exported, providers
from slipstream_runtime.web import openai
from tests.support import drivers, encoders
from tests.support.processes import HANG_SECONDS, Process

pytestmark = [
    # NB: told by torch, of its own code, whenever it traces.
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"),
]
NAME = "minilm"
CLOSE = 1e-3
TEXTS = [
    "A kitten sleeps on the sofa.",
    "The engine of the old car would not start.",
    "cats",
    "Übermäßig lange Wörter, 東京, emoji 🙂 and punctuation?!",
    "",
    "one two three " * 60,
]


def config(folder: Path, **more: object) -> dict[str, Any]:
    model = {"uri": f"file://{folder}", "name": NAME}
    return {"model": model, "device": "cpu", "cores": 1, "drainSeconds": 60, **more}


class Engine(Process):
    """One engine that serves the model of a folder."""

    def __init__(self, folder: Path, model: Path, **more: object) -> None:
        super().__init__(contract.ONNX_MODULE, folder, config(model, **more))

    def post(self, path: str, **body: Any) -> httpx.Response:
        return httpx.post(self.api + path, json=body, timeout=60)

    def answer(self, path: str, **body: Any) -> Any:
        response = self.post(path, **body)
        assert response.status_code == 200, response.text
        return response.json()

    def vectors(self, texts: list[str]) -> Any:
        data = self.answer("/v1/embeddings", model=NAME, input=texts)["data"]
        assert [item["index"] for item in data] == list(range(len(texts)))
        return np.array([item["embedding"] for item in data])


@pytest.fixture(scope="module")
def started(
    minilm: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Engine, list[str]]]:
    """A ready engine, and the answers of its readiness probe until then."""
    engine = Engine(tmp_path_factory.mktemp("engine"), minilm)
    try:
        yield engine, engine.until_ready()
    finally:
        engine.kill()


@pytest.fixture
def engine(started: tuple[Engine, list[str]]) -> Engine:
    return started[0]


def test_it_is_ready_after_the_first_embedding_and_not_before(
    started: tuple[Engine, list[str]],
) -> None:
    engine, answers = started
    assert answers[-1] == "200 ready"
    assert all(answer.startswith("503 ") for answer in answers[:-1])
    entered = [entry["phase"] for entry in engine.events("phase")]
    assert entered == ["resolving", "importing", "loading", "probing", "ready"]
    assert engine.metrics()[contract.REQUEST_SUCCESS] == 1
    assert engine.get(contract.LIVE_PATH).status_code == 200


def test_its_vectors_are_those_of_pytorch(engine: Engine) -> None:
    found = engine.vectors(TEXTS)
    assert np.abs(found - encoders.reference().vectors(TEXTS)).max() < CLOSE
    assert np.linalg.norm(found, axis=1) == pytest.approx(1, abs=1e-5)


def test_all_forms_of_an_input_give_the_same_vector(engine: Engine) -> None:
    text = TEXTS[0]
    ids = encoders.reference().tokenizer.encode(text).ids
    plain = engine.answer("/v1/embeddings", input=text)
    packed = engine.answer("/v1/embeddings", input=[text], encoding_format="base64")
    tokens = engine.answer("/v1/embeddings", input=ids, dimensions=384)
    vector = np.array(plain["data"][0]["embedding"], np.float32)
    raw = base64.b64decode(packed["data"][0]["embedding"])
    assert np.array_equal(np.frombuffer(raw, "<f4"), vector)
    assert np.array_equal(np.array(tokens["data"][0]["embedding"], np.float32), vector)
    assert plain["usage"]["prompt_tokens"] == len(ids)


async def test_concurrent_requests_share_batches_and_get_the_same_numbers(engine: Engine) -> None:
    texts = [f"{word} " * (1 + index % 7) for index, word in enumerate(["cat", "sea"] * 32)]
    alone = encoders.reference().vectors(texts)
    before = engine.metrics()

    async def ask(client: httpx.AsyncClient, text: str) -> Any:
        response = await client.post(
            f"{engine.api}/v1/embeddings", json={"model": NAME, "input": text}
        )
        return response.json()["data"][0]["embedding"]

    limits = httpx.Limits(max_connections=32)
    async with httpx.AsyncClient(timeout=60, limits=limits) as client:
        together = await asyncio.gather(*(ask(client, text) for text in texts))
    after = engine.metrics()
    assert np.abs(np.array(together) - alone).max() < CLOSE
    batches = (
        after["vllm:iteration_tokens_total_count"] - before["vllm:iteration_tokens_total_count"]
    )
    assert batches < len(texts) / 2
    assert after[contract.REQUEST_SUCCESS] - before[contract.REQUEST_SUCCESS] == len(texts)


@pytest.mark.parametrize("path", openai.RERANKS)
def test_an_encoder_ranks_by_the_likeness_of_its_vectors(engine: Engine, path: str) -> None:
    query, documents = TEXTS[2], TEXTS[:2]
    found = engine.answer(path, model=NAME, query=query, documents=documents, top_n=1)
    vectors = encoders.reference().vectors([query, *documents])
    (best,) = found["results"]
    assert best["index"] == 0
    assert best["document"] == {"text": documents[0]}
    assert best["relevance_score"] == pytest.approx(float(vectors[0] @ vectors[1]), abs=CLOSE)


@pytest.mark.parametrize("path", openai.SCORES)
def test_an_encoder_scores_one_text_against_many_or_each_against_its_own(
    engine: Engine, path: str
) -> None:
    first, second = TEXTS[:2], TEXTS[1:3]
    left, right = encoders.reference().vectors(first), encoders.reference().vectors(second)
    for text_1, expected in ((first, (left * right).sum(axis=1)), (first[0], right @ left[0])):
        data = engine.answer(path, model=NAME, text_1=text_1, text_2=second)["data"]
        assert [item["score"] for item in data] == pytest.approx(expected.tolist(), abs=CLOSE)


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        ("/v1/embeddings", {"input": []}, 400, "input: "),
        ("/v1/embeddings", {}, 400, "input: Field required"),
        ("/v1/embeddings", {"input": "x", "model": "other"}, 404, "`other` does not exist"),
        ("/v1/embeddings", {"input": "x", "dimensions": 8}, 400, "dimensions: "),
        ("/v1/embeddings", {"input": [30522]}, 400, "30522 is not a token"),
        (
            "/v1/embeddings",
            {"input": "x " * 255},
            400,
            "has 257 tokens, and the model accepts 1 to 256",
        ),
        ("/v1/rerank", {"query": "x", "documents": []}, 400, "documents: "),
        (
            "/classify",
            {"input": "x"},
            400,
            "minilm is an encoder and does not serve /classify. Use /v1/embeddings or",
        ),
        ("/v1/completions", {"prompt": "x"}, 404, "There is no route /v1/completions."),
    ],
)
def test_what_cannot_be_answered_is_refused_in_openais_form(
    engine: Engine, path: str, body: dict[str, Any], status: int, message: str
) -> None:
    response = engine.post(path, **body)
    assert response.status_code == status
    assert message in response.json()["error"]["message"]
    assert response.json()["error"]["code"] == status


def test_a_long_text_is_cut_when_the_client_says_so(engine: Engine) -> None:
    found = engine.answer("/v1/embeddings", input="x " * 300, truncate_prompt_tokens=-1)
    assert found["usage"]["prompt_tokens"] == 256


def test_it_tells_its_model(engine: Engine) -> None:
    (model,) = httpx.get(f"{engine.api}/v1/models", timeout=10).json()["data"]
    assert (model["id"], model["max_model_len"]) == (NAME, 256)
    assert httpx.get(f"{engine.api}/v1/models/{NAME}", timeout=10).json() == model
    unknown = httpx.get(f"{engine.api}/v1/models/other", timeout=10)
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, 404)
    assert httpx.get(f"{engine.api}/health", timeout=10).status_code == 200


def test_its_status_tells_versions_and_the_provider(engine: Engine) -> None:
    status = engine.get(contract.STATUS_PATH).json()
    assert status["phase"] == "ready"
    assert status["task"] == "embed"
    assert status["maxModelLength"] == 256
    assert status["versions"]["onnxruntime"].startswith("1.")
    assert status["providers"] == {
        "wanted": [providers.CPU],
        "used": [providers.CPU],
        "missing": [],
    }


def test_it_exports_vllms_metrics_and_its_own(engine: Engine) -> None:
    before = engine.metrics()
    tokens = engine.answer("/v1/embeddings", input=TEXTS[:3])["usage"]["prompt_tokens"]
    after = engine.metrics()
    assert after[contract.PROMPT_TOKENS] - before[contract.PROMPT_TOKENS] == tokens
    assert after[f"{contract.E2E}_count"] - before[f"{contract.E2E}_count"] == 1
    assert after[contract.RUNNING] == after[contract.WAITING] == 0
    assert after[contract.PROVIDER_INFO] == 1
    assert after[contract.PROVIDER_FALLBACK] == 0
    assert after[contract.IN_FLIGHT] == after[contract.DRAINING] == after[contract.QUEUED] == 0
    assert after[contract.REFUSED] == before[contract.REFUSED]


async def test_sigterm_finishes_what_is_in_flight_and_refuses_the_rest(engine: Engine) -> None:
    api, management = engine.api, engine.management
    much = {"model": NAME, "input": ["one two three " * 70] * 32}
    async with httpx.AsyncClient(timeout=90) as client:
        running = [
            asyncio.create_task(client.post(f"{api}/v1/embeddings", json=much)) for _ in range(2)
        ]
        async with asyncio.timeout(HANG_SECONDS):
            while engine.metrics()[contract.IN_FLIGHT] < 2:  # noqa: ASYNC110 (of another process)
                await asyncio.sleep(0.01)
        engine.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(HANG_SECONDS):
            while (await client.get(management + contract.READY_PATH)).text != "draining\n":
                pass
        refused = await client.post(f"{api}/v1/embeddings", json={"input": "x"})
        assert (await client.get(management + contract.LIVE_PATH)).status_code == 200
        finished = await asyncio.gather(*running)
    assert refused.status_code == 503
    assert refused.headers["retry-after"] == "1"
    assert [len(answer.json()["data"]) for answer in finished] == [32, 32]
    assert engine.exit_code() == 0
    assert not engine.termination_log.exists()
    assert [entry["phase"] for entry in engine.events("phase")][-2:] == ["draining", "stopped"]


@pytest.fixture
def classifier(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[tuple[Engine, Path]]:
    """A ready engine with a tiny random classifier of the labels asked for, and that model for PyTorch."""
    source, model = tmp_path / "source", tmp_path / "model"
    encoders.write_classifier(source, labels=request.param)
    export.export(source, model)
    engine = Engine(tmp_path, model)
    try:
        engine.until_ready()
        yield engine, source
    finally:
        engine.kill()


@pytest.mark.parametrize("classifier", [["no", "maybe", "yes"]], indirect=True)
def test_a_classifier_gives_pytorchs_probabilities(classifier: tuple[Engine, Path]) -> None:
    engine, source = classifier
    expected = encoders.Reference(source).logits(TEXTS[:3]).softmax(1).numpy()
    data = engine.answer("/classify", model=NAME, input=TEXTS[:3])["data"]
    assert np.abs(np.array([item["probs"] for item in data]) - expected).max() < CLOSE
    labels = ["no", "maybe", "yes"]
    assert [item["label"] for item in data] == [labels[row.argmax()] for row in expected]
    assert {item["num_classes"] for item in data} == {3}
    assert engine.post("/v1/embeddings", input="x").status_code == 400


@pytest.mark.parametrize("classifier", [["relevant"]], indirect=True)
def test_a_reranker_gives_pytorchs_scores_of_pairs(classifier: tuple[Engine, Path]) -> None:
    engine, source = classifier
    documents = TEXTS[:3]
    pairs = [("cats and dogs", text) for text in documents]
    expected = encoders.Reference(source).logits(pairs).sigmoid().numpy()[:, 0]
    found = engine.answer("/v1/rerank", query="cats and dogs", documents=documents)["results"]
    scores = {item["index"]: item["relevance_score"] for item in found}
    assert [scores[index] for index in range(3)] == pytest.approx(expected.tolist(), abs=CLOSE)
    assert [item["relevance_score"] for item in found] == sorted(scores.values(), reverse=True)
    data = engine.answer("/v1/score", text_1="cats and dogs", text_2=documents)["data"]
    assert [item["score"] for item in data] == pytest.approx(expected.tolist(), abs=CLOSE)


def test_a_model_that_is_not_exported_is_told_in_the_termination_log(tmp_path: Path) -> None:
    engine = Engine(tmp_path, encoders.SOURCE)
    assert engine.exit_code() == 1
    assert "has neither model.onnx nor onnx/model.onnx" in engine.termination_log.read_text()
    assert [entry["phase"] for entry in engine.events("phase")] == ["resolving", "failed"]


def test_a_gpu_service_is_not_run_on_the_cpu(
    minilm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = tmp_path / "driver"
    driver.mkdir()
    drivers.compiled(driver)
    monkeypatch.setenv("LD_LIBRARY_PATH", str(driver))
    engine = Engine(tmp_path, minilm, device="cuda")
    assert engine.exit_code() == 2
    assert "would run on the CPU of a GPU node" in engine.termination_log.read_text()


def test_a_graph_that_cannot_be_loaded_is_told(minilm: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    for name in ("config.json", "tokenizer.json"):
        (model / name).write_bytes((minilm / name).read_bytes())
    (model / "model.onnx").write_bytes(b"not a graph")
    engine = Engine(tmp_path, model)
    assert engine.exit_code() == 1
    assert "ONNX Runtime can't load it" in engine.termination_log.read_text()


def test_an_export_keeps_what_tells_how_to_use_the_model(minilm: Path) -> None:
    found = exported.load(minilm, uri="file:///m", max_length=None)
    assert (found.reading.pooling, found.reading.normalize, found.max_length) == ("mean", True, 256)
    assert json.loads((minilm / "config.json").read_text())["architectures"] == ["BertModel"]


KEY = "a-key-of-the-team"


@pytest.fixture
def limited(minilm: Path, tmp_path: Path) -> Iterator[Engine]:
    """A ready engine with a key, and room for one request that runs and none that waits."""
    keys = tmp_path / "keys"
    keys.mkdir()
    (keys / "team").write_text(KEY)
    limits = {"maxPromptTokens": 100, "concurrency": 1, "queue": 0}
    engine = Engine(tmp_path, minilm, limits=limits, apiKeys=str(keys))
    try:
        engine.until_ready()
        yield engine
    finally:
        engine.kill()


async def test_it_keeps_the_services_limits_and_asks_for_a_key(limited: Engine) -> None:
    much = {"input": ["one two three " * 30] * 64}
    async with httpx.AsyncClient(base_url=limited.api, timeout=60) as client:
        stranger = await client.post("/v1/embeddings", json={"input": "x"})
        assert (await client.get("/v1/models")).status_code == 401
        assert (await client.get("/health")).status_code == 200
        client.headers["authorization"] = f"Bearer {KEY}"
        assert (await client.get("/v1/models")).status_code == 200
        long = await client.post("/v1/embeddings", json={"input": ["x", "x " * 99]})
        cut = {"input": "x " * 99, "truncate_prompt_tokens": 100}
        assert (await client.post("/v1/embeddings", json=cut)).status_code == 200
        burst = await asyncio.gather(*(client.post("/v1/embeddings", json=much) for _ in range(4)))
    assert stranger.status_code == 401
    assert stranger.headers["www-authenticate"] == "Bearer"
    assert long.status_code == 413
    assert "has 101 tokens, and this service allows 100" in long.json()["error"]["message"]
    assert sorted(answer.status_code for answer in burst) == [200, 429, 429, 429]
    full = next(answer for answer in burst if answer.status_code == 429)
    assert full.headers["retry-after"] == "1"
    assert full.json()["error"]["type"] == "RateLimitError"
    assert limited.metrics()[contract.REFUSED] == 2 + 1 + 3
