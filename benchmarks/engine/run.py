"""`make bench-engine`: what the front before vLLM costs, and what prefix cache, draft and quantisation bring.

Two servers run side by side and are measured in turn, many times: what the machine does meanwhile befalls both.
"""

import asyncio
import random
import statistics
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import Progress

from benchmarks import report, servers
from benchmarks.servers import Server
from dev.models import heldout
from slipstream_runtime import contract
from slipstream_runtime.engine import arguments, environment
from slipstream_runtime.engine.arguments import Weights
from slipstream_runtime.engine.checkpoint import Checkpoint
from slipstream_runtime.engine.config import EngineConfig
from slipstream_runtime.evaluate import load, traffic
from slipstream_runtime.machine import hardware

FOLDER = Path(__file__).parent
MODELS = servers.MODEL.parent
PAIRS = 30
FEATURE_PAIRS = 6
SPECULATION_PAIRS = 24
CONCURRENCY = (1, 8, 32)
SECONDS = 2.0
TOKENS = 32
SPECULATION_TOKENS = 96
"""Output tokens where speculation is measured: decoding is what it is about."""
BOOTSTRAPS = 2000
_COMPUTING = (
    "OMP_NUM_THREADS",
    "OMP_WAIT_POLICY",
    "VLLM_CPU_OMP_THREADS_BIND",
    "VLLM_ENABLE_V1_MULTIPROCESSING",
    "VLLM_LOGGING_LEVEL",
)

MEANINGS = {
    **{
        f"throughput_ratio_c{clients}": f"output tokens/s, Slipstream over stock, {clients} clients: median of pairs"
        for clients in CONCURRENCY
    },
    **{
        f"throughput_ratio_c{clients}_high": "upper end of its 95 % interval (bootstrap)"
        for clients in CONCURRENCY
    },
    "ttft_p50_added_ms": "time to first token, 1 client: median of Slipstream minus stock, per pair",
    "ttft_p99_added_ms": "the same for the 99th percentile over all requests of a side",
    "cpu_ms_per_token_slipstream": "processor time of the server per output token, 8 clients",
    "cpu_ms_per_token_stock": "the same for stock vLLM",
    "memory_mb_slipstream": "memory of the server after the load, shared pages counted once",
    "memory_mb_stock": "the same for stock vLLM",
    "tokens_per_second_c8_stock": "output tokens/s of stock vLLM, 8 clients: median",
    "prefix_cache_gain": "output tokens/s with the prefix cache over without, long repeated prompts, 8 clients",
    **{
        figure: text
        for method in ("draft", "ngram")
        for figure, text in (
            (f"{method}_gain", f"output tokens/s of decoding with {method} over without, 1 client"),
            (f"{method}_gain_low", "lower end of its 95 % interval (bootstrap)"),
            (f"{method}_gain_high", "upper end"),
            (f"{method}_gain_sampled", "upper bound of the gain that the engine itself measures"),
        )
    },
    "int8_gain": "output tokens/s of the int8 checkpoint over the float32 one, 8 clients",
}


@dataclass(frozen=True)
class Measure:
    """One server under load for a moment."""

    tokens_per_second: float
    ttfts: tuple[float, ...]
    """Seconds, one a request."""
    cpu_per_token: float
    """Seconds of processor time."""
    tpots: tuple[float, ...]
    """Seconds an output token after the first, one a request."""


@click.command()
@click.option("--pairs", default=PAIRS, show_default=True, help="Measurements of each side.")
@click.option("--feature-pairs", default=FEATURE_PAIRS, show_default=True, help="For each feature.")
@click.option(
    "--speculation-pairs", default=SPECULATION_PAIRS, show_default=True, help="For draft and ngram."
)
def main(*, pairs: int, feature_pairs: int, speculation_pairs: int) -> None:
    """Compare with stock vLLM, then each feature with its absence."""
    console = Console(stderr=True)
    with Progress(console=console) as progress:
        task = progress.add_task(
            "measuring pairs",
            total=pairs * len(CONCURRENCY) + 2 * feature_pairs + 2 * speculation_pairs,
        )

        def advance() -> None:
            progress.advance(task)

        figures = _against_stock(pairs, advance)
        for name, (wanted, absent, clients, prompts) in _features().items():
            figures[name] = _gain(wanted, absent, clients, prompts, feature_pairs, advance)
        for method, speculation in _speculations().items():
            figures |= _speculation_gain(method, speculation, speculation_pairs, advance)
    report.publish(
        folder=FOLDER,
        title="The engine beside stock vLLM, and its features beside their absence",
        command="make bench-engine",
        figures={name: figures[name] for name in MEANINGS},
        meanings=MEANINGS,
    )


def _against_stock(pairs: int, advance: Any) -> dict[str, float | None]:
    config = EngineConfig.model_validate(servers.defaults())
    figures: dict[str, float | None] = {}
    with ExitStack() as stack:
        first, second = (Path(stack.enter_context(tempfile.TemporaryDirectory())) for _ in "ab")
        own = stack.enter_context(servers.slipstream(first))
        stock = stack.enter_context(
            servers.stock(second, words=_words(config), environment=_environment(config))
        )
        for clients in CONCURRENCY:
            both = _pairs(own, stock, clients, _prompts(), pairs, advance)
            ratios = [mine.tokens_per_second / theirs.tokens_per_second for mine, theirs in both]
            figures[f"throughput_ratio_c{clients}"] = round(statistics.median(ratios), 3)
            figures[f"throughput_ratio_c{clients}_high"] = round(_interval(ratios)[1], 3)
            if clients == 1:
                added = [_p50(mine.ttfts) - _p50(theirs.ttfts) for mine, theirs in both]
                figures["ttft_p50_added_ms"] = round(1000 * statistics.median(added), 2)
                tails = [_p99([t for pair in both for t in pair[side].ttfts]) for side in (0, 1)]
                figures["ttft_p99_added_ms"] = round(1000 * (tails[0] - tails[1]), 2)
            if clients == 8:
                for side, name in enumerate(("slipstream", "stock")):
                    cpu = statistics.median(pair[side].cpu_per_token for pair in both)
                    figures[f"cpu_ms_per_token_{name}"] = round(1000 * cpu, 3)
                figures["tokens_per_second_c8_stock"] = round(
                    statistics.median(theirs.tokens_per_second for _, theirs in both)
                )
        for name, server in (("slipstream", own), ("stock", stock)):
            figures[f"memory_mb_{name}"] = round(server.memory_mb())
    return figures


def _features() -> dict[str, tuple[dict[str, Any], dict[str, Any], int, tuple[traffic.Body, ...]]]:
    """Figure -> configuration with the feature, without it, clients, prompts."""
    cache = servers.defaults()["cache"]
    int8 = {"uri": f"file://{MODELS / 'target-w8a8'}", "name": servers.NAME}
    return {
        "prefix_cache_gain": (
            {"cache": {**cache, "prefix": True}},
            {"cache": {**cache, "prefix": False}},
            8,
            _long_prompts(),
        ),
        "int8_gain": ({"model": int8}, {}, 8, _prompts()),
    }


def _speculations() -> dict[str, dict[str, Any]]:
    return {
        "draft": {"draft": f"file://{MODELS / 'draft'}", "tokens": 4},
        "ngram": {"method": "ngram", "tokens": 4},
    }


def _speculation_gain(
    method: str, speculation: dict[str, Any], pairs: int, advance: Any
) -> dict[str, float | None]:
    """Decoding beside an engine that does not speculate, and what the speculating one says of itself."""
    with ExitStack() as stack:
        first, second = (Path(stack.enter_context(tempfile.TemporaryDirectory())) for _ in "ab")
        left = stack.enter_context(servers.slipstream(first, config={"speculation": speculation}))
        right = stack.enter_context(servers.slipstream(second))
        both = _pairs(left, right, 1, _prompts(), pairs, advance, tokens=SPECULATION_TOKENS)
        sampled = left.gauge(contract.SPECULATION_GAIN)
    ratios = [
        statistics.fmean(theirs.tpots) / statistics.fmean(mine.tpots) for mine, theirs in both
    ]
    low, high = _interval(ratios)
    return {
        f"{method}_gain": round(statistics.median(ratios), 3),
        f"{method}_gain_low": round(low, 3),
        f"{method}_gain_high": round(high, 3),
        f"{method}_gain_sampled": None if sampled is None else round(sampled, 3),
    }


def _gain(
    wanted: dict[str, Any],
    absent: dict[str, Any],
    clients: int,
    prompts: tuple[traffic.Body, ...],
    pairs: int,
    advance: Any,
) -> float:
    with ExitStack() as stack:
        first, second = (Path(stack.enter_context(tempfile.TemporaryDirectory())) for _ in "ab")
        left = stack.enter_context(servers.slipstream(first, config=wanted))
        right = stack.enter_context(servers.slipstream(second, config=absent))
        both = _pairs(left, right, clients, prompts, pairs, advance)
    ratios = [mine.tokens_per_second / theirs.tokens_per_second for mine, theirs in both]
    return round(statistics.median(ratios), 3)


def _pairs(
    left: Server,
    right: Server,
    clients: int,
    prompts: tuple[traffic.Body, ...],
    pairs: int,
    advance: Any,
    *,
    tokens: int = TOKENS,
) -> list[tuple[Measure, Measure]]:
    """Measure both in turn, the order changing from pair to pair; the first measurement warms up and is dropped."""
    for server in (left, right):
        _measure(server, clients, prompts, tokens)
    found = []
    for number in range(pairs):
        if number % 2:
            theirs, mine = (
                _measure(right, clients, prompts, tokens),
                _measure(left, clients, prompts, tokens),
            )
        else:
            mine, theirs = (
                _measure(left, clients, prompts, tokens),
                _measure(right, clients, prompts, tokens),
            )
        found.append((mine, theirs))
        advance()
    return found


def _measure(
    server: Server, clients: int, prompts: tuple[traffic.Body, ...], tokens: int
) -> Measure:
    plan = traffic.Plan(
        url=server.url,
        model=servers.NAME,
        concurrency=clients,
        duration=SECONDS,
        prompts=prompts,
        max_tokens=tokens,
        ignore_eos=True,
    )
    before = server.cpu_seconds()
    done = asyncio.run(load.run(plan))
    used = server.cpu_seconds() - before
    summary = done.summary
    if summary.failed:
        raise RuntimeError(f"{summary.failed} of {summary.requests} requests failed: {server.url}")
    return Measure(
        tokens_per_second=summary.output_tokens / summary.seconds,
        ttfts=tuple(record.ttft for record in done.records if record.ttft is not None),
        cpu_per_token=used / summary.output_tokens,
        tpots=tuple(record.tpot for record in done.records if record.tpot is not None),
    )


def _prompts() -> tuple[traffic.Body, ...]:
    return tuple(
        {"messages": [{"role": "user", "content": item["prompt"]}], "temperature": 0}
        for item in heldout.read()
    )


def _long_prompts() -> tuple[traffic.Body, ...]:
    """Eight prompts with a long common prefix, sent repeatedly."""
    questions = [body["messages"][0]["content"] for body in _prompts()]  # type: ignore[index]
    beginning = " ".join(questions[:60])
    return tuple(
        {"messages": [{"role": "user", "content": f"{beginning} {question}"}], "temperature": 0}
        for question in questions[60:68]
    )


def _words(config: EngineConfig) -> list[str]:
    """vLLM's arguments of our engine, without those that are only about the process around it."""
    target = Weights(servers.MODEL, Checkpoint("none", "fp32"))
    words = arguments.build(
        config, target=target, draft=None, cpu_flags=hardware.cpu_flags(), adapter_rank=None
    )
    keep, skip = [], 0
    for word in words:
        if word in ("--model", "--served-model-name", "--kv-cache-memory-bytes", "--worker-cls"):
            skip = 2
        if skip:
            skip -= 1
            continue
        keep.append(word)
    return keep


def _environment(config: EngineConfig) -> dict[str, str]:
    """The variables of our engine that decide how vLLM computes."""
    chosen = environment.build(
        config,
        present={},
        cores=config.cores or hardware.usable_cores(),
        local=True,
        cache=None,
        scratch=Path(tempfile.gettempdir()),
        logging_config=Path("logging.json"),
    )
    return {name: chosen[name] for name in _COMPUTING}


def _interval(values: Sequence[float]) -> tuple[float, float]:
    """95 % bootstrap interval of the median."""
    dice = random.Random(0)
    medians = sorted(
        statistics.median(dice.choices(values, k=len(values))) for _ in range(BOOTSTRAPS)
    )
    return medians[round(0.025 * BOOTSTRAPS)], medians[round(0.975 * BOOTSTRAPS) - 1]


def _p50(values: Sequence[float]) -> float:
    return statistics.median(values)


def _p99(values: Sequence[float]) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, round(0.99 * len(ordered)))]


if __name__ == "__main__":
    main()
