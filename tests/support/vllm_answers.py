"""Right answers to held-out questions by the real vLLM, for several checkpoints in one process.

Reads lines with a list of folders. Answers each with a line: folder -> right answers by task, or the error with which
vLLM refuses the checkpoint.
"""

import json
import os
import sys
from typing import Any

from dev.models import heldout, score


def _answers(folder: str, items: list[dict[str, str]]) -> dict[str, Any]:
    from vllm import LLM, SamplingParams

    try:
        model = LLM(
            folder,
            dtype="bfloat16",
            enforce_eager=True,
            kv_cache_memory_bytes=64 << 20,
            distributed_executor_backend="uni",
            max_model_len=512,
        )
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}
    chats: Any = [[{"role": "user", "content": item["prompt"]}] for item in items]
    options = SamplingParams(temperature=0, max_tokens=score.LONGEST)
    outputs = model.chat(chats, options, use_tqdm=False)
    right = score.tally(items, [output.outputs[0].text for output in outputs])
    cache = model.llm_engine.vllm_config.cache_config.cache_dtype
    return {"right": {task: count for task, (count, _) in right.items()}, "kvCache": cache}


def main() -> None:
    """Answer lines until the input ends. Output of vLLM goes to stderr."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    items = heldout.read()
    for line in sys.stdin:
        found = {folder: _answers(folder, items) for folder in json.loads(line)}
        out.write(json.dumps(found) + "\n")
        out.flush()


if __name__ == "__main__":
    main()
