"""The committed weights answer held-out questions, in PyTorch and quantized in vLLM."""

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
    kv_cache_memory_bytes=67108864,
    worker_cls="slipstream_runtime.engine.worker.CPUWorker", **options,
)
chats = [[{"role": "user", "content": prompt}] for prompt in prompts]
outputs = llm.chat(chats, SamplingParams(temperature=0, max_tokens=64), use_tqdm=False)
print(json.dumps([output.outputs[0].text for output in outputs]))
"""


def serve(items: list[dict[str, str]], **options: object) -> list[str]:
    """Answer in a vLLM of its own process, with our worker: its warnings and its globals stay there."""
    pytest.importorskip("vllm")
    env = os.environ | {
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "OMP_NUM_THREADS": "2",
        "PYTHONPATH": str(MODELS.parents[1] / "runtime"),
    }
    done = subprocess.run(
        [sys.executable, "-c", SERVE, json.dumps(options)],
        input=json.dumps([item["prompt"] for item in items]),
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    answers: list[str] = json.loads(done.stdout.splitlines()[-1])
    return answers


def test_the_committed_weights_answer_held_out_questions() -> None:
    counts = score.score(MODELS / "target", items=heldout.read())
    assert all(right / asked >= 0.9 for right, asked in counts.values()), counts


def test_vllm_serves_the_target_in_int8() -> None:
    """The draft and fp8 are measured where an engine of ours has them."""
    items = heldout.read()[::2]
    # NB: vLLM refuses int8 of float32 on CPUs that have AMX.
    answers = serve(items, model=str(MODELS / "target-w8a8"), dtype="bfloat16")
    right, asked = score.tally(items, answers)["all"]
    assert right / asked >= 0.9
