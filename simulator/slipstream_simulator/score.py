"""Score of a run: attainment as users saw it, and cost."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from slipstream_simulator import limits
from slipstream_simulator.kernel import layout
from slipstream_simulator.kernel.layout import Floats, Records
from slipstream_simulator.simulation import Run

_MINUTE: Final = 60.0
_FLAP_SECONDS: Final = 900.0
_WASTED_SECONDS: Final = 240.0
_GOOD_MINUTES: Final = 3


@dataclass(frozen=True)
class Score:
    """Score of a run after the warm-up; requests without a result at the end are not counted."""

    scenario: str
    policy: str
    seed: int
    requests: int
    attainment: float
    """Share of the requests inside all their limits; lost, timed-out and rejected requests are outside."""
    attained_minutes: float
    """Share of the minutes in which at least the strictest percentile of the requests was inside its limits."""
    worst_5_minutes: float
    severity: float
    """Mean of max(0, latency / limit - 1) over requests and limits; at most 10 for each."""
    failed: int
    gpu_hours: float
    """Replica-hours from the scheduling of each pod to its end."""
    goodput: float
    """Output tokens per second of attained requests."""
    ttft_p50: float
    ttft_p95: float
    ttft_p99: float
    tpot_p50: float
    tpot_p95: float
    tpot_p99: float
    e2e_p95: float
    flaps_per_hour: float
    """Changes that reverse another one within 15 minutes, per hour."""
    changes_per_hour: float
    wasted_starts: int
    """Pods that lived less than 4 minutes."""
    recover_s: float
    """Mean time from the first minute outside the objectives to three minutes inside them, in seconds."""
    over_replica_hours: float | None
    """Integral of max(0, replicas - oracle); None without an oracle."""
    under_replica_hours: float | None
    safety: int
    down_while_incomplete: int
    removed_in_outage: int
    zero_with_requests: int
    out_of_bounds: int

    def plain(self) -> dict[str, object]:
        """Return the fields for JSON, with None for values that aren't finite."""
        return {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in asdict(self).items()
        }


@dataclass(frozen=True)
class Verdicts:
    """Result of each request: arrival, whether it was judged, whether it was attained, and its latencies."""

    arrival: Floats
    judged: NDArray[np.bool_]
    attained: NDArray[np.bool_]
    severity: Floats
    latency: dict[str, Floats]


def counted(run: Run) -> Records:
    """Return a view of the requests that arrived after the warm-up, in order of arrival."""
    begin = int(np.searchsorted(run.requests["arrival"], run.scenario.warmup))
    end = int(np.count_nonzero(run.requests["fate"] != layout.AHEAD))
    return run.requests[begin:end]


def verdicts(run: Run) -> Verdicts:
    """Judge every request that arrived after the warm-up, from its first attempt."""
    scenario, records = run.scenario, counted(run)
    arrival, fate, first, last = (
        np.ascontiguousarray(records[name]) for name in ("arrival", "fate", "first", "finished")
    )
    finished = fate == layout.FINISHED
    failed = fate > layout.FINISHED
    waited = scenario.duration - arrival
    latency = {
        "ttft": first - arrival,
        "tpot": (last - first) / np.maximum(1, records["output"] - 1),
        "e2e": last - arrival,
    }
    for name in ("tpot", "e2e"):
        latency[name] = np.where(finished, latency[name], np.nan)
    # What has no first token yet has waited at least until the end.
    so_far = {"ttft": np.where(np.isnan(first), waited, latency["ttft"]), "e2e": waited}
    attained, late = finished.copy(), np.zeros(len(arrival), dtype=np.bool_)
    severity = np.zeros(len(arrival))
    kinds = np.ascontiguousarray(records["kind"])
    for index, kept in enumerate(limits.of(scenario)):
        members = kinds == index
        for metric, target in kept.items():
            measured = np.where(finished, latency[metric], so_far.get(metric, np.zeros(1)))
            excess = np.where(failed, 10.0, np.clip(measured / target - 1, 0, 10))
            bad = members & (measured > target)
            attained &= ~(bad & finished)
            late |= bad & ~finished
            severity += np.where(members, excess / len(kept), 0.0)
    return Verdicts(
        arrival=arrival,
        judged=finished | failed | late,
        attained=attained,
        severity=severity,
        latency=latency,
    )


def score(run: Run, *, oracle: Run | None = None) -> Score:
    """Return all figures of one run; the areas need the oracle's run with the same seed."""
    scenario = run.scenario
    seen = verdicts(run)
    judged, attained = seen.judged, seen.attained & seen.judged
    hours = (scenario.duration - scenario.warmup) / 3600
    good, total = minutes(run, seen)
    share = max(one.share for one in scenario.objectives.latency)
    with np.errstate(invalid="ignore", divide="ignore"):
        by_minute = good / total
        five = np.ones(5)
        worst = np.convolve(good, five, "valid") / np.convolve(total, five, "valid")
    known = by_minute[total > 0]
    records = counted(run)
    ttft = _quantiles(seen.latency["ttft"], 0.5, 0.95, 0.99)
    tpot = _quantiles(seen.latency["tpot"], 0.5, 0.95, 0.99)
    (e2e,) = _quantiles(seen.latency["e2e"], 0.95)
    over = under = None
    if oracle is not None:
        over, under = _areas(run, oracle)
    return Score(
        scenario=scenario.name,
        policy=run.policy,
        seed=run.seed,
        requests=int(judged.sum()),
        attainment=_mean(attained[judged]),
        attained_minutes=_mean(known >= share),
        worst_5_minutes=float(np.nanmin(worst)) if np.isfinite(worst).any() else math.nan,
        severity=_mean(seen.severity[judged]),
        failed=int((records["fate"] > layout.FINISHED).sum()),
        gpu_hours=gpu_hours(run),
        goodput=float(records["output"][attained].sum()) / (hours * 3600),
        ttft_p50=ttft[0],
        ttft_p95=ttft[1],
        ttft_p99=ttft[2],
        tpot_p50=tpot[0],
        tpot_p95=tpot[1],
        tpot_p99=tpot[2],
        e2e_p95=e2e,
        flaps_per_hour=_flaps(run) / hours,
        changes_per_hour=sum(at >= scenario.warmup for at, _ in run.requested[1:]) / hours,
        wasted_starts=sum(
            pod.created > 0 and pod.ended is not None and pod.ended - pod.created < _WASTED_SECONDS
            for pod in run.pods
        ),
        recover_s=_recovery(by_minute, share),
        over_replica_hours=over,
        under_replica_hours=under,
        safety=run.safety.total,
        down_while_incomplete=run.safety.down_while_incomplete,
        removed_in_outage=run.safety.removed_in_outage,
        zero_with_requests=run.safety.zero_with_requests,
        out_of_bounds=run.safety.out_of_bounds,
    )


def minutes(run: Run, seen: Verdicts) -> tuple[Floats, Floats]:
    """Return the attained and the judged requests by minute of arrival, after the warm-up."""
    scenario = run.scenario
    count = math.ceil((scenario.duration - scenario.warmup) / _MINUTE)
    index = ((seen.arrival - scenario.warmup) / _MINUTE).astype(np.int64)
    good = np.bincount(index, weights=seen.attained & seen.judged, minlength=count)
    total = np.bincount(index, weights=seen.judged, minlength=count)
    return good.astype(np.float64), total.astype(np.float64)


def gpu_hours(run: Run) -> float:
    """Return the replica-hours from the scheduling of each pod to its end."""
    start, end = run.scenario.warmup, run.scenario.duration
    return (
        sum(
            max(0.0, min(end, end if pod.ended is None else pod.ended) - max(start, pod.scheduled))
            for pod in run.pods
            if pod.scheduled is not None
        )
        / 3600
    )


def steps(
    changes: Sequence[tuple[float, int]], times: NDArray[np.floating[Any]]
) -> NDArray[np.int64]:
    """Return the value that was set last at each time."""
    moments = np.array([at for at, _ in changes])
    values = np.array([value for _, value in changes], dtype=np.int64)
    found: NDArray[np.int64] = values[
        np.maximum(0, np.searchsorted(moments, times, side="right") - 1)
    ]
    return found


def _areas(run: Run, oracle: Run) -> tuple[float, float]:
    times = np.arange(run.scenario.warmup, run.scenario.duration, 1.0)
    needed = steps(oracle.requested, times)
    over = np.maximum(0, steps(run.requested, times) - needed).sum() / 3600
    under = np.maximum(0, needed - steps(run.ready, times)).sum() / 3600
    return float(over), float(under)


def _flaps(run: Run) -> int:
    flaps, previous = 0, (-math.inf, 0)
    for (_, before), (at, after) in zip(run.requested, run.requested[1:], strict=False):
        direction = 1 if after > before else -1
        turned = direction == -previous[1] and at - previous[0] <= _FLAP_SECONDS
        if turned and at >= run.scenario.warmup:
            flaps += 1
        previous = (at, direction)
    return flaps


def _recovery(by_minute: Floats, share: float) -> float:
    """Return the mean time to recover; minutes without requests count neither way."""
    spans, began, good = [], None, 0
    known = [(index, value) for index, value in enumerate(by_minute) if not math.isnan(value)]
    for index, value in known:
        if value < share:
            began, good = (index if began is None else began), 0
        elif began is not None:
            good += 1
            if good == _GOOD_MINUTES:
                spans.append((index + 1 - _GOOD_MINUTES - began) * _MINUTE)
                began, good = None, 0
    if began is not None:
        spans.append((len(by_minute) - began) * _MINUTE)
    return sum(spans) / len(spans) if spans else 0.0


def _mean(values: NDArray[np.bool_] | Floats) -> float:
    return float(values.mean()) if len(values) else math.nan


def _quantiles(values: Floats, *shares: float) -> list[float]:
    values = values[np.isfinite(values)]
    return (
        [float(one) for one in np.quantile(values, shares)]
        if len(values)
        else [math.nan] * len(shares)
    )
