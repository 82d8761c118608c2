"""Run of an evaluation: ask the models for what their journals lack, score the answers, write the report."""

import asyncio
import gc
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import Any, Final

from slipstream_runtime.errors import UnsuitableError
from slipstream_runtime.evaluate.quality import (
    datasets,
    judging,
    metrics,
    scores,
    statistics,
    task_scores,
)
from slipstream_runtime.evaluate.quality.config import Metric, Model, QualityConfig
from slipstream_runtime.evaluate.quality.items import Item
from slipstream_runtime.evaluate.quality.journal import Journal
from slipstream_runtime.evaluate.quality.metrics import METRICS, Name
from slipstream_runtime.evaluate.quality.observations import Observation, Request, Subject
from slipstream_runtime.evaluate.quality.report import Cost, Report, percent

CANDIDATE: Final = "candidate"
BASELINE: Final = "baseline"
JUDGE: Final = "judge"
_RIGHT_OR_WRONG: Final = frozenset({Name.EXACT_MATCH, Name.CHOICE, Name.JSON_SCHEMA})
"""Metrics whose scores are 0 or 1."""

Progress = Callable[[str, int, int], None]
"""Called with the model that answers, and the numbers of its finished and all requests."""
Load = Callable[[Model], Subject]


@dataclass(slots=True)
class _Asked:
    """Model with its journal. The model is loaded only if an answer is missing."""

    role: str
    model: Model
    journal: Journal
    load: Load
    progress: Progress
    used: set[str]
    """Keys of the requests of this run."""
    subject: Subject | None = None

    async def ask(self, requests: Sequence[Request]) -> list[Observation]:
        """Return the observations of the requests in their order."""
        keys = [request.key for request in requests]
        unique = dict(zip(keys, requests, strict=True))
        missing = [one for key, one in unique.items() if self.journal.find(key) is None]
        done = len(unique) - len(missing)
        self.progress(self.role, done, len(unique))
        if missing:
            if self.subject is None:
                self.subject = await asyncio.to_thread(self.load, self.model)
            async for request, observation in self.subject.ask(missing):
                self.journal.keep(request.key, observation)
                done += 1
                self.progress(self.role, done, len(unique))
        self.used |= unique.keys()
        return [answer for key in keys if (answer := self.journal.find(key)) is not None]

    def release(self) -> None:
        """Free the model's memory, so that the next one fits into the same device."""
        self.subject = None
        gc.collect()

    def cost(self) -> Cost:
        """Return what the answers of this run cost, those kept from earlier runs included."""
        seen = [one for key in self.used if (one := self.journal.find(key)) is not None]
        return Cost(
            requests=len(seen),
            refused=sum(one.error is not None for one in seen),
            prompt_tokens=sum(one.prompt_tokens for one in seen),
            output_tokens=sum(one.output_tokens for one in seen),
            seconds=sum(one.seconds for one in seen),
        )


async def run(config: QualityConfig, *, cache: Path, load: Load, progress: Progress) -> Report:
    """Return the report. EngineError leaves the journals, with which the next run goes on."""
    given = {CANDIDATE: config.candidate, BASELINE: config.baseline, JUDGE: config.judge}
    with ExitStack() as stack:
        asked = {
            role: _Asked(
                role,
                model,
                stack.enter_context(Journal(config.output, identity=_identity(model))),
                load,
                progress,
                set(),
            )
            for role, model in given.items()
            if model is not None
        }
        if config.dataset.task is not None:
            return await _task(config, asked)
        return await _items(config, asked, cache=cache)


def _identity(model: Model) -> dict[str, Any]:
    """Return what a kept answer of this model depends on, besides the request.

    A folder is known by its files, because another checkpoint may take its place.
    """
    path = None if model.path is None else Path(model.path.removeprefix("file://"))
    files = []
    if path is not None and "://" not in str(path) and path.is_dir():
        found = ((file, file.stat()) for file in sorted(path.rglob("*")) if file.is_file())
        files = [[str(file), stat.st_size, stat.st_mtime_ns] for file, stat in found]
    return {"model": model.model_dump(mode="json", exclude={"key_file", "ca_file"}), "files": files}


def choose(names: Sequence[Name], loaded: datasets.Loaded) -> dict[Name, list[Item]]:
    """Return the items to which each metric applies; UnsuitableError for a metric that applies to none."""
    chosen = {
        name: [item for item in loaded.items if METRICS[name].applies(item)] for name in names
    }
    for name, found in chosen.items():
        if not found:
            raise UnsuitableError(
                f"metrics: {name} applies to no item of {loaded.name}. Its items need {METRICS[name].needs}. "
                "If the field has another name there, set dataset.fields."
            )
    return chosen


def check_wording(loaded: datasets.Loaded, *, chat: bool) -> None:
    """Raise UnsuitableError for an item that can't be asked without a chat template."""
    if not chat and (item := next((one for one in loaded.items if one.messages), None)):
        raise UnsuitableError(
            f"chat: item {item.name} of {loaded.name} has messages, which only a chat template words. "
            "Set chat to true, or write prompts."
        )


def too_few(config: Sequence[Metric], chosen: Mapping[Name, Sequence[Item]]) -> Iterator[str]:
    """Yield a sentence for each metric with fewer items than would show that nothing was lost."""
    for metric in config:
        if metric.max_regression is None:
            continue
        items = len(chosen[metric.name])
        needed = statistics.fewest_texts(metric.max_regression)
        if metric.name is not Name.PERPLEXITY:
            needed = statistics.fewest_items(
                metric.max_regression, right_or_wrong=metric.name in _RIGHT_OR_WRONG
            )
        if items < needed:
            yield (
                f"{metric.name}: {items} items are too few to show a loss below "
                f"{percent(metric.max_regression)}, even if every answer holds. Use at least {needed}."
            )


async def _items(config: QualityConfig, asked: Mapping[str, _Asked], *, cache: Path) -> Report:
    loaded = await asyncio.to_thread(
        datasets.load,
        config.dataset,
        cache=cache,
        most=config.max_items,
        seed=config.seed,
        distinct=True,
    )
    chosen = choose([metric.name for metric in config.metrics], loaded)
    check_wording(loaded, chat=config.chat)
    top = metrics.FIRST_TOKENS if Name.AGREEMENT in chosen else 0

    requests = [
        metrics.request(name, item, max_tokens=config.max_tokens, chat=config.chat, top=top)
        for name, found in chosen.items()
        for item in found
    ]
    before: Iterator[Observation | None] = repeat(None)
    if BASELINE in asked:
        before = iter(await asked[BASELINE].ask(requests))
        asked[BASELINE].release()
    after = iter(await asked[CANDIDATE].ask(requests))
    pairs = {
        name: [scores.Pair(item, next(after), next(before)) for item in found]
        for name, found in chosen.items()
    }
    if Name.JUDGE in pairs:
        pairs[Name.JUDGE] = await _judge(pairs[Name.JUDGE], asked[JUDGE])
    results = [
        scores.result(
            metric.name,
            pairs[metric.name],
            max_regression=metric.max_regression,
            worst=config.examples,
            seed=config.seed,
        )
        for metric in config.metrics
    ]
    return Report(
        dataset=loaded.name,
        sha256=loaded.sha256,
        size=loaded.size,
        duplicates=loaded.duplicates,
        items=len(loaded.items),
        results=tuple(results),
        costs={role: one.cost() for role, one in asked.items()},
        examples=config.examples,
    )


async def _judge(pairs: Sequence[scores.Pair], judge: _Asked) -> list[scores.Pair]:
    """Return the pairs with the judge's points.

    It is not asked where one of both gave no answer, or both gave the same. UnsuitableError if it can't judge.
    """
    answered = [
        (pair, pair.baseline)
        for pair in pairs
        if pair.baseline is not None
        and pair.baseline.error is None
        and pair.candidate.error is None
    ]
    different = [
        judging.Contest(pair.item, before, pair.candidate)
        for pair, before in answered
        if pair.candidate.text != before.text
    ]
    tests = judging.tests([(pair.item, before) for pair, before in answered])
    contests = [*tests, *different]
    votes = await judge.ask(
        [one.forward for one in contests] + [one.backward for one in contests],
    )
    found = list(map(judging.points, votes[: len(contests)], votes[len(contests) :]))
    if (trouble := judging.trouble(found[: len(tests)])) is not None:
        raise UnsuitableError(trouble)
    points: dict[str, float | None] = {pair.item.name: judging.TIE for pair, _ in answered}
    points |= {
        one.item.name: value for one, value in zip(different, found[len(tests) :], strict=True)
    }
    return [
        scores.Pair(pair.item, pair.candidate, pair.baseline, points.get(pair.item.name))
        for pair in pairs
    ]


async def _task(config: QualityConfig, asked: Mapping[str, _Asked]) -> Report:
    """Measure a task of lm-evaluation-harness, which words the questions and scores the answers."""
    # NB: importing the library takes as long as a short run.
    from slipstream_runtime.evaluate.quality import harness  # noqa: PLC0415

    task = config.dataset.task
    assert task is not None
    found: dict[str, task_scores.Scores] = {}
    for role in (BASELINE, CANDIDATE):
        if role in asked:
            found[role] = await asyncio.to_thread(
                harness.run,
                task,
                folder=config.dataset.tasks_folder,
                ask=harness.from_thread(asked[role].ask, asyncio.get_running_loop()),
                chat=config.chat,
                max_tokens=config.max_tokens,
                most=config.max_items,
            )
            asked[role].release()
    # NB: a metric that one of the two models lacks is one that could not be compared.
    names = dict.fromkeys(name for one in found.values() for name in one)
    results = [
        scores.measured(
            name,
            found[CANDIDATE].get(name, {}),
            found[BASELINE].get(name, {}) if BASELINE in found else None,
            max_regression=config.max_regression,
            seed=config.seed,
        )
        for name in names
    ]
    if not results:
        raise UnsuitableError(
            f"dataset.task: {task} has no metric between 0 and 1 of which more is better. "
            "Choose a task that scores each answer."
        )
    number = max(result.total.items for result in results)
    return Report(
        dataset=task,
        sha256=None,
        size=number,
        items=number,
        results=tuple(results),
        costs={role: one.cost() for role, one in asked.items()},
        examples=0,
    )
