"""Scenarios by chance: engines, objectives, lengths, loads, starts and faults that no policy was tuned to."""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from slipstream_operator.core.scaling.models import sizing
from slipstream_operator.core.scaling.models.steptime import Coefficients
from slipstream_simulator import scenarios
from slipstream_simulator.scenarios import EngineSpec, Scenario

Data: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True)
class Engine:
    """A model on an accelerator, and the objectives that it is given."""

    spec: Data
    slo: Data


ENGINES: Final = (
    Engine(
        {"alpha": "7ms", "beta": "20us", "gamma": "45ns", "delta": "32us", "kvTokens": 120_000},
        {"ttft": {"p95": "1s"}, "tpot": {"p95": "40ms"}},
    ),
    Engine(
        {
            "alpha": "16ms",
            "beta": "60us",
            "gamma": "90ns",
            "delta": "80us",
            "kvTokens": 250_000,
            "maxSequences": 128,
        },
        {"ttft": {"p95": "2s"}, "tpot": {"p95": "60ms"}},
    ),
    Engine(
        {"alpha": "4ms", "beta": "12us", "gamma": "25ns", "delta": "14us", "kvTokens": 80_000},
        {"ttft": {"p95": "600ms"}, "tpot": {"p95": "25ms"}},
    ),
)
"""8B parameters on one accelerator, a model several times as large, and a small one."""
PROMPTS: Final = ((450, 500, 4000), (1020, 1155, 8000), (2500, 2900, 8000))
OUTPUTS: Final = ((60, 90, 800), (129, 211, 2000), (250, 330, 3000))
"""Median, mean and maximum, in tokens."""
STARTS: Final = (20, 60, 120, 120, 240)
"""Medians of cold starts in seconds."""
FAULTS: Final = (
    {"at": "50m", "slowPod": {"count": 1, "speed": 0.6}, "for": "30m"},
    {"at": "50m", "losePods": "20%", "restore": "10m"},
    {"at": "40m", "metricsOutage": "6m"},
    {"at": "0s", "noise": "10%"},
)
_FAULTY: Final = 0.3
"""Share of the scenarios that have one."""
_FULL: Final = 0.65
"""Utilization at which such objectives are about to be missed."""


def draw(number: int, *, seed: int) -> Scenario:
    """One of the scenarios of this seed, always the same."""
    dice = random.Random(f"{seed}/{number}")
    engine, prompt, output = dice.choice(ENGINES), dice.choice(PROMPTS), dice.choice(OUTPUTS)
    replica = _FULL / _work(EngineSpec.model_validate(engine.spec), prompt[1], output[1])
    high = dice.uniform(3.0, 12.0) * replica
    low = high * dice.uniform(0.2, 0.6)
    minutes = dice.choice((120, 150, 180))
    kind = dice.choice(sorted(LOADS))
    arrivals = LOADS[kind](dice, low, high, minutes)
    median = dice.choice(STARTS)
    data = {
        "apiVersion": "simulation.slipstream.dev/v1alpha1",
        "kind": "Scenario",
        "name": f"drawn-{number:03}-{kind}",
        "duration": f"{minutes}m",
        "warmup": "10m",
        "seeds": 1,
        "engine": engine.spec,
        "slo": engine.slo,
        "scaling": {"maxReplicas": 40, "initialReplicas": max(2, round(1.4 * low / replica))},
        "coldStart": {"distribution": "lognormal", "median": f"{median}s", "sigma": 0.3},
        "metrics": {"scrape": "15s", "lag": "5s"},
        "client": {"timeout": "60s", "retries": 1},
        "traffic": [{"arrivals": arrivals, "prompt": _lengths(prompt), "output": _lengths(output)}],
        "events": [dice.choice(FAULTS)] if dice.random() < _FAULTY else [],
    }
    return scenarios.parse(data, what=f"scenario {number} of seed {seed}")


def _steady(dice: random.Random, low: float, high: float, _: int) -> Data:
    return {**_process(dice), "rate": (low + high) / 2}


def _bursts(_: random.Random, low: float, high: float, __: int) -> Data:
    return {"process": "gamma", "cv": 4, "rate": (low + high) / 2}


def _waves(dice: random.Random, low: float, high: float, _: int) -> Data:
    period = dice.choice((60, 90, 120))
    wave = {"peak": high, "trough": low, "period": f"{period}m", "peakAt": f"{period // 2}m"}
    return {**_process(dice), "diurnal": wave}


def _ramp(dice: random.Random, low: float, high: float, _: int) -> Data:
    up, down = 25 + dice.randint(15, 40), 75 + dice.randint(10, 25)
    points = [["0s", low], ["25m", low], [f"{up}m", high], ["75m", high], [f"{down}m", low]]
    return {**_process(dice), "rate": points}


def _walk(dice: random.Random, low: float, high: float, minutes: int) -> Data:
    at, rate, points = 0, low, [["0s", low]]
    while at < minutes - 20:
        at += dice.randint(10, 25)
        points.append([f"{at}m", rate])
        at += dice.randint(3, 8)
        rate = min(high, max(low, rate * dice.choice((0.7, 0.8, 1.25, 1.4))))
        points.append([f"{at}m", rate])
    return {**_process(dice), "rate": points}


def _drift(dice: random.Random, low: float, high: float, _: int) -> Data:
    drift = {"sd": dice.choice((0.1, 0.15, 0.2)), "tau": f"{dice.choice((20, 40))}m"}
    return {**_process(dice), "rate": (low + high) / 2, "drift": drift}


LOADS: Final[Mapping[str, Callable[[random.Random, float, float, int], Data]]] = {
    "steady": _steady,
    "bursts": _bursts,
    "waves": _waves,
    "ramp": _ramp,
    "walk": _walk,
    "drift": _drift,
}
"""Arrivals between two rates, in requests per second, over so many minutes."""


def _process(dice: random.Random) -> Data:
    cv = dice.choice((None, 1.3, 2, 3))
    return {"process": "poisson"} if cv is None else {"process": "gamma", "cv": cv}


def _work(engine: EngineSpec, prompt: float, output: float) -> float:
    """Of one request per second, in replicas."""
    step = Coefficients(engine.alpha, engine.beta, engine.gamma, engine.delta)
    return sizing.work(step, sizing.Demand(1.0, prompt, output, prompt + output / 2))


def _lengths(of: tuple[int, int, int]) -> Data:
    median, mean, most = of
    return {"distribution": "lognormal", "median": median, "mean": mean, "max": most}
