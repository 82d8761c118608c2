"""Each task of vLLM beside text generation: a real engine becomes ready and serves the paths of its task."""

from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.support import task_models
from tests.support.engines import NAME, Engine, config

TEXT = "one two three"


def start(folder: Path, write: Callable[[Path], None]) -> Engine:
    model = folder / "model"
    model.mkdir()
    write(model)
    return Engine(folder, config(f"file://{model}"))


@pytest.fixture(scope="module")
def reranker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    engine = start(
        tmp_path_factory.mktemp("reranker"), lambda model: task_models.write_head(model, labels=1)
    )
    try:
        engine.until_ready()
        yield engine
    finally:
        engine.kill()


def post(engine: Engine, path: str, **body: object) -> httpx.Response:
    return httpx.post(engine.api + path, json={"model": NAME, **body}, timeout=60)


@pytest.mark.parametrize("path", ["/rerank", "/v1/rerank", "/v2/rerank"])
def test_a_reranker_ranks_documents(reranker: Engine, path: str) -> None:
    answer = post(reranker, path, query=TEXT, documents=["a", "b c", TEXT])
    results = answer.raise_for_status().json()["results"]
    scores = [result["relevance_score"] for result in results]
    assert len(scores) == 3
    assert scores == sorted(scores, reverse=True)


@pytest.mark.parametrize("path", ["/score", "/v1/score"])
def test_a_reranker_scores_pairs(reranker: Engine, path: str) -> None:
    answer = post(reranker, path, text_1=TEXT, text_2=["a", "b"])
    assert len(answer.raise_for_status().json()["data"]) == 2


def test_a_reranker_classifies_and_pools(reranker: Engine) -> None:
    (classified,) = post(reranker, "/classify", input=TEXT).raise_for_status().json()["data"]
    assert classified["num_classes"] == 1
    assert post(reranker, "/pooling", input=TEXT).raise_for_status().json()["data"]


def test_a_reranker_counts_tokens_and_shows_its_task(reranker: Engine) -> None:
    assert post(reranker, "/tokenize", prompt="abc").json()["count"] >= 3
    assert reranker.get("/status").json()["tasks"] == ["classify"]
    found = httpx.get(f"{reranker.api}/v1/models/{NAME}").raise_for_status().json()
    assert found["max_model_len"] == 1024
    assert httpx.get(f"{reranker.api}/v1/models/other").status_code == 404
    assert httpx.head(f"{reranker.api}/health").status_code == 200


def test_a_reranker_has_no_routes_of_other_tasks(reranker: Engine) -> None:
    for path in ("/v1/chat/completions", "/v1/messages", "/v1/embeddings", "/v1/responses"):
        answer = post(reranker, path, input=TEXT)
        assert (answer.status_code, "no route" in answer.text.lower()) == (404, True)


def test_a_reward_model_pools_each_token(tmp_path: Path) -> None:
    engine = start(tmp_path, task_models.write_reward)
    try:
        engine.until_ready()
        (pooled,) = post(engine, "/pooling", input="abc").raise_for_status().json()["data"]
        assert len(pooled["data"]) >= 3
        assert post(engine, "/classify", input=TEXT).status_code == 404
    finally:
        engine.kill()
