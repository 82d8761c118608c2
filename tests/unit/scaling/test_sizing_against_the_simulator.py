"""The formula for the time per output token, beside engines that are simulated step by step."""

from pathlib import Path

import numpy as np
import pytest

from slipstream_operator.core.scaling.models import sizing
from slipstream_operator.core.scaling.models.sizing import BatchLimits, Demand
from slipstream_operator.core.scaling.models.steptime import Coefficients
from slipstream_simulator import scenarios, score, simulation
from slipstream_simulator.policies.static import Static

ENGINE = Coefficients(0.007, 20e-6, 45e-9, 32e-6)
SCENARIO = """
apiVersion: simulation.slipstream.dev/v1alpha1
kind: Scenario
name: steady
duration: 30m
warmup: 5m
engine:
  {{alpha: 7ms, beta: 20us, gamma: 45ns, delta: 32us, kvTokens: 120000, maxSequences: 256, maxBatchedTokens: 8192}}
slo: {{ttft: {{p95: 1s}}, tpot: {{p95: 40ms}}}}
scaling: {{minReplicas: 1, maxReplicas: 32, initialReplicas: {replicas}}}
traffic:
  - arrivals: {{process: poisson, rate: {rate}}}
    prompt: {{distribution: lognormal, median: {prompt[0]}, mean: {prompt[1]}, max: 30000}}
    output: {{distribution: lognormal, median: {output[0]}, mean: {output[1]}, max: 2000}}
"""


@pytest.mark.parametrize("share", [0.95, 0.99])
@pytest.mark.parametrize(
    ("replicas", "rate", "prompt", "output"),
    [
        (4, 45.0, (1020, 1155), (129, 211)),
        (6, 45.0, (1020, 1155), (129, 211)),
        (2, 12.0, (1020, 1155), (129, 211)),
        (5, 12.0, (5500, 6000), (129, 150)),
        (7, 12.0, (5500, 6000), (129, 150)),
        (1, 3.0, (5500, 6000), (129, 150)),
        (3, 12.0, (450, 500), (1000, 1200)),
    ],
)
def test_the_tail_of_the_time_per_token_is_within_a_half(
    tmp_path: Path,
    replicas: int,
    rate: float,
    prompt: tuple[int, int],
    output: tuple[int, int],
    share: float,
) -> None:
    path = tmp_path / "steady.yaml"
    path.write_text(SCENARIO.format(replicas=replicas, rate=rate, prompt=prompt, output=output))
    run = simulation.run(scenarios.load(path), Static("static", replicas), seed=0)
    taken = score.verdicts(run).latency["tpot"]
    measured = float(np.nanquantile(taken, share))
    made = run.requests["output"].astype(float)
    context = float(np.average(run.requests["prompt"] + made / 2, weights=made))
    demand = Demand(rate, rate * prompt[1], rate * output[1], context)
    predicted = sizing.latency("tpot", share, ENGINE, demand, BatchLimits(120000, 256), replicas)
    assert 0.85 < predicted / measured < 1.5
