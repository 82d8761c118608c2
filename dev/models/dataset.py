"""Batches to train on."""

import itertools
import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
from transformers import PreTrainedTokenizerFast

from dev.models import language, puzzles
from dev.models.tokenizer import ASSISTANT, END, SYSTEM, USER

_SYSTEMS = (
    "You are a helpful assistant.",
    "Answer briefly.",
    "Be exact.",
    "You know every record.",
)
_MIX = {"fact": 2, "lookup": 3, "sum": 6, "json": 3}
_PROMPT_WEIGHT = 0.05
Conversation = Callable[[random.Random, int], str]
"""Draws the text of a conversation whose questions are no longer than a number of characters."""


def conversation(rng: random.Random, longest: int) -> str:
    """A few turns of training questions, none too long, sometimes behind a system message."""
    items = []
    for task in rng.choices(list(_MIX), list(_MIX.values()), k=rng.choice((1, 1, 2))):
        item = language.draw(rng, task=task, held_out=False)
        while len(item.prompt) > longest:
            item = language.draw(rng, task=task, held_out=False)
        items.append(item)
        if task == "lookup":
            items += [language.follow_up(rng, item=item) for _ in range(rng.randrange(3))]
    return _text(rng, items)


def puzzle(rng: random.Random, longest: int) -> str:
    """A turn or two of the harder language, sometimes behind a system message."""
    return _text(rng, puzzles.questions(rng, longest))


def _text(rng: random.Random, items: list[language.Item]) -> str:
    text = SYSTEM + rng.choice(_SYSTEMS) if rng.random() < 0.15 else ""
    return text + "".join(turn(item.prompt, item.answer) for item in items)


def turn(prompt: str, answer: str) -> str:
    """A question with its answer."""
    return f"{USER}{prompt}{ASSISTANT}{answer}{END}"


@dataclass(frozen=True)
class Batch:
    """Rows filled with conversations; `mask` keeps each from seeing the others of its row."""

    ids: torch.Tensor
    mask: torch.Tensor
    weight: torch.Tensor


def batches(
    tokenizer: PreTrainedTokenizerFast, *, seed: int, draw: Conversation = conversation
) -> Iterator[Batch]:
    """Endless batches of drawn conversations, easy at first."""
    rng = random.Random(seed)
    return packed(tokenizer, (draw(rng, 45 + made // 250) for made in itertools.count()))


def packed(
    tokenizer: PreTrainedTokenizerFast, texts: Iterable[str], *, rows: int = 4, width: int = 256
) -> Iterator[Batch]:
    """Batches of whole conversations; answers weigh far more than questions."""
    assistant = tokenizer.convert_tokens_to_ids(ASSISTANT)
    filled = _rows(tokenizer, texts, width=width)
    while some := list(itertools.islice(filled, rows)):
        ids, owner = torch.tensor(some).unbind(1)
        mask = (owner[:, :, None] == owner[:, None, :]).tril()[:, None]
        opened = (ids == assistant).cumsum(1)
        closed = (ids == tokenizer.eos_token_id).cumsum(1)
        weight = torch.where(opened > closed, 1.0, _PROMPT_WEIGHT)[:, :-1]
        yield Batch(ids, mask, weight * (ids[:, 1:] != tokenizer.pad_token_id))


def _rows(
    tokenizer: PreTrainedTokenizerFast, texts: Iterable[str], *, width: int
) -> Iterator[tuple[list[int], list[int]]]:
    """Rows of whole conversations: their tokens, and which conversation owns each."""
    ids: list[int] = []
    owner: list[int] = []
    for made, text in enumerate(texts):
        new = tokenizer(text)["input_ids"]
        if len(ids) + len(new) > width:
            padding = width - len(ids)
            yield ids + [tokenizer.pad_token_id] * padding, owner + [made] * padding
            ids, owner = [], []
        ids += new[:width]
        owner += [made] * len(new[:width])
