"""Answers of a teacher to the questions of a dataset, kept in a file so that a killed run goes on where it was."""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import torch

from slipstream_runtime.build.texts import Tokens

BATCH: Final = 16
"""Questions in one batch."""
LONGEST: Final = 512
"""Tokens of the longest answer; evaluations ask for 256 by default."""


def answer(
    model: Any,
    questions: Sequence[Tokens],
    *,
    max_length: int,
    file: Path,
    report: Callable[[int], None],
) -> list[Tokens]:
    """Return each question with the model's greedy answer, in the order of the questions.

    `file` has one line for each finished batch. `report` gets the number of finished questions.
    """
    order = sorted(range(len(questions)), key=lambda n: len(questions[n].ids))
    batches = [order[at : at + BATCH] for at in range(0, len(order), BATCH)]
    done = _read(file, limit=len(batches))
    with file.open("a") as kept:
        for batch in batches[len(done) :]:
            found = _generate(model, [questions[n] for n in batch], max_length=max_length)
            done.append(found)
            kept.write(json.dumps(found) + "\n")
            kept.flush()
            report(min(len(order), len(done) * BATCH))
    answers = dict(zip(order, (one for found in done for one in found), strict=True))
    return [
        Tokens((*question.ids, *answers[n]), len(question.ids))
        for n, question in enumerate(questions)
    ]


def _read(file: Path, *, limit: int) -> list[list[list[int]]]:
    """Return the finished batches, and cut off a line that a killed run left half-written."""
    if not file.exists():
        return []
    lines = list(_whole(file.read_text()))[:limit]
    file.write_text("".join(lines))
    return [json.loads(line) for line in lines]


def _whole(text: str) -> Iterator[str]:
    for line in text.splitlines(keepends=True):
        if not line.endswith("]\n"):
            return
        yield line


def _generate(model: Any, questions: Sequence[Tokens], *, max_length: int) -> list[list[int]]:
    """Return the tokens of each greedy answer, with the token that ends it."""
    longest = max(len(question.ids) for question in questions)
    room = min(LONGEST, max_length - longest)
    if room < 1:
        return [[] for _ in questions]
    ids = torch.zeros((len(questions), longest), dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, question in enumerate(questions):
        ids[row, longest - len(question.ids) :] = torch.tensor(question.ids)
        mask[row, longest - len(question.ids) :] = 1
    with torch.inference_mode():
        whole = model.generate(
            input_ids=ids.to(model.device),
            attention_mask=mask.to(model.device),
            max_new_tokens=room,
            do_sample=False,
            temperature=None,
            top_p=None,
            top_k=None,
            pad_token_id=0,
        )
    ends = ending(model)
    return [_until(row, ends) for row in whole[:, longest:].tolist()]


def ending(model: Any) -> frozenset[int]:
    """Return the tokens that end an answer."""
    ends = model.generation_config.eos_token_id
    return frozenset({ends} if isinstance(ends, int) else ends or ())


def _until(ids: Sequence[int], ends: frozenset[int]) -> list[int]:
    """Return the tokens up to the first that ends the answer, which is kept."""
    for place, token in enumerate(ids):
        if token in ends:
            return list(ids[: place + 1])
    return list(ids)
