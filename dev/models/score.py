"""Score the committed weights on the held-out questions: `python -m dev.models.score`."""

import json
from collections import Counter
from pathlib import Path

import click
import torch
from rich.console import Console
from rich.table import Table
from transformers import LlamaForCausalLM

from dev.models import heldout, tokenizer

HERE = Path(__file__).parent
SOLVERS = ("solver", "solver-draft")
"""Models of the harder language."""
MODELS = ("target", "draft", "target-w8a8")
PUZZLES = HERE / "puzzles-heldout.jsonl"
LONGEST = 64
Counts = dict[str, tuple[int, int]]


def tally(items: list[dict[str, str]], answers: list[str]) -> Counts:
    """Right answers and questions for each task, and for all."""
    right: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for item, answer in zip(items, answers, strict=True):
        for task in (item["task"], "all"):
            total[task] += 1
            right[task] += answer == item["answer"]
    return {task: (right[task], total[task]) for task in total}


@torch.inference_mode()
def score(folder: Path, *, items: list[dict[str, str]]) -> Counts:
    """Answer greedily with transformers, all questions in one batch."""
    tokens = tokenizer.load(folder)
    tokens.padding_side = "left"
    model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    chats = [[{"role": "user", "content": item["prompt"]}] for item in items]
    batch = tokens.apply_chat_template(
        chats,
        add_generation_prompt=True,
        padding=True,
        return_tensors="pt",
        return_dict=True,
    )
    ids = model.generate(
        input_ids=batch["input_ids"],
        attention_mask=batch["attention_mask"],
        max_new_tokens=LONGEST,
        do_sample=False,
    )
    new = ids[:, batch["input_ids"].shape[1] :]
    return tally(items, tokens.batch_decode(new, skip_special_tokens=True))


def table(scores: dict[str, Counts]) -> Table:
    """One row a model, one column a task."""
    tasks = list(next(iter(scores.values())))
    result = Table("model", *tasks, title="right answers to held-out questions")
    for name, counts in scores.items():
        result.add_row(name, *(f"{counts[t][0]}/{counts[t][1]}" for t in tasks))
    return result


@click.command()
@click.option("--model", "models", multiple=True, type=click.Path(exists=True, path_type=Path))
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table")
def main(*, models: tuple[Path, ...], output: str) -> None:
    """Score the given model folders, or every committed one, on the language of its name."""
    folders = models or tuple(HERE / name for name in (*MODELS, *SOLVERS))
    groups = {
        heldout.PATH: [folder for folder in folders if not folder.name.startswith("solver")],
        PUZZLES: [folder for folder in folders if folder.name.startswith("solver")],
    }
    results = [
        {folder.name: score(folder, items=heldout.read(path)) for folder in group}
        for path, group in groups.items()
        if group
    ]
    if output == "json":
        print(json.dumps({name: counts for scores in results for name, counts in scores.items()}))
        return
    for scores in results:
        Console().print(table(scores))


if __name__ == "__main__":
    main()
