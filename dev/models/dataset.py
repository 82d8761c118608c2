"""Batches to train on."""

import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from transformers import PreTrainedTokenizerFast

from dev.models import language
from dev.models.tokenizer import ASSISTANT, END, SYSTEM, USER

_SYSTEMS = (
    "You are a helpful assistant.",
    "Answer briefly.",
    "Be exact.",
    "You know every record.",
)
_MIX = {"fact": 2, "lookup": 3, "sum": 6, "json": 3}
_PROMPT_WEIGHT = 0.05


def conversation(rng: random.Random, *, longest: int) -> str:
    """A few turns of training questions, none too long, sometimes behind a system message."""
    items = []
    for task in rng.choices(list(_MIX), list(_MIX.values()), k=rng.choice((1, 1, 2))):
        item = language.draw(rng, task=task, held_out=False)
        while len(item.prompt) > longest:
            item = language.draw(rng, task=task, held_out=False)
        items.append(item)
        if task == "lookup":
            items += [language.follow_up(rng, item=item) for _ in range(rng.randrange(3))]
    text = SYSTEM + rng.choice(_SYSTEMS) if rng.random() < 0.15 else ""
    return text + "".join(f"{USER}{i.prompt}{ASSISTANT}{i.answer}{END}" for i in items)


@dataclass(frozen=True)
class Batch:
    """Rows filled with conversations; `mask` keeps each from seeing the others of its row."""

    ids: torch.Tensor
    mask: torch.Tensor
    weight: torch.Tensor


def batches(
    tokenizer: PreTrainedTokenizerFast, *, seed: int, rows: int = 4, width: int = 256
) -> Iterator[Batch]:
    """Endless batches, easy at first; answers weigh far more than questions."""
    assistant = tokenizer.convert_tokens_to_ids(ASSISTANT)
    filled = _rows(tokenizer, rng=random.Random(seed), width=width)
    while True:
        ids, owner = torch.tensor([next(filled) for _ in range(rows)]).unbind(1)
        mask = (owner[:, :, None] == owner[:, None, :]).tril()[:, None]
        opened = (ids == assistant).cumsum(1)
        closed = (ids == tokenizer.eos_token_id).cumsum(1)
        weight = torch.where(opened > closed, 1.0, _PROMPT_WEIGHT)[:, :-1]
        yield Batch(ids, mask, weight * (ids[:, 1:] != tokenizer.pad_token_id))


def _rows(
    tokenizer: PreTrainedTokenizerFast, *, rng: random.Random, width: int
) -> Iterator[tuple[list[int], list[int]]]:
    """Rows of whole conversations: their tokens, and which conversation owns each."""
    ids: list[int] = []
    owner: list[int] = []
    for made in itertools.count():
        new = tokenizer(conversation(rng, longest=45 + made // 250))["input_ids"]
        if len(ids) + len(new) > width:
            padding = width - len(ids)
            yield ids + [tokenizer.pad_token_id] * padding, owner + [made] * padding
            ids, owner = [], []
        ids += new[:width]
        owner += [made] * len(new[:width])
