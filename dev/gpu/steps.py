"""The steps of the check, in groups that share an engine: the most valuable first."""

import asyncio
import contextlib
import json
import os
import signal
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from dev import metrics, waiting
from dev.gpu import clients, engines, measures
from dev.gpu.engines import Engine, Setup
from slipstream_runtime import contract
from slipstream_runtime.evaluate.records import Record
from slipstream_runtime.simulator import model

Figures = Mapping[str, Any]
Start = Callable[[Setup, Path, float], contextlib.AbstractAsyncContextManager[Engine]]

DRAFT_TOKENS: Final = 3
ACCEPTED: Final = 2.8
"""Tokens that a step yields with a made-up acceptance: 1 of the target, and 0.6 for each of 3 draft tokens."""
_KILLED_SECONDS: Final = 60.0
"""For an engine to notice the death of its core and to leave."""
_SERVING_SECONDS: Final = 20.0


@dataclass(frozen=True)
class Scale:
    """Sizes of the loads, as the device can bear them; seconds include no tail."""

    clients: tuple[int, ...]
    few: tuple[int, ...]
    """Numbers of clients where a variant is compared."""
    seconds: float
    prompt: int
    output: int
    start: float
    """Seconds that an engine may take to its first answer."""


@dataclass(frozen=True)
class Step:
    """One measurement on a running engine; `limit` in seconds."""

    name: str
    limit: float
    run: Callable[[Engine], Awaitable[Figures]]


@dataclass(frozen=True)
class Group:
    """An engine and what is measured on it; its start is a step of its own."""

    name: str
    setups: Sequence[Setup]
    """Tried in turn: the first that starts is measured."""
    start: Start
    steps: Sequence[Step]


@dataclass(frozen=True)
class Check:
    """All groups for one device."""

    scale: Scale
    setups: Sequence[Setup]
    draft: Path
    made_up: bool
    """Whether weights are made up, so that a draft's acceptance must be, too."""

    def groups(self) -> list[Group]:
        """Return them in the order in which they are run."""
        scale = self.scale
        fp8 = [_with(one, quantization={"method": "fp8"}) for one in self.setups]
        return [
            Group(
                "slipstream",
                self.setups,
                _slipstream,
                [
                    *self._loads(scale.clients),
                    Step("step_time", 60, self._step_time),
                    Step("drain", 60, self._drain),
                ],
            ),
            Group("bare", self.setups, _bare, self._loads(scale.clients)),
            Group("fp8", fp8, _slipstream, [*self._loads(scale.few), Step("kill", 90, self._kill)]),
            Group(
                "draft",
                [self._drafting(one) for one in self.setups],
                _slipstream,
                [*self._loads(scale.few), Step("speculation", 20, _speculation)],
            ),
        ]

    def _loads(self, counts: Sequence[int]) -> list[Step]:
        def at(count: int) -> Step:
            async def run(engine: Engine) -> Figures:
                found = await clients.send(self._offer(engine, clients=count))
                return measures.speed(found)

            return Step(f"clients_{count}", 3 * self.scale.seconds + 30, run)

        return [at(count) for count in counts]

    def _offer(self, engine: Engine, **how: Any) -> clients.Offer:
        return clients.Offer(
            url=engine.url,
            seconds=self.scale.seconds,
            prompt=self.scale.prompt,
            output=self.scale.output,
            most=self.setups[0].max_length - 8,
            **how,
        )

    async def _step_time(self, engine: Engine) -> Figures:
        """Two loads are fitted and one between them is predicted; their rates follow from the engine's speed."""
        probe = await clients.send(self._offer(engine, clients=self.scale.few[-1], seed=1))
        speed = measures.speed(probe)
        rate = speed["tokens_per_second"] / self.scale.output
        found = [
            await clients.send(self._offer(engine, rate=share * rate, sigma=0.6, seed=seed))
            for seed, share in ((2, 0.25), (3, 0.6), (4, 0.4))
        ]
        page = engine.metrics()
        limits = model.Parameters(
            kv_tokens=max(16, round(metrics.total(page, contract.KV_CAPACITY))),
            max_sequences=self.setups[0].sequences or 256,
            max_batched_tokens=8192 if self.setups[0].device == "cuda" else 2048,
        )
        return measures.step_time(found[:2], found[2], limits=limits)

    async def _drain(self, engine: Engine) -> Figures:
        """SIGTERM under load: requests that were sent before it must have whole answers."""
        offer = self._offer(engine, clients=self.scale.few[-1], seed=5)
        sending = asyncio.create_task(clients.send(offer))
        await _serving(engine, self.scale.few[-1] // 2)
        in_flight = metrics.total(engine.metrics(), contract.IN_FLIGHT)
        began = time.monotonic()
        engine.process.send_signal(signal.SIGTERM)
        code = await engine.process.wait()
        took = time.monotonic() - began
        found = await sending
        return {
            "in_flight_at_sigterm": round(in_flight),
            "answers_cut": _cut(found),
            "whole_answers": sum(one.succeeded for one in found),
            "refused_afterwards": sum(one.status != 200 for one in found),
            "exit_code": code,
            "seconds_to_exit": round(took, 2),
        }

    async def _kill(self, engine: Engine) -> Figures:
        """Kill the process that computes, under load: the pod must end by itself and say why."""
        offer = self._offer(engine, clients=self.scale.few[0], seed=6)
        sending = asyncio.create_task(clients.send(offer))
        await _serving(engine, 1)
        below = engines.descendants(engine.process.pid)
        began = time.monotonic()
        os.kill(engines.core(engine.process.pid), signal.SIGKILL)
        try:
            code: int | None = await asyncio.wait_for(engine.process.wait(), _KILLED_SECONDS)
        except TimeoutError:
            code = None
        took = time.monotonic() - began
        found = await sending
        return {
            "exit_code": code,
            "seconds_to_exit": round(took, 2),
            "reason": engine.reason(),
            "answers_cut": _cut(found),
            "refused_afterwards": sum(one.status != 200 for one in found),
            "processes_left": engines.alive(below),
        }

    def _drafting(self, setup: Setup) -> Setup:
        speculation = {"draft": f"file://{self.draft}", "tokens": DRAFT_TOKENS}
        made = _with(setup, speculation=speculation)
        if not self.made_up:
            return made
        told = {
            "method": "draft_model",
            "model": str(self.draft),
            "num_speculative_tokens": DRAFT_TOKENS,
            "rejection_sample_method": "synthetic",
            "synthetic_acceptance_length": ACCEPTED,
        }
        arguments = {**made.engine_args, "speculative-config": json.dumps(told)}
        return Setup(**{**vars(made), "engine_args": arguments})


def started(engine: Engine) -> dict[str, Any]:
    """Return what the start of an engine took."""
    found: dict[str, Any] = {
        "seconds": round(engine.seconds, 2),
        "used_mib": None if engine.used_mib is None else round(engine.used_mib),
    }
    if phases := engine.phases():
        found["phases"] = {name: round(value, 2) for name, value in phases.items()}
        found["kv_tokens"] = round(metrics.total(engine.metrics(), contract.KV_CAPACITY))
    return found


def _cut(found: Sequence[Record]) -> int:
    """Count answers that began and did not end."""
    return sum(one.error is not None and one.status == 200 for one in found)


async def _speculation(engine: Engine) -> Figures:
    page = engine.metrics()
    drafted = metrics.total(page, contract.DRAFT_TOKENS)
    gains = [one.value for one in metrics.samples(page, contract.SPECULATION_GAIN)]
    return {
        "drafted_tokens": round(drafted),
        "acceptance": round(metrics.total(page, contract.ACCEPTED_TOKENS) / drafted, 3)
        if drafted
        else None,
        "gain_by_windows": round(gains[0], 3) if gains else None,
    }


async def _serving(engine: Engine, count: int) -> None:
    """Wait until at least `count` requests are in flight."""

    def enough() -> bool:
        return metrics.total(engine.metrics(), contract.IN_FLIGHT) >= count

    what = f"{count} requests being in flight"
    await asyncio.to_thread(waiting.until, enough, seconds=_SERVING_SECONDS, what=what)


def _with(setup: Setup, **config: Any) -> Setup:
    return Setup(**{**vars(setup), "config": {**setup.config, **config}})


def _slipstream(
    setup: Setup, home: Path, within: float
) -> contextlib.AbstractAsyncContextManager[Engine]:
    return engines.slipstream(setup, home, within=within)


def _bare(
    setup: Setup, home: Path, within: float
) -> contextlib.AbstractAsyncContextManager[Engine]:
    return engines.bare(setup, home, within=within)
