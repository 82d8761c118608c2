"""Loads on one engine for property tests: small limits, so that batches and KV caches fill."""

from hypothesis import strategies as st

from slipstream_runtime.simulator import model


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
