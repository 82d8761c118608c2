"""Answers of the real vLLM, in a process of its own: its warnings and its globals stay there."""

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from dev.errors import DevError

_SERVE = """
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
_RUNTIME = Path(__file__).parents[2] / "runtime"


def answers(prompts: Iterable[str], *, threads: int = 2, **options: object) -> list[str]:
    """Answer greedily, with these arguments of vLLM; DevError with its last lines if it fails."""
    done = subprocess.run(
        [sys.executable, "-c", _SERVE, json.dumps(options)],
        input=json.dumps(list(prompts)),
        env=os.environ
        | {
            "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
            "OMP_NUM_THREADS": str(threads),
            "PYTHONPATH": str(_RUNTIME),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise DevError(f"vLLM ended with {done.returncode}: {done.stderr[-4000:]}")
    found: list[str] = json.loads(done.stdout.splitlines()[-1])
    return found
