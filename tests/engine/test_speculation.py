"""An engine chooses how many draft tokens it uses by what they gain, and its answers stay the same.

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
from slipstream_runtime.engine import windows
from tests.support import engines
from tests.support.engines import NAME, Engine

MODELS = Path("dev/models").absolute()
TOKENS = 4
AT_ONCE = 4
PLAIN = {"scheduler-cls": "vllm.v1.core.sched.scheduler.Scheduler"}
"""vLLM's own scheduler, so that the number never changes."""


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


def counted(engine: Engine, name: str, tokens: int) -> float:
    """The value over all batch sizes for steps with this many draft tokens."""
    found = series(engine, name, "tokens", "batch")
    return sum(value for (drafted, _), value in found.items() if drafted == str(tokens))


def drafted(engine: Engine) -> float:
    return engine.metrics()[contract.DRAFT_TOKENS]


def learn(engine: Engine, *, windows_needed: int) -> None:
    """Decode for one request at a time until so many windows with all draft tokens have passed."""
    steps = windows_needed * (windows.LENGTH - 1)
    for _ in range(20):
        if counted(engine, contract.SAMPLED_STEPS, TOKENS) >= steps and gained(engine) is not None:
            return
        complete(engine, max_tokens=900, ignore_eos=True)
    pytest.fail("the engine did not try its draft tokens")


def gained(engine: Engine) -> float | None:
    return series(engine, contract.SPECULATION_BATCH_GAIN, "batch").get(("1",))


def test_answers_are_the_same_with_any_number_of_draft_tokens(
    sampled: Engine, plain: Engine
) -> None:
    items = heldout.read()
    questions = [item["prompt"] for item in items]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        answers = list(pool.map(lambda question: chat(sampled, question), questions))
        expected = list(pool.map(lambda question: chat(plain, question), questions))
    assert counted(sampled, contract.SAMPLED_STEPS, 0) > 0
    assert counted(sampled, contract.SAMPLED_STEPS, TOKENS) > 0
    assert answers == expected
    right = sum(answer == item["answer"] for answer, item in zip(answers, items, strict=True))
    assert right >= 0.9 * len(items)
    found = sampled.metrics()
    assert found[contract.ACCEPTED_TOKENS] >= 0.4 * found[contract.DRAFT_TOKENS]
    assert not series(plain, contract.SAMPLED_STEPS, "tokens")


def test_answers_keep_their_form_while_the_number_changes(sampled: Engine) -> None:
    form = r"[a-z]{40}-[0-9]{40}"
    ending = drafted(sampled) + TOKENS * windows.LENGTH
    with ThreadPoolExecutor(AT_ONCE) as pool:
        while drafted(sampled) < ending:
            several = [
                pool.submit(complete, sampled, max_tokens=200, structured_outputs={"regex": form})
                for _ in range(AT_ONCE)
            ]
            for one in several:
                assert re.fullmatch(form, one.result())


def test_a_draft_that_is_noise_is_given_up_and_costs_nothing_then(poor_draft: Engine) -> None:
    assert contract.SPECULATION_GAIN not in poor_draft.metrics()
    learn(poor_draft, windows_needed=2)
    assert series(poor_draft, contract.SPECULATION_TOKENS, "batch")["1",] == 0
    assert gained(poor_draft) == 1.0
    seconds, drafting = (
        counted(poor_draft, name, 0)
        for name in (contract.SAMPLED_SECONDS, contract.SAMPLED_DRAFTING)
    )
    assert drafting < 0.05 * seconds
    with_draft, drafting = (
        counted(poor_draft, name, TOKENS)
        for name in (contract.SAMPLED_SECONDS, contract.SAMPLED_DRAFTING)
    )
    assert drafting > 0.2 * with_draft


def test_a_draft_reads_what_it_missed_before_it_drafts_again(certain: Engine) -> None:
    # NB: all its tokens are accepted, but they take as long as the model's own, so most steps go without.
    several = [f"{number} " * 80 for number in range(AT_ONCE)]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        while drafted(certain) < 1000 or counted(certain, contract.SAMPLED_STEPS, 0) < 200:
            for one in [
                pool.submit(complete, certain, prompt=prompt, max_tokens=300, ignore_eos=True)
                for prompt in several  # the prefix cache has them the second time
            ]:
                one.result()
    found = certain.metrics()
    assert found[contract.ACCEPTED_TOKENS] / found[contract.DRAFT_TOKENS] > 0.99


def test_the_counters_agree_with_each_other(sampled: Engine) -> None:
    labels = ("tokens", "batch")
    made, tokens, seconds = (
        series(sampled, name, *labels)
        for name in (contract.SAMPLED_STEPS, contract.SAMPLED_TOKENS, contract.SAMPLED_SECONDS)
    )
    assert made.keys() == tokens.keys() == seconds.keys()
    for (number, batch), emitted in tokens.items():
        assert emitted <= (1 + int(number)) * int(batch) * made[number, batch]
        assert seconds[number, batch] > 0
    chosen = series(sampled, contract.SPECULATION_TOKENS, "batch")
    assert {batch for _, batch in made} <= {batch for (batch,) in chosen}
    assert all(0 <= number <= TOKENS for number in chosen.values())
