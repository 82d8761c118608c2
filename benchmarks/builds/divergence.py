"""Mean divergence of checkpoints from their source: `python -m benchmarks.builds.divergence SOURCE CHECKPOINT...`.

It runs in the builder's environment, over every token of the right answers to the held-out questions, and prints JSON.
"""

import json
import sys
from typing import Any

import torch
import transformers

from benchmarks.builds import lab

BATCH = 100


@torch.inference_mode()
def _answers(folder: str) -> list[torch.Tensor]:
    """Return the logarithms of the probabilities at every token of each answer."""
    tokenizer: Any = transformers.AutoTokenizer.from_pretrained(folder, padding_side="left")
    model: Any = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
    model.eval()
    items, found = lab.questions(), []
    for at in range(0, len(items), BATCH):
        part = items[at : at + BATCH]
        chats = [
            [
                {"role": "user", "content": item["prompt"]},
                {"role": "assistant", "content": item["answer"]},
            ]
            for item in part
        ]
        batch = tokenizer.apply_chat_template(
            chats, padding=True, return_tensors="pt", return_dict=True
        )
        logits = model(**batch).logits.float().log_softmax(-1)
        for row, item in zip(logits, part, strict=True):
            # NB: the end of the answer is a token, too.
            tokens = len(tokenizer(item["answer"])["input_ids"]) + 1
            found.append(row[-tokens - 1 : -1].clone())
    return found


def _divergence(wanted: list[torch.Tensor], found: list[torch.Tensor]) -> float:
    each = [(a.exp() * (a - b)).sum(-1) for a, b in zip(wanted, found, strict=True)]
    return float(torch.cat(each).mean())


def main() -> None:
    """Print the divergence of each checkpoint, in their order."""
    torch.set_num_threads(1)
    source, *others = sys.argv[1:]
    wanted = _answers(source)
    print(json.dumps([_divergence(wanted, _answers(folder)) for folder in others]))


if __name__ == "__main__":
    main()
