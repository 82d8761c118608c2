"""What an engine is asked before it is Ready, and which answers count."""

import io
import json
import wave
from typing import Any

import pytest

from slipstream_runtime.engine import probes
from slipstream_runtime.engine.config import EngineConfig
from slipstream_runtime.host import probe

BASE: dict[str, Any] = {"model": {"uri": "file:///m", "name": "m"}, "drainSeconds": 60}


def asked(*tasks: str, **parts: Any) -> list[probe.Probe]:
    return probes.build(EngineConfig.model_validate({**BASE, **parts}), tasks=tasks)


@pytest.mark.parametrize(
    ("parts", "tokens"), [({}, 2), ({"speculation": {"draft": "file:///d", "tokens": 3}}, 5)]
)
def test_the_completion_is_long_enough_for_the_draft(parts: dict[str, Any], tokens: int) -> None:
    (completion, *_) = asked("generate", **parts)
    assert (completion.path, completion.body["max_tokens"]) == ("/v1/completions", tokens)


def test_an_adapter_is_probed_by_its_own_name() -> None:
    config = EngineConfig.model_validate(BASE)
    probe = probes.of_adapter("sql", config, tasks=("generate",))
    assert (probe.what, probe.body["model"]) == ("a completion of adapter sql", "sql")


@pytest.mark.parametrize(
    ("task", "paths"),
    [
        ("embed", ["/v1/embeddings"]),
        ("classify", ["/classify", "/v1/rerank"]),
        ("token_classify", ["/pooling"]),
        ("token_embed", ["/pooling"]),
        ("transcription", ["/v1/audio/transcriptions"]),
    ],
)
def test_each_task_is_probed_by_a_request_that_clients_may_send(
    task: str, paths: list[str]
) -> None:
    found = asked(task)
    assert [one.path for one in found] == paths
    assert {one.body["model"] for one in found} == {"m"}


def test_a_classifier_of_several_labels_is_not_asked_for_a_ranking() -> None:
    found = probes.build(
        EngineConfig.model_validate(BASE), tasks=("classify",), paths={"/classify", "/pooling"}
    )
    assert [one.path for one in found] == ["/classify"]


def test_every_task_of_vllm_has_a_probe_or_a_reason() -> None:
    tasks = pytest.importorskip("vllm.tasks")
    every = {*tasks.GENERATION_TASKS, *tasks.POOLING_TASKS, *tasks.FRONTEND_TASKS}
    assert {task for task in every if not asked(task)} == probes.UNPROBED.keys()


def test_speech_is_probed_with_a_file() -> None:
    (spoken,) = asked("transcription")
    assert spoken.file is not None
    with wave.open(io.BytesIO(spoken.file)) as file:
        assert (file.getframerate(), file.getnframes()) == (16_000, 4_000)
    assert probe.fault(spoken, 200, b'{"text": ""}') is None
    assert probe.fault(spoken, 200, b"{}") == "the answer has no text"


def test_a_form_of_the_answers_is_proved_beside_a_free_answer() -> None:
    free, formed = asked("generate", output={"schema": '{"type": "object"}'})
    assert "structured_outputs" not in free.body
    assert formed.body["structured_outputs"] == {"json": {"type": "object"}}
    assert "ignore_eos" not in formed.body


@pytest.mark.parametrize("parts", [{}, {"output": {"stop": ["x"]}}])
def test_a_json_schema_is_proved_where_the_service_has_no_form(parts: dict[str, Any]) -> None:
    _, formed = asked("generate", **parts)
    assert formed.body["structured_outputs"]["json"]["type"] == "object"


@pytest.mark.parametrize(
    ("task", "status", "body", "fault"),
    [
        ("generate", 200, {"usage": {"completion_tokens": 2}}, None),
        ("embed", 200, {"data": [{"embedding": [0.1]}]}, None),
        ("embed", 200, {"data": []}, "the answer has no data"),
        ("generate", 200, {"usage": {"completion_tokens": 0}}, "the answer has no tokens"),
        ("generate", 200, {}, "the answer has no tokens"),
        ("generate", 500, {"error": 1}, 'status 500: {"error": 1}'),
    ],
)
def test_only_a_real_answer_counts(
    task: str, status: int, body: dict[str, Any], fault: str | None
) -> None:
    assert probe.fault(asked(task)[0], status, json.dumps(body).encode()) == fault


def test_an_answer_that_is_no_json_does_not_count() -> None:
    assert probe.fault(asked("generate")[0], 200, b"<html>") == "the answer is not JSON"
