"""The compiled kernel is the engine model, many times; and its router and clients do what they say."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slipstream_operator.simulator.kernel import fleet
from slipstream_runtime.simulator import model, replay


def kernel(parameters: model.Parameters, requests: list[model.Request], **more) -> fleet.Kernel:
    requests = sorted(requests, key=lambda request: request.arrival)
    records = fleet.requests(
        np.array([request.arrival for request in requests]),
        np.array([request.prompt for request in requests]),
        np.array([request.output for request in requests]),
        shared=np.array([request.cached for request in requests]),
        hit=np.ones(len(requests)),
    )
    return fleet.Kernel(parameters, records, **more)


# NB: the kernel is compiled once for each version of its sources.
pytestmark = pytest.mark.timeout(300)


@st.composite
def workloads(draw: st.DrawFn) -> tuple[model.Parameters, list[model.Request]]:
    kv_tokens = draw(st.integers(20, 400))
    max_sequences = draw(st.integers(1, 12))
    parameters = model.Parameters(
        alpha=draw(st.floats(1e-3, 1e-2)),
        gamma=draw(st.sampled_from([0.0, 6e-8, 1e-4])),
        kv_tokens=kv_tokens,
        max_sequences=max_sequences,
        max_batched_tokens=max_sequences + draw(st.integers(0, 64)),
    )
    requests = []
    for key in range(draw(st.integers(1, 30))):
        prompt = draw(st.integers(1, kv_tokens))
        output = draw(st.integers(1, min(60, kv_tokens - prompt + 1)))
        cached = draw(st.integers(0, prompt - 1))
        arrival = draw(st.one_of(st.floats(0, 1), st.sampled_from([0.0, 0.25, 0.5])))
        requests.append(model.Request(key, arrival, prompt, output, cached))
    return parameters, requests


@given(workloads())
@settings(deadline=None, max_examples=200)
def test_one_pod_serves_as_the_engine_model_does(
    workload: tuple[model.Parameters, list[model.Request]],
) -> None:
    parameters, requests = workload
    expected = replay.replay(parameters, requests)
    one = kernel(parameters, requests, slots=1)
    slot = one.open(0.0)
    one.advance(math.inf)
    np.testing.assert_allclose(one.records["first"], [o.first for o in expected], rtol=1e-9)
    np.testing.assert_allclose(one.records["finished"], [o.finished for o in expected], rtol=1e-9)
    pod = one.state.pods[slot]
    assert pod["kv_used"] == pod["running"] == pod["waiting"] == pod["decoding"] == 0
    assert pod["preemptions"] == sum(o.preemptions for o in expected)
    assert pod["tokens"] == sum(request.output for request in requests)
