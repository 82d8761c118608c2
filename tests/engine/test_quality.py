"""The quality of answers of the trained models, asked through the real vLLM and loaded into the process."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dev import waiting
from dev.models import heldout
from tests.support import engines
from tests.support.engines import NAME, Engine

MODELS = Path("dev/models").absolute()
COMMAND = [sys.executable, "-m", "slipstream_runtime.evaluate", "quality"]


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    with engines.serving(
        tmp_path_factory.mktemp("target"), engines.config(f"file://{MODELS / 'target'}")
    ) as engine:
        yield engine


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Held-out questions, the same as choices, and as texts."""
    lines: list[dict[str, Any]] = []
    for item in heldout.read()[::2]:
        lines.append({"prompt": item["prompt"], "reference": item["answer"], "slice": item["task"]})
    asked = heldout.read()[:80]
    others = [item["answer"] for item in asked]
    for number, item in enumerate(asked):
        wrong = next(a for a in others[number:] + others if a != item["answer"])
        choices = [item["answer"], wrong][:: 1 if number % 2 else -1]
        lines.append({"prompt": item["prompt"], "choices": choices, "reference": item["answer"]})
    lines += [{"text": f"{item['prompt']} {item['answer']}"} for item in heldout.read()[:120]]
    path = tmp_path_factory.mktemp("data") / "items.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def write(folder: Path, items: Path, **more: Any) -> Path:
    metrics = ["ExactMatch", "Choice", "Perplexity", "Agreement"]
    config = {
        "metrics": [{"name": name, "maxRegression": 0.05} for name in metrics],
        "maxTokens": 64,
        "output": str(folder / "out"),
    }
    file = folder / "quality.json"
    file.write_text(json.dumps({"dataset": {"uri": str(items)}} | config | more))
    return file


def environment() -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}


def evaluate(file: Path, *, status: int) -> dict[str, Any]:
    done = subprocess.run(
        [*COMMAND, "--config", file, "--cache", file.parent / "cache", "-o", "json"],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == status, done.stdout + done.stderr[-4000:]
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def by_metric(report: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {entry["metric"]: entry for entry in report["metrics"]}


def test_an_engine_answers_as_the_checkpoint_that_it_serves(
    target: Engine, dataset: Path, tmp_path: Path
) -> None:
    report = evaluate(
        write(
            tmp_path,
            dataset,
            candidate={"url": target.api, "model": NAME},
            baseline={"path": str(MODELS / "target")},
        ),
        status=0,
    )
    assert report["verdict"] == "Passed"
    found = by_metric(report)
    assert found["ExactMatch"]["score"]["estimate"] >= 0.98
    assert found["Choice"]["score"]["estimate"] >= 0.9
    ours, theirs = found["Perplexity"]["score"], found["Perplexity"]["baseline"]
    assert ours["estimate"] == pytest.approx(theirs["estimate"], rel=0.02)
    assert found["Agreement"]["score"]["estimate"] >= 0.98
    assert found["Agreement"]["firstTokenKl"] < 0.01


def test_a_worse_model_fails_and_the_slice_that_it_lost_shows(
    target: Engine, dataset: Path, tmp_path: Path
) -> None:
    report = evaluate(
        write(
            tmp_path,
            dataset,
            candidate={"path": str(MODELS / "draft")},
            baseline={"url": target.api, "model": NAME},
        ),
        status=3,
    )
    slices = by_metric(report)["ExactMatch"]["slices"]
    worst = max(slices, key=lambda key: slices[key]["loss"]["estimate"])
    assert worst == "sum"
    assert slices["fact"]["loss"]["estimate"] == 0


def test_a_killed_run_asks_nothing_twice(target: Engine, dataset: Path, tmp_path: Path) -> None:
    file = write(
        tmp_path,
        dataset,
        candidate={"url": target.api, "model": NAME},
        metrics=[{"name": "ExactMatch"}],
        concurrency=1,
    )
    process = subprocess.Popen([*COMMAND, "--config", file], env=environment())

    def answers() -> int:
        return sum(
            line.strip() != ""
            for path in tmp_path.glob("out/*.jsonl")
            for line in path.read_text().splitlines()
        )

    try:
        waiting.until(lambda: answers() >= 20, seconds=120, what="20 answers")
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    kept = answers()
    before = target.metrics()["vllm:request_success_total"]
    report = evaluate(file, status=0)
    asked = target.metrics()["vllm:request_success_total"] - before
    questions = report["costs"]["candidate"]["requests"]
    assert kept < questions
    # NB: the engine may have answered one question that the killed run did not keep.
    assert questions - kept <= asked <= questions - kept + 1


def test_a_task_of_lm_evaluation_harness_runs_offline(target: Engine, tmp_path: Path) -> None:
    data = tmp_path / "heldout.jsonl"
    data.write_text("".join(json.dumps(item) + "\n" for item in heldout.read()[::5]))
    (tmp_path / "house.yaml").write_text(
        f"""
task: house
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
output_type: generate_until
doc_to_text: "{{{{prompt}}}}"
doc_to_target: "{{{{answer}}}}"
generation_kwargs: {{until: ["<|end|>"], max_gen_toks: 64}}
metric_list: [{{metric: exact_match}}]
"""
    )
    report = evaluate(
        write(
            tmp_path,
            data,
            dataset={"task": "house", "tasksFolder": str(tmp_path)},
            metrics=[],
            candidate={"url": target.api, "model": NAME},
            baseline={"path": str(MODELS / "draft")},
            maxRegression=0.01,
        ),
        status=0,
    )
    (metric,) = report["metrics"]
    assert metric["metric"] == "house/exact_match"
    assert metric["score"]["estimate"] == 1.0
    assert metric["baseline"]["estimate"] < 1.0
