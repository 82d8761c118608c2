"""Settings that only a real vLLM can prove: a sliding window, speculation without a draft, other arguments, TLS."""

import json
import ssl
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from slipstream_runtime import contract
from tests.support import engines
from tests.support.certificates import Authority
from tests.support.engines import NAME, Engine

WINDOW = 16
AUTHORITY = Authority()
TRUSTED = ssl.create_default_context(cadata=AUTHORITY.pem.decode())


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """A model that was made with a window of 512 tokens, served with one of 16."""
    model = tmp_path_factory.mktemp("model")
    engines.write_model(model)
    file = model / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "sliding_window": 512}))
    config = engines.config(
        f"file://{model}",
        attention={"slidingWindow": WINDOW, "backend": "CPU_ATTN"},
        speculation={"method": "ngram", "tokens": 3},
        certificate=str(AUTHORITY.fill(tmp_path_factory.mktemp("secret"), "127.0.0.1")),
        engineArgs={"max-num-seqs": 3, "async-scheduling": False, "max-logprobs": 5},
    )
    with engines.serving(tmp_path_factory.mktemp("engine"), config) as started:
        yield started


def complete(engine: Engine, **fields: Any) -> Any:
    """The answer to a completion, by TLS."""
    answer = httpx.post(
        f"https://127.0.0.1:{engine.port('api')}/v1/completions",
        json={"model": NAME, "temperature": 0, **fields},
        timeout=60,
        verify=TRUSTED,
    )
    return answer.raise_for_status().json()


def following(engine: Engine, prompt: str) -> list[float]:
    """Log-probabilities of the likeliest next tokens."""
    answer = complete(engine, prompt=prompt, max_tokens=1, logprobs=5)
    (top,) = answer["choices"][0]["logprobs"]["top_logprobs"]
    return sorted(top.values())


def test_nothing_outside_the_windows_is_seen(engine: Engine) -> None:
    seen = "x" * (2 * WINDOW)  # two layers look back two windows
    one, other = (following(engine, first * 64 + seen) for first in "ab")
    assert one == pytest.approx(other, abs=1e-5)
    near, far = (following(engine, first * 64 + "x" * (WINDOW // 2)) for first in "ab")
    assert near != pytest.approx(far, abs=1e-3)


def test_the_engine_was_started_with_all_of_it(engine: Engine) -> None:
    words = " ".join(engine.get(contract.STATUS_PATH).json()["arguments"])
    assert words.endswith("--no-async-scheduling --max-logprobs=5 --max-num-seqs=3")
    complete(engine, prompt="one two " * 8, max_tokens=32)
    assert engine.metrics()[contract.DRAFT_TOKENS] > 0


def test_an_engine_with_a_certificate_serves_no_plain_http(engine: Engine) -> None:
    with pytest.raises(httpx.TransportError):
        httpx.get(f"{engine.api}/v1/models", timeout=60)
