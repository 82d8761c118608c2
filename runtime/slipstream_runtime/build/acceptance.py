"""Accepted tokens of a draft, measured by the real engine: `python -m slipstream_runtime.build.acceptance`.

It runs in the engine's environment. Each draft has a process of its own, because vLLM frees its memory only at the
end of a process.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal

from slipstream_runtime import build_support, contract
from slipstream_runtime.build import shapes
from slipstream_runtime.errors import EngineError, UnsuitableError, one_line
from slipstream_runtime.evaluate.quality.items import Item

SEQUENCES: Final = 16
"""Questions that the engine answers at the same time. They don't change what a greedy draft gets accepted."""
_STEPS: Final = "vllm:spec_decode_num_drafts"
_LEAST_CACHE: Final = 64 << 20
"""Bytes of the smallest KV cache on CPUs; vLLM starts with 4 MiB."""
_SHOWN: Final = 800
"""Characters of the engine's last lines that an error shows."""


@dataclass(frozen=True, slots=True)
class Speculation:
    """Settings under which a draft is measured."""

    device: build_support.Device
    tokens: int = 3
    """Draft tokens in one step."""
    method: Literal["draft_model", "eagle3"] = "draft_model"
    max_tokens: int = 256
    """Longest answer, in tokens."""
    max_length: int = 4096
    """Tokens of the longest question with its answer."""
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Acceptance:
    """Counters of the engine for one draft."""

    steps: int
    """Steps in which the draft proposed tokens."""
    drafted: int
    accepted: int
    """Draft tokens that the target accepted, with those after the end of an answer, which are dropped."""
    tokens: int
    """Tokens of the answers, without the first of each, which comes before any draft."""

    @property
    def acceptance(self) -> float:
        """Share of the draft's tokens that the target accepted."""
        return self.accepted / self.drafted

    @property
    def tokens_per_step(self) -> float:
        """Tokens of the answers that one step of the target gives."""
        return self.tokens / self.steps


def measure(target: Path, draft: Path, items: Sequence[Item], settings: Speculation) -> Acceptance:
    """Let the target answer the questions greedily with this draft, in a process of its own.

    UnsuitableError if the dataset has no question; EngineError with the engine's last lines if it fails.
    """
    asked = [list(map(dict, item.conversation)) for item in items if item.asks]
    if not asked:
        raise UnsuitableError(
            "quality.dataset: has no questions. Give lines with prompt or messages to measure a draft."
        )
    order = {"target": str(target), "draft": str(draft), **asdict(settings), "questions": asked}
    with tempfile.TemporaryDirectory() as scratch:
        given, found = Path(scratch) / "order.json", Path(scratch) / "found.json"
        given.write_text(json.dumps(order))
        module = "slipstream_runtime.build.acceptance"
        command = [sys.executable, "-m", module, str(given), str(found)]
        environment = os.environ | {"VLLM_ENABLE_V1_MULTIPROCESSING": "0"}
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, errors="replace", check=False
        )
        if done.returncode or not found.exists():
            raise EngineError(
                f"vLLM could not run the draft: {one_line((done.stdout + done.stderr)[-_SHOWN:])}"
            )
        counters = Acceptance(**json.loads(found.read_text()))
    if not counters.drafted:
        raise UnsuitableError(
            "quality.dataset: its answers end before the draft proposes a token. Give questions with longer answers."
        )
    return counters


def _answer(order: dict[str, Any]) -> Acceptance:
    """Answer all questions in this process, and return the counters."""
    arguments = _arguments(order)
    import vllm  # noqa: PLC0415 (only the process that measures needs it, for many seconds)

    engine = vllm.LLM(**arguments)
    before = _counters(engine)
    sampling = vllm.SamplingParams(temperature=0, max_tokens=order["max_tokens"])
    if engine.get_tokenizer().chat_template:
        answers = engine.chat(order["questions"], sampling, use_tqdm=False)
    else:
        plain = ["\n".join(one["content"] for one in chat) for chat in order["questions"]]
        answers = engine.generate(plain, sampling, use_tqdm=False)
    after = _counters(engine)
    tokens = sum(len(answer.outputs[0].token_ids) - 1 for answer in answers)
    steps, drafted, accepted = (after[name] - before[name] for name in _COUNTERS)
    return Acceptance(steps=steps, drafted=drafted, accepted=accepted, tokens=tokens)


_COUNTERS: Final = (
    _STEPS,
    contract.DRAFT_TOKENS.removesuffix("_total"),
    contract.ACCEPTED_TOKENS.removesuffix("_total"),
)


def _counters(engine: Any) -> dict[str, int]:
    found = dict.fromkeys(_COUNTERS, 0)
    for metric in engine.get_metrics():
        if metric.name in found:
            found[metric.name] += metric.value
    return found


def _arguments(order: dict[str, Any]) -> dict[str, Any]:
    """Return vLLM's arguments."""
    config = json.loads((Path(order["target"]) / "config.json").read_text())
    length = min(
        order["max_length"], int(config.get("max_position_embeddings", order["max_length"]))
    )
    speculation = {"model": order["draft"], "num_speculative_tokens": order["tokens"]}
    arguments: dict[str, Any] = {
        "model": order["target"],
        "speculative_config": {**speculation, "method": order["method"]},
        "max_model_len": length,
        "max_num_seqs": SEQUENCES,
        "seed": order["seed"],
        "disable_log_stats": False,
        "enforce_eager": True,
    }
    if order["device"] == "cpu":
        arguments["kv_cache_memory_bytes"] = cache_bytes(config, length)
        arguments["worker_cls"] = "slipstream_runtime.engine.worker.CPUWorker"
    return arguments


def cache_bytes(config: dict[str, Any], length: int) -> int:
    """Return bytes of a KV cache for all sequences of target and draft: keys and values of 4 bytes in each layer."""
    sizes = shapes.shape(config)
    channels = sizes.head * sizes.key_value_heads
    return max(_LEAST_CACHE, 2 * 4 * 2 * sizes.layers * channels * length * SEQUENCES)


def main() -> None:
    """Read an order and write its counters: the two arguments are their files."""
    given, found = map(Path, sys.argv[1:])
    found.write_text(json.dumps(asdict(_answer(json.loads(given.read_text())))))


if __name__ == "__main__":
    main()
