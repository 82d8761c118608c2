"""Items of a dataset as tokens, for calibration and training."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from slipstream_runtime.errors import UnsuitableError
from slipstream_runtime.evaluate.quality.items import Item


@dataclass(frozen=True, slots=True)
class Tokens:
    """Tokens of an item."""

    ids: tuple[int, ...]
    answer: int
    """Index at which the answer begins; 0 if every token counts, as in a text."""


def tokenize(tokenizer: Any, items: Iterable[Item], *, max_length: int) -> list[Tokens]:
    """Return the items as tokens, with the first right answer where there is one, cut at `max_length`.

    Questions use the chat template, if the tokenizer has one. UnsuitableError if nothing is long enough to predict.
    """
    found = [_tokens(tokenizer, item) for item in items]
    kept = [Tokens(one.ids[:max_length], min(one.answer, max_length)) for one in found]
    kept = [one for one in kept if len(one.ids) > 1]
    if not kept:
        raise UnsuitableError(
            "dataset: has no item of at least 2 tokens. Give questions with answers, or texts."
        )
    return kept


def _tokens(tokenizer: Any, item: Item) -> Tokens:
    if item.text is not None:
        return Tokens(tuple(tokenizer(item.text)["input_ids"]), 0)
    question, whole = _parts(tokenizer, item)
    same = whole[: len(question)] == question
    return Tokens(tuple(whole), len(question) if same and len(whole) > len(question) else 0)


def _parts(tokenizer: Any, item: Item) -> tuple[list[int], list[int]]:
    """Return the tokens of the question, and of the question with its answer."""
    answer = item.references[0] if item.references else None
    if not tokenizer.chat_template:
        question = "\n".join(message["content"] for message in item.conversation)
        ids = list(tokenizer(question)["input_ids"])
        if answer is None:
            return ids, ids
        end = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
        return ids, ids + tokenizer(answer, add_special_tokens=False)["input_ids"] + end
    messages = [dict(message) for message in item.conversation]
    question_ids = _chat(tokenizer, messages, add_generation_prompt=True)
    if answer is None:
        return question_ids, question_ids
    messages.append({"role": "assistant", "content": answer})
    return question_ids, _chat(tokenizer, messages, add_generation_prompt=False)


def _chat(
    tokenizer: Any, messages: list[dict[str, str]], *, add_generation_prompt: bool
) -> list[int]:
    rendered = tokenizer.apply_chat_template(
        messages, add_generation_prompt=add_generation_prompt, return_dict=True
    )
    return list(rendered["input_ids"])
