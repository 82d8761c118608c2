"""Numbers of draft tokens with vLLM's scheduler for GPUs, which orders a step while the one before it runs.

The scheduler and its KV cache manager are real. Only the model is not: it accepts every draft token, so that the
output tokens show how many tokens were drafted. Each step takes as long as the others.
"""

import itertools
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from slipstream_runtime.engine import gain, windows
from slipstream_runtime.engine.draft_lengths import group
from slipstream_runtime.engine.gain import Tally
from tests.support import engines

pytest.importorskip("vllm")
DRAFT_TOKENS, PROMPT, OUTPUT = 4, 20, 900

pytestmark = [
    pytest.mark.filterwarnings("default"),  # vLLM and torch warn at import
]


class Core:
    """The loop of vLLM's engine core with two steps in flight."""

    def __init__(self, scheduler: Any) -> None:
        self.scheduler = scheduler
        self.under_way: deque[Any] = deque()
        self.emitted: dict[str, int] = {}
        self.drafted: list[int] = []

    def submit(self, name: str) -> None:
        from vllm import SamplingParams
        from vllm.v1.request import Request

        parameters = SamplingParams(max_tokens=OUTPUT, ignore_eos=True, temperature=0)
        parameters.update_from_generation_config({}, None)
        self.scheduler.add_request(Request(name, list(range(5, 5 + PROMPT)), parameters, None))

    def run(self) -> None:
        while self.scheduler.has_requests() or self.under_way:
            if self.scheduler.has_requests():
                self.under_way.append(self.scheduler.schedule())
            if len(self.under_way) == 2 or not self.scheduler.has_requests():
                self._finish(self.under_way.popleft())

    def _finish(self, step: Any) -> None:
        from vllm.v1.outputs import ModelRunnerOutput

        names = list(step.num_scheduled_tokens)
        drafted = [len(step.scheduled_spec_decode_tokens.get(name, ())) for name in names]
        self.drafted += drafted
        output = ModelRunnerOutput(
            req_ids=names,
            req_id_to_index={name: place for place, name in enumerate(names)},
            sampled_token_ids=[[7] * (1 + number) for number in drafted],
        )
        for each in self.scheduler.update_from_output(step, output).values():
            for one in each.outputs:
                before = self.emitted.get(one.request_id, 0)
                self.emitted[one.request_id] = before + len(one.new_token_ids)


@pytest.fixture
def tally(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Tally]:
    file = tmp_path / "tally"
    monkeypatch.setenv(gain.TALLY_ENV, str(file))
    yield Tally.create(file, most=DRAFT_TOKENS)


@pytest.fixture
def core(tmp_path: Path, tally: Tally) -> Core:
    import torch
    from vllm.engine.arg_utils import EngineArgs
    from vllm.v1.kv_cache_interface import FullAttentionSpec, KVCacheConfig, KVCacheGroupSpec
    from vllm.v1.structured_output import StructuredOutputManager

    from slipstream_runtime.engine.scheduler import AsyncScheduler

    model = tmp_path / "model"
    model.mkdir()
    engines.write_model(model)
    config = EngineArgs(
        model=str(model),
        max_num_seqs=8,
        max_model_len=1024,
        enable_prefix_caching=False,
        speculative_config={
            "method": "draft_model",
            "model": str(model),
            "num_speculative_tokens": DRAFT_TOKENS,
        },
    ).create_engine_config()
    config.scheduler_config.async_scheduling = True  # vLLM has it switched off on CPU
    config.cache_config.num_gpu_blocks = 1000
    attention = FullAttentionSpec(block_size=16, num_kv_heads=2, head_size=32, dtype=torch.float32)
    cache = KVCacheConfig(1000, [], [KVCacheGroupSpec(["layer"], attention)])
    scheduler = AsyncScheduler(config, cache, StructuredOutputManager(config), 16)
    scheduler.clock = itertools.count().__next__  # each step takes as long as the others
    return Core(scheduler)


def test_an_engine_begins_without_draft_tokens_and_then_uses_those_that_gain(
    core: Core, tally: Tally
) -> None:
    for number in range(2):
        core.submit(f"early-{number}")
        core.run()
    assert core.emitted == {"early-0": OUTPUT, "early-1": OUTPUT}
    assert not any(core.drafted[: windows.LENGTH])
    assert tally.choices()[0] == (DRAFT_TOKENS, pytest.approx(1 + DRAFT_TOKENS, rel=0.01))
    late = core.drafted[-100:-2]
    assert late.count(DRAFT_TOKENS) >= 0.7 * len(late)  # the others are a window


def test_steps_are_counted_by_the_draft_tokens_that_they_verified(core: Core, tally: Tally) -> None:
    for number in range(2):
        core.submit(f"early-{number}")
        core.run()
    for drafted, (steps, tokens, seconds, _) in enumerate(tally.table[0]):
        assert tokens <= (1 + drafted) * steps
        assert seconds == pytest.approx(steps, abs=2)
    assert tally.table[0, 0, gain.STEPS] >= windows.LENGTH
    assert tally.table[0, 1, gain.STEPS] >= windows.LENGTH
    assert tally.table[0, DRAFT_TOKENS, gain.STEPS] > 100


def test_requests_that_run_together_are_a_batch_size_of_their_own(core: Core, tally: Tally) -> None:
    for wave in range(2):
        for number in range(4):
            core.submit(f"{wave}-{number}")
        core.run()
    assert set(core.emitted.values()) == {OUTPUT}
    assert tally.choices()[group(4)][0] == DRAFT_TOKENS
    assert not tally.table[group(1)].any()
