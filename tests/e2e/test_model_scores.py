"""The committed weights answer held-out questions, and vLLM accepts what the draft proposes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dev.models import heldout

pytest.importorskip("transformers")
score = pytest.importorskip("dev.models.score")

MODELS = Path(score.__file__).parent
SERVE = """
import json, sys
from vllm import LLM, SamplingParams

options, prompts = json.loads(sys.argv[1]), json.load(sys.stdin)
llm = LLM(
    enforce_eager=True, max_model_len=1024, seed=0, max_num_seqs=64,
    kv_cache_memory_bytes=67108864, disable_log_stats=False,
    worker_cls="slipstream_runtime.engine.worker.CPUWorker", **options,
)
chats = [[{"role": "user", "content": prompt}] for prompt in prompts]
outputs = llm.chat(chats, SamplingParams(temperature=0, max_tokens=64), use_tqdm=False)
counters = {m.name: m.value for m in llm.get_metrics() if hasattr(m, "value")}
print(json.dumps({"answers": [o.outputs[0].text for o in outputs], "counters": counters}))
"""


def serve(items: list[dict[str, str]], **options: object) -> dict:
    """Answer in a vLLM of its own process, with our worker: its warnings and its globals stay there."""
    pytest.importorskip("vllm")
    env = os.environ | {
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "OMP_NUM_THREADS": "2",
        "PYTHONPATH": str(MODELS.parents[1] / "runtime"),
    }
    done = subprocess.run(
        [sys.executable, "-c", SERVE, json.dumps({"dtype": "float32"} | options)],
        input=json.dumps([item["prompt"] for item in items]),
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])


def share(items: list[dict[str, str]], answers: list[str]) -> float:
    right, asked = score.tally(items, answers)["all"]
    return right / asked


def test_the_committed_weights_answer_held_out_questions() -> None:
    counts = score.score(MODELS / "target", items=heldout.read())
    assert all(right / asked >= 0.9 for right, asked in counts.values()), counts


def test_vllm_accepts_the_draft_and_answers_right() -> None:
    items = heldout.read()[::2]
    result = serve(
        items,
        model=str(MODELS / "target"),
        speculative_config={
            "method": "draft_model",
            "model": str(MODELS / "draft"),
            "num_speculative_tokens": 3,
        },
    )
    counters = result["counters"]
    accepted = counters["vllm:spec_decode_num_accepted_tokens"]
    assert accepted / counters["vllm:spec_decode_num_draft_tokens"] >= 0.4
    assert share(items, result["answers"]) >= 0.9


@pytest.mark.parametrize(
    "options",
    [
        # NB: vLLM refuses fp8 of float32, and int8 of it on CPUs that have AMX.
        {"model": str(MODELS / "target-w8a8"), "dtype": "bfloat16"},
        {
            "model": str(MODELS / "target"),
            "quantization": "fp8_per_channel",
            "dtype": "bfloat16",
        },
    ],
    ids=["w8a8", "fp8_per_channel"],
)
def test_vllm_serves_the_target_quantised(options: dict[str, str]) -> None:
    items = heldout.read()[::2]
    assert share(items, serve(items, **options)["answers"]) >= 0.9
