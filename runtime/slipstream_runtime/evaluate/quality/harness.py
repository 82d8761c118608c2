"""Tasks of lm-evaluation-harness, answered by the same models and kept in the same journals."""

import asyncio
import json
import math
from collections.abc import Callable, Coroutine, Iterable, Sequence
from pathlib import Path
from typing import Any

from lm_eval import evaluator, tasks
from lm_eval.api.model import LM

from slipstream_runtime.errors import EngineError, UnsuitableError, describe
from slipstream_runtime.evaluate.quality import task_scores
from slipstream_runtime.evaluate.quality.observations import Kind, Observation, Request

Ask = Callable[[Sequence[Request]], Sequence[Observation]]
"""Asks a model; the observations come in the order of the requests."""


class _Model(LM):  # type: ignore[misc]
    """Model of lm-evaluation-harness that passes each request on."""

    def __init__(self, ask: Ask, *, chat: bool, max_tokens: int) -> None:
        super().__init__()
        self._ask = ask
        self._chat = chat
        self._max_tokens = max_tokens
        self.refused: set[tuple[str, int]] = set()
        """Items of which a request was refused, by their task and number. The library knows no refusals."""

    @property
    def tokenizer_name(self) -> str:
        """Return the name that the library keeps its own caches by."""
        return "slipstream"

    def chat_template(self, chat_template: bool | str = False) -> str:
        """Return an empty text: the server or the checkpoint has the template."""
        return ""

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """Return the messages as JSON, which `_prompt` reads again."""
        return json.dumps(chat_history)

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
        """Return the greedy answers, each cut before the first of its stop texts."""
        asked = []
        for context, options in (one.args for one in requests):
            until = options.get("until") or ()
            stop = (until,) if isinstance(until, str) else tuple(text for text in until if text)
            most = options.get("max_gen_toks") or self._max_tokens
            # NB: OpenAI's API and vLLM's take at most four stop texts from many clients; the rest is cut below.
            asked.append(
                Request(Kind.ANSWER, max_tokens=most, stop=stop[:4], **self._prompt(context))
            )
        answers = self._answers(asked, requests)
        return [
            _cut(seen.text, one.args[1].get("until") or ())
            for seen, one in zip(answers, requests, strict=True)
        ]

    def loglikelihood(
        self, requests: list[Any], disable_tqdm: bool = False
    ) -> list[tuple[float, bool]]:
        """Return the log-probability of each continuation, and whether each of its tokens was the likeliest."""
        asked = [
            Request(Kind.CHOICES, continuations=(ending,), **self._prompt(context))
            for context, ending in (one.args for one in requests)
        ]
        return [(_first(seen)[0], _first(seen)[2]) for seen in self._answers(asked, requests)]

    def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = False) -> list[float]:
        """Return the log-probability of each text."""
        asked = [Request(Kind.TEXT, text=one.args[0]) for one in requests]
        return [_first(seen)[0] for seen in self._answers(asked, requests)]

    def _answers(self, asked: Sequence[Request], requests: list[Any]) -> Sequence[Observation]:
        found = self._ask(asked)
        self.refused |= {
            (one.task_name, one.doc_id)
            for one, seen in zip(requests, found, strict=True)
            if seen.error is not None
            or not all(math.isfinite(total) for total, _, _ in seen.likelihoods)
        }
        return found

    def _prompt(self, context: str) -> dict[str, Any]:
        if not self._chat:
            return {"prompt": context}
        return {"messages": tuple(json.loads(context))}


def manager(task: str, *, folder: Path | None) -> tasks.TaskManager:
    """Return the library's list of tasks; UnsuitableError if this one is not in it."""
    found = tasks.TaskManager(include_path=str(folder) if folder else None)
    if task not in found.all_tasks:
        raise UnsuitableError(
            f'dataset.task: lm-evaluation-harness has no task "{task}". Name one of its tasks, or give tasksFolder.'
        )
    return found


def run(
    task: str, *, folder: Path | None, ask: Ask, chat: bool, max_tokens: int, most: int | None
) -> task_scores.Scores:
    """Return the scores of one task's items; UnsuitableError if there is no such task."""
    known = manager(task, folder=folder)
    model = _Model(ask, chat=chat, max_tokens=max_tokens)
    try:
        found = evaluator.simple_evaluate(
            model=model,
            tasks=[task],
            task_manager=known,
            limit=most,
            apply_chat_template=chat,
            log_samples=True,
            bootstrap_iters=0,
            verbosity="ERROR",
        )
    except EngineError:
        raise
    except OSError as error:
        raise UnsuitableError(
            f"dataset.task: the data of {task} can't be read: {describe(error)}"
        ) from error
    except Exception as error:
        # NB: a task is a program: its templates, functions and data raise whatever they raise.
        raise UnsuitableError(
            f"dataset.task: {task} can't be measured: {describe(error)}"
        ) from error
    return task_scores.of(found["samples"], found["higher_is_better"], model.refused)


def _first(seen: Observation) -> tuple[float, int, bool]:
    return seen.likelihoods[0] if seen.likelihoods else (float("-inf"), 0, False)


def _cut(text: str, until: str | Iterable[str]) -> str:
    for stop in (until,) if isinstance(until, str) else until:
        if stop:
            text = text.split(stop, maxsplit=1)[0]
    return text


def from_thread(
    ask: Callable[[Sequence[Request]], Coroutine[Any, Any, list[Observation]]],
    loop: asyncio.AbstractEventLoop,
) -> Ask:
    """Return `ask` for a thread beside the event loop."""

    def blocking(requests: Sequence[Request]) -> Sequence[Observation]:
        return asyncio.run_coroutine_threadsafe(ask(requests), loop).result()

    return blocking
