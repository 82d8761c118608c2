"""`make bench-routing`: where requests should go, in model time, against the choices that others make."""

import itertools
import os
import random
import statistics
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Final

import orjson

from benchmarks import report
from benchmarks.routing import cache, fleet, policies, workloads
from slipstream_runtime.router.balancing import picking, prefixes
from slipstream_runtime.simulator import model

FOLDER: Final = Path(__file__).parent
SEEDS: Final = 5
STUDENT: Final = 2.776
"""The 97.5 % point of Student's t for so many seeds."""
DURATION: Final = 45.0
WARM_UP: Final = 15.0
"""Seconds whose requests only fill the caches."""
ENGINE: Final = model.Parameters(kv_tokens=150_000)
COMPARED: Final = ("round_robin", "least_loaded", "epp", "session_hash", "prefixaware")

MEANINGS: Final = {
    "hit_rate": "share of the prompt tokens that the engines had cached: mean of the three workloads",
    "ttft_p95_s": "time to first token, 95th percentile: mean of the three workloads",
    **{
        f"{name}_{figure}": f"the same for {text}"
        for name, text in (
            ("round_robin", "round robin"),
            ("least_loaded", "the fewest requests in flight"),
            ("epp", "llm-d's endpoint picker: 3 x prefix + 2 x queue + 2 x KV"),
            ("session_hash", "KubeAI's PrefixHash"),
            ("prefixaware", "production-stack's prefixaware"),
        )
        for figure in ("hit_rate", "ttft_p95_s")
    },
    "hit_rate_above_epp_low": "Slipstream minus the endpoint picker's, same requests: lower end of the 95 % interval",
    "ttft_p95_of_epp_high": "Slipstream over the endpoint picker's, same requests: upper end of the 95 % interval",
    "pick_32kb_p99_ms": "parse, hash, look up and pick a 32 KB prompt among 8 engines, processor time, p99",
}
COLUMNS: Final = ("hit rate", "TTFT p50, ms", "TTFT p95, ms", "TPOT p95, ms", "imbalance")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the requests of one run saw, in the order of COLUMNS."""

    hit_rate: float
    ttft_p50_ms: float
    ttft_p95_ms: float
    tpot_p95_ms: float
    imbalance: float
    """Requests of the busiest engine over the mean."""


_BASIS: Final = (
    f"{SEEDS} seeds, {DURATION:g} s of arrivals; the first {WARM_UP:g} s only warm up. The engines are "
    f"`slipstream_runtime.simulator.model` with {ENGINE.kv_tokens} KV tokens and a prefix cache of blocks like vLLM's. "
    "Values are mean ± half of the 95 % interval (Student) over the seeds. Imbalance is the busiest engine's requests "
    "over the mean. If a policy overloads an engine, only the end of the run bounds its p95.\n\n"
    "Slipstream learns a prompt at its first token and sees metrics of up to 250 ms ago. The endpoint picker learns a "
    "prompt when it picks and sees metrics of up to 50 ms ago. The engine model counts the KV cache of a shared prefix "
    "once for each request, so memory is tighter than in vLLM, for all alike.\n"
)

Results = dict[tuple[str, str], list[Outcome]]
"""By workload and policy, one a seed."""


def main() -> None:
    """Time the pick alone first, then play all runs on all cores."""
    pick = pick_p99_ms()
    runs = list(itertools.product(workloads.ALL, policies.POLICIES, range(SEEDS)))
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        outcomes = list(pool.map(play, *zip(*runs, strict=True)))
    results: Results = {}
    for (workload, policy, _), outcome in zip(runs, outcomes, strict=True):
        results.setdefault((workload, policy), []).append(outcome)
    figures = _figures(results) | {"pick_32kb_p99_ms": round(pick, 3)}
    report.publish(
        folder=FOLDER,
        title="Routing policies",
        command="make bench-routing",
        figures={name: figures[name] for name in MEANINGS},
        meanings=MEANINGS,
        details=_details(results),
    )


def play(workload: str, policy: str, seed: int) -> Outcome:
    """One run; all policies get the same conversations for a seed."""
    played = workloads.ALL[workload]()
    queries = fleet.play(
        played.conversations(seed, duration=DURATION),
        policies.POLICIES[policy](random.Random(seed), ENGINE.kv_tokens // cache.BLOCK),
        engines=played.engines,
        parameters=ENGINE,
    )
    seen = [query for query in queries if WARM_UP <= query.arrival < DURATION]
    ttft = [1000 * (query.first - query.arrival) for query in seen]
    tpot = [1000 * (q.finished - q.first) / (q.output - 1) for q in seen if q.output > 1]
    sent = statistics.multimode(query.engine for query in seen)[0]
    busiest = sum(query.engine == sent for query in seen)
    return Outcome(
        hit_rate=sum(query.cached for query in seen) / sum(query.prompt for query in seen),
        ttft_p50_ms=_percentile(ttft, 50),
        ttft_p95_ms=_percentile(ttft, 95),
        tpot_p95_ms=_percentile(tpot, 95),
        imbalance=busiest * played.engines / len(seen),
    )


def _figures(results: Results) -> dict[str, float | None]:
    figures: dict[str, float | None] = {}
    for policy in policies.POLICIES:
        prefix = "" if policy == "slipstream" else f"{policy}_"
        seen = [o for (_, name), found in results.items() if name == policy for o in found]
        figures[f"{prefix}hit_rate"] = round(statistics.mean(o.hit_rate for o in seen), 3)
        p95 = statistics.mean(o.ttft_p95_ms for o in seen) / 1000
        figures[f"{prefix}ttft_p95_s"] = round(p95, 3)
    more: list[list[float]] = [[] for _ in range(SEEDS)]
    ratio: list[list[float]] = [[] for _ in range(SEEDS)]
    for workload in workloads.ALL:
        pairs = zip(results[workload, "slipstream"], results[workload, "epp"], strict=True)
        for seed, (mine, theirs) in enumerate(pairs):
            more[seed].append(mine.hit_rate - theirs.hit_rate)
            ratio[seed].append(mine.ttft_p95_ms / theirs.ttft_p95_ms)
    mean, half = _interval(map(statistics.mean, more))
    figures["hit_rate_above_epp_low"] = round(mean - half, 3)
    mean, half = _interval(map(statistics.geometric_mean, ratio))
    figures["ttft_p95_of_epp_high"] = round(mean + half, 3)
    return figures


def _details(results: Results) -> str:
    """A table for each workload, and what the figures rest on."""
    parts = [_BASIS]
    for workload, make in workloads.ALL.items():
        described = make()
        parts.append(
            f"\n## {workload}\n\n{make.__doc__} {described.engines} engines, {described.rate:g} conversations/s.\n\n"
            f"| policy | {' | '.join(COLUMNS)} |\n|---|{'---:|' * len(COLUMNS)}\n"
        )
        for policy in policies.POLICIES:
            cells = zip(*map(astuple, results[workload, policy]), strict=True)
            shown = " | ".join(_shown(*_interval(values)) for values in cells)
            parts.append(f"| {policy.replace('_', ' ')} | {shown} |\n")
    return "".join(parts)


def _interval(values: Iterable[float]) -> tuple[float, float]:
    """Mean and half of its 95 % interval."""
    known = list(values)
    return statistics.mean(known), STUDENT * statistics.stdev(known) / len(known) ** 0.5


def _shown(mean: float, half: float) -> str:
    digits = 3 if mean < 2 else 0 if mean >= 100 else 1
    return f"{mean:.{digits}f} ± {half:.{digits}f}"


def _percentile(values: Sequence[float], percent: int) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


def pick_p99_ms(rounds: int = 4000) -> float:
    """Prompts that two of eight engines know, each half of it."""
    rng = random.Random(0)
    index = prefixes.Index()
    known = [workloads.text(rng, 4000) for _ in range(20)]
    names = [f"engine-{number}" for number in range(8)]
    for number, start in enumerate(known):
        chain = _chain(_body(start))
        for name in (names[number % 8], names[(number + 3) % 8]):
            index.insert(name, chain)
    endpoints = [picking.EndpointView(name, 8, 1.0, 0.5, 256, "stable") for name in names]
    bodies = [_body(rng.choice(known) + workloads.text(rng, 4192)) for _ in range(100)]
    times = []
    for number in range(rounds):
        started = time.thread_time()
        chain = _chain(bodies[number % len(bodies)])
        hits, size = index.hits(chain), prefixes.length(chain)
        picking.pick(endpoints, hits, strategy="Prefix", tie={}, size=size)
        times.append(1000 * (time.thread_time() - started))
    return _percentile(times, 99)


def _body(text: str) -> bytes:
    return orjson.dumps({"model": "chat", "messages": [{"role": "user", "content": text}]})


def _chain(body: bytes) -> tuple[int, ...]:
    return prefixes.blocks(orjson.loads(body), model="chat", tenant="one")


if __name__ == "__main__":
    main()
