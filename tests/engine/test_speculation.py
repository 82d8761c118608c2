"""An engine measures what its speculation gains by going without it now and then, and nobody notices.

The pairs are real: the trained target with its draft, with a draft that knows nothing, and a model that is its own
draft, whose every token is accepted unless the draft missed some tokens.
"""

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from dev import metrics
from dev.models import heldout
from slipstream_runtime import contract
from slipstream_runtime.engine import gain, windows
from tests.support import engines
from tests.support.engines import NAME, Engine

MODELS = Path("dev/models").absolute()
TOKENS = 4
AT_ONCE = 4
PLAIN = {"scheduler-cls": "vllm.v1.core.sched.scheduler.Scheduler"}
"""vLLM's own scheduler, so that there are no windows."""


def start(folder: Path, *, model: Path, draft: Path, arguments: Any = None) -> Iterator[Engine]:
    speculation = {"draft": f"file://{draft}", "tokens": TOKENS}
    config = engines.config(f"file://{model}", speculation=speculation, engineArgs=arguments or {})
    with engines.serving(folder, config) as engine:
        yield engine


@pytest.fixture(scope="module")
def sampled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    folder = tmp_path_factory.mktemp("sampled")
    yield from start(folder, model=MODELS / "target", draft=MODELS / "draft")


@pytest.fixture
def plain(tmp_path: Path) -> Iterator[Engine]:
    yield from start(tmp_path, model=MODELS / "target", draft=MODELS / "draft", arguments=PLAIN)


@pytest.fixture
def poor_draft(tmp_path: Path) -> Iterator[Engine]:
    engines.write_noise(tmp_path / "noise", like=MODELS / "draft")
    yield from start(tmp_path, model=MODELS / "target", draft=tmp_path / "noise")


@pytest.fixture
def certain(tmp_path: Path) -> Iterator[Engine]:
    model = tmp_path / "model"
    model.mkdir()
    engines.write_model(model)
    yield from start(tmp_path, model=model, draft=model)


def complete(engine: Engine, **more: object) -> str:
    body = {"model": NAME, "prompt": "What is 7 plus 4?", "temperature": 0, **more}
    answer = httpx.post(f"{engine.api}/v1/completions", json=body, timeout=120)
    text: str = answer.raise_for_status().json()["choices"][0]["text"]
    return text


def chat(engine: Engine, question: str) -> str:
    body = {
        "model": NAME,
        "messages": [{"role": "user", "content": question}],
        "temperature": 0,
        "max_tokens": 48,
    }
    answer = httpx.post(f"{engine.api}/v1/chat/completions", json=body, timeout=120)
    text: str = answer.raise_for_status().json()["choices"][0]["message"]["content"]
    return text


def series(engine: Engine, name: str, *labels: str) -> dict[tuple[str, ...], float]:
    text = engine.get(contract.METRICS_PATH).text
    return {
        tuple(sample.labels[label] for label in labels): sample.value
        for sample in metrics.samples(text, name)
    }


def steps(engine: Engine, speculation: str) -> float:
    found = series(engine, contract.SAMPLED_STEPS, "speculation", "batch")
    return sum(value for (mode, _), value in found.items() if mode == speculation)


def gained(engine: Engine) -> float:
    """The gain of decoding for one request at a time, once there is evidence."""
    windows_needed = gain.EVIDENCE // (windows.LENGTH - 2) + 1
    for _ in range(windows_needed * (windows.EARLY_GAP + windows.LENGTH) // 300 + 1):
        if found := engine.metrics().get(contract.SPECULATION_GAIN):
            return found
        complete(engine, max_tokens=1500, ignore_eos=True)
    pytest.fail("there was no gain after all the windows that it needs")


def test_answers_are_the_same_with_windows_and_without(sampled: Engine, plain: Engine) -> None:
    items = heldout.read()
    questions = [item["prompt"] for item in items]
    before = steps(sampled, "off")
    with ThreadPoolExecutor(AT_ONCE) as pool:
        answers = list(pool.map(lambda question: chat(sampled, question), questions))
        expected = list(pool.map(lambda question: chat(plain, question), questions))
    assert steps(sampled, "off") > before
    assert answers == expected
    right = sum(answer == item["answer"] for answer, item in zip(answers, items, strict=True))
    assert right >= 0.9 * len(items)
    found = sampled.metrics()
    assert found[contract.ACCEPTED_TOKENS] >= 0.4 * found[contract.DRAFT_TOKENS]
    assert not series(plain, contract.SAMPLED_STEPS, "speculation")


def test_answers_keep_their_form_through_a_window(sampled: Engine) -> None:
    form = r"[a-z]{40}-[0-9]{40}"
    ending = steps(sampled, "off") + windows.LENGTH
    with ThreadPoolExecutor(AT_ONCE) as pool:
        while steps(sampled, "off") < ending:
            several = [
                pool.submit(complete, sampled, max_tokens=200, structured_outputs={"regex": form})
                for _ in range(AT_ONCE)
            ]
            for one in several:
                assert re.fullmatch(form, one.result())


def test_a_draft_that_is_noise_loses_and_one_that_knows_the_model_gains_more(
    sampled: Engine, poor_draft: Engine
) -> None:
    # NB: whether the good one gains at all depends on what its steps cost on this processor.
    assert contract.SPECULATION_GAIN not in poor_draft.metrics()
    assert gained(poor_draft) < min(1.0, gained(sampled))
    made, tokens = (
        series(sampled, name, "speculation", "batch")["on", "1"]
        for name in (contract.SAMPLED_STEPS, contract.SAMPLED_TOKENS)
    )
    assert tokens > 2 * made


def test_a_draft_misses_nothing_in_a_window(certain: Engine) -> None:
    while steps(certain, "off") < 2 * (windows.LENGTH - 2):
        complete(certain, max_tokens=900, ignore_eos=True)
    found = certain.metrics()
    assert found[contract.ACCEPTED_TOKENS] / found[contract.DRAFT_TOKENS] > 0.99


def test_the_counters_agree_with_each_other(sampled: Engine) -> None:
    labels = ("speculation", "batch")
    made, tokens, seconds = (
        series(sampled, name, *labels)
        for name in (contract.SAMPLED_STEPS, contract.SAMPLED_TOKENS, contract.SAMPLED_SECONDS)
    )
    assert made.keys() == tokens.keys() == seconds.keys()
    assert tokens["off", "1"] == made["off", "1"]
    for (mode, batch), emitted in tokens.items():
        most = 1 if mode == "off" else 1 + TOKENS
        assert emitted <= most * int(batch) * made[mode, batch]
        assert seconds[mode, batch] > 0
