"""`make bench-simulator`: the engine model fitted to the real vLLM under one load predicts its latencies under another.

Windows of both loads take turns, and each round is fitted and judged by itself: what the machine does meanwhile befalls
both loads. The engine's core has a processor of its own, as it would have a GPU; front and client share another.
"""

import asyncio
import os
import random
import statistics
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import click
import httpx
import psutil
from rich.console import Console
from rich.progress import Progress

from benchmarks import report, servers
from benchmarks.servers import Server
from dev import metrics
from slipstream_runtime import contract
from slipstream_runtime.evaluate import load, records, traffic
from slipstream_runtime.simulator import calibration, model, replay

FOLDER = Path(__file__).parent
ROUNDS = 11
SECONDS = 5.0
SEQUENCES = 32
BATCHED_TOKENS = 256
VOCABULARY = range(100, 800)
"""Token ids that are text for the model of the benchmark."""

LATENCIES = ("ttft_p50", "ttft_p95", "tpot_p50", "tpot_p95")

MEANINGS = {
    **{
        f"{name}_error": f"|predicted/measured - 1| of {name}: median of rounds"
        for name in LATENCIES
    },
    **{f"{name}_error_worst": "the same for the worst round" for name in LATENCIES},
    **{
        f"{name}_ms": f"{name} measured under the predicted load: median of rounds"
        for name in LATENCIES
    },
    **{
        f"{name}_change": "latency under the predicted load over that under the fitted load: median of rounds"
        for name in LATENCIES
    },
    "steps_error": "|predicted/counted - 1| of the engine's steps under the predicted load: median of rounds",
    "alpha_ms": "fitted time of a step: median of rounds",
    "beta_us": "fitted time of a sequence in a step",
    "gamma_ns": "fitted time of a token in the KV cache in a step",
    "delta_us": "fitted time of a prompt token",
    "overhead_ms": "fitted part of a TTFT outside of the engine's steps",
    "requests": "requests measured under the predicted load",
    "others_cpu": "share of all processors that other processes used: median of rounds",
    "wall_s": "seconds that the benchmark took",
}


@dataclass(frozen=True)
class Lengths:
    """Log-normal numbers of tokens."""

    median: float
    sigma: float
    most: int

    def draw(self, dice: random.Random) -> int:
        return max(2, min(self.most, round(self.median * dice.lognormvariate(0, self.sigma))))


@dataclass(frozen=True)
class Load:
    """Requests a second, in a renewal process with gamma-distributed gaps; cv 1 is Poisson."""

    rate: float
    cv: float
    prompt: Lengths
    output: Lengths

    def plan(self, *, url: str, seed: int) -> traffic.Plan:
        """A window of it; prompts are token ids and answers have a given length, so that all sizes are known."""
        dice = random.Random(seed)
        times, bodies = [], []
        at = self._gap(dice)
        while at < SECONDS:
            times.append(at)
            prompt = dice.choices(VOCABULARY, k=self.prompt.draw(dice))
            bodies.append(
                {
                    "prompt": prompt,
                    "max_tokens": self.output.draw(dice),
                    "temperature": 0,
                    "ignore_eos": True,
                    # NB: a first token without text would be seen only with the next one.
                    "skip_special_tokens": False,
                }
            )
            at += self._gap(dice)
        return traffic.Plan(
            url=url,
            model=servers.NAME,
            duration=SECONDS,
            times=tuple(times),
            prompts=tuple(bodies),
        )

    def _gap(self, dice: random.Random) -> float:
        shape = 1 / self.cv**2
        return dice.gammavariate(shape, 1 / (shape * self.rate))


FITTED = Load(rate=16, cv=1, prompt=Lengths(120, 0.9, 700), output=Lengths(40, 0.6, 150))
PREDICTED = Load(rate=20, cv=2, prompt=Lengths(250, 0.6, 1000), output=Lengths(60, 0.5, 200))


@dataclass(frozen=True)
class Window:
    """A load for a moment: what its clients saw, and what the engine and the machine did."""

    observations: tuple[calibration.Observation, ...]
    steps: float
    others: float
    """Share of all processors that went to other processes."""


@dataclass(frozen=True)
class Round:
    """A fit to the windows of one load, and what it says about those of the other."""

    fit: calibration.Fit
    fitted: tuple[Window, ...]
    predicted: tuple[Window, ...]

    def figures(self) -> dict[str, float]:
        before = _quantiles(each for window in self.fitted for each in window.observations)
        measured = _quantiles(each for window in self.predicted for each in window.observations)
        predicted = _quantiles(
            each
            for window in self.predicted
            for each in self.fit.predict([seen.request for seen in window.observations])
        )
        found = {}
        for name in LATENCIES:
            found[f"{name}_error"] = abs(predicted[name] / measured[name] - 1)
            found[f"{name}_ms"] = 1000 * measured[name]
            found[f"{name}_change"] = measured[name] / before[name]
        counted = sum(window.steps for window in self.predicted)
        found["steps_error"] = abs(sum(map(self._steps, self.predicted)) / counted - 1)
        parameters = self.fit.parameters
        found["alpha_ms"] = 1e3 * parameters.alpha
        found["beta_us"] = 1e6 * parameters.beta
        found["gamma_ns"] = 1e9 * parameters.gamma
        found["delta_us"] = 1e6 * parameters.delta
        found["overhead_ms"] = 1e3 * self.fit.overhead
        found["others_cpu"] = statistics.mean(
            each.others for each in (*self.fitted, *self.predicted)
        )
        found["requests"] = sum(len(window.observations) for window in self.predicted)
        return found

    def _steps(self, window: Window) -> int:
        player = replay.Replay(model.Engine(self.fit.parameters))
        requests = [each.request for each in window.observations]
        return sum(step.iterations for _, step in player.run(requests))


@click.command()
@click.option("--rounds", default=ROUNDS, show_default=True, help="Each two windows of both loads.")
def main(*, rounds: int) -> None:
    """Fit and predict, round by round, on one engine."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as home:
        config = {
            "cores": 1,
            "batching": {"maxSequences": SEQUENCES, "maxBatchedTokens": BATCHED_TOKENS},
            "cache": {**servers.defaults()["cache"], "prefix": False},
            # NB: fewer chunks for the client to read; the first and the last token come on time.
            "engineArgs": {"stream-interval": 16},
            "limits": {"queue": 1000},
        }
        with servers.slipstream(Path(home), config=config) as server:
            _separate(server)
            found = _rounds(server, rounds)
    figures = {
        name: statistics.median(each[name] for each in found)
        for name in MEANINGS
        if name in found[0]
    }
    figures |= {
        f"{name}_error_worst": max(each[f"{name}_error"] for each in found) for name in LATENCIES
    }
    figures["requests"] = sum(each["requests"] for each in found)
    figures["wall_s"] = time.monotonic() - began
    report.publish(
        folder=FOLDER,
        title="The simulated engine compared with the real vLLM",
        command="make bench-simulator",
        figures={name: float(f"{figures[name]:.3g}") for name in MEANINGS},
        meanings=MEANINGS,
    )


def _rounds(server: Server, rounds: int) -> list[dict[str, float]]:
    limits = model.Parameters(
        kv_tokens=round(_metric(server, contract.KV_CAPACITY)),
        max_sequences=SEQUENCES,
        max_batched_tokens=BATCHED_TOKENS,
    )
    seeds = iter(range(2 + 4 * rounds))
    for each in (FITTED, PREDICTED):
        _window(server, each, seed=next(seeds))
    found = []
    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task("measuring rounds", total=rounds)
        for _ in range(rounds):
            order = (FITTED, PREDICTED, PREDICTED, FITTED)
            windows = [_window(server, each, seed=next(seeds)) for each in order]
            fitted, predicted = (windows[0], windows[3]), (windows[1], windows[2])
            fit = calibration.fit([each.observations for each in fitted], limits=limits)
            found.append(Round(fit, fitted, predicted).figures())
            progress.advance(task)
    return found


def _separate(server: Server) -> None:
    """Give the engine's core the first processor, the front and this process the second."""
    first, second = sorted(os.sched_getaffinity(0))[:2]
    front = psutil.Process(server.process.pid)
    children = front.children(recursive=True)
    (core,) = (child for child in children if "EngineCore" in " ".join(child.cmdline()))
    os.sched_setaffinity(0, {second})
    for process, processor in ((core, first), (front, second)):
        for thread in process.threads():
            os.sched_setaffinity(thread.id, {processor})


def _window(server: Server, offered: Load, *, seed: int) -> Window:
    began, others = time.monotonic(), _others_seconds(server)
    before = _metric(server, "vllm:iteration_tokens_total_count")
    done = asyncio.run(load.run(offered.plan(url=server.url, seed=seed)))
    if done.summary.failed:
        raise RuntimeError(f"requests failed: {done.summary.errors}")
    steps = _metric(server, "vllm:iteration_tokens_total_count") - before
    available = psutil.cpu_count() * (time.monotonic() - began)
    return Window(
        observations=tuple(map(_observed, range(len(done.records)), done.records)),
        steps=steps,
        others=(_others_seconds(server) - others) / available,
    )


def _others_seconds(server: Server) -> float:
    """Processor time so far of all processes but server and client, and what the hypervisor took."""
    every = psutil.cpu_times()
    busy = every.user + every.nice + every.system + every.irq + every.softirq + every.steal
    return busy - server.cpu_seconds() - time.process_time()


def _observed(key: int, record: records.Record) -> calibration.Observation:
    assert record.ttft is not None
    request = model.Request(key, record.start, record.prompt_tokens, record.output_tokens)
    return calibration.Observation(request, ttft=record.ttft, tpot=record.tpot)


def _quantiles(observations: Iterable[calibration.Observation]) -> dict[str, float]:
    seen = list(observations)
    ttfts = sorted(each.ttft for each in seen)
    tpots = sorted(each.tpot for each in seen if each.tpot is not None)
    values = [records.quantile(each, share) for each in (ttfts, tpots) for share in (0.5, 0.95)]
    return dict(zip(LATENCIES, values, strict=True))


def _metric(server: Server, name: str) -> float:
    """The only series of this name."""
    (sample,) = metrics.samples(httpx.get(server.metrics).text, name)
    return sample.value


if __name__ == "__main__":
    main()
