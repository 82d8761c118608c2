"""status.profile: where time goes, from the series of routers and engines."""

import dataclasses
from typing import Any

import pytest

from slipstream_operator.api.servingprofile import Accelerator
from slipstream_operator.core import profile, roofline
from slipstream_operator.core.roofline import Roofline
from slipstream_operator.core.scaling.metrics import queries, query_results
from slipstream_operator.core.scaling.metrics.values import Sample, Unknown
from slipstream_operator.core.scaling.models.steptime import Coefficients
from tests.support.statuses import RESOLVED, measure, summarize

ROUTER = {
    "queue": 30.0,
    "wake": 0.0,
    "retry": 0.0,
    "first": 25.0,
    "stream": 46.0,
    "client": 0.0,
    "router": 0.0,
}
FIRST = {"queue": 5.0, "prefill": 10.0, "others_prefill": 5.0, "decode": 0.0}
REST = {"others_prefill": 10.0, "decode": 40.0, "queue": 0.0}
STEPS = {
    queries.STEP_SECONDS: {"decode": 8.0, "prefill": 2.0},
    queries.STEP_COUNTS: {"decode": 1000.0, "prefill": 100.0},
    queries.STEP_SEQUENCES: {"decode": 4000.0, "prefill": 500.0},
}
ROOFLINE = Roofline(weights=16 * 10**9, bandwidth=3.35e12, parameters=8e9, compute=989e12)


def _samples(**gone: Any) -> dict[str, Any]:
    """Return the results of a round; `gone` replaces those of a query."""
    engine = [
        Sample({"part": part, "cause": cause}, value)
        for part, causes in (("first", FIRST), ("rest", REST))
        for cause, value in causes.items()
    ]
    found: dict[str, Any] = {
        queries.ENGINE_TIMES: engine,
        queries.ROUTER_TIMES: [Sample({"cause": cause}, value) for cause, value in ROUTER.items()],
        **{
            name: [Sample({"kind": kind}, value) for kind, value in kinds.items()]
            for name, kinds in STEPS.items()
        },
    }
    return {**found, **gone}


def _read(**gone: Any) -> profile.Profile:
    found = profile.read(query_results.alone(_samples(**gone)), sequences=64, kv=0.4)
    assert found is not None
    return found


def _status(found: profile.Profile, facts: Roofline | str = "it is not stated") -> Any:
    measured = dataclasses.replace(measure(), profile=found)
    resolved = dataclasses.replace(RESOLVED, roofline=facts)
    return summarize(resolved=resolved, measured=measured).get("profile")


def test_a_whole_profile() -> None:
    assert _status(_read(), ROOFLINE) == {
        "ttft": "queue 70%, prefill 20%, others_prefill 10%",
        "e2e": "decode 40%, queue 35%, others_prefill 15%, prefill 10%",
        "steps": "prefill 20%, decode 80%",
        "batch": "4.1 of 64 (6%)",
        "kv": "40%",
        "decode": "8 ms; at least 4.78 ms by memory bandwidth",
        "bottleneck": "40% of the time of requests is decoding, 1.7 times the bound by memory bandwidth.",
    }


def test_time_between_router_and_engine_is_a_cause_of_its_own() -> None:
    slow = [Sample({"cause": cause}, value) for cause, value in {**ROUTER, "first": 125.0}.items()]
    found = _read(**{queries.ROUTER_TIMES: slow})
    assert next(iter(profile.shares(found.whole))) == profile.NETWORK


def test_without_a_router_the_engine_says_all() -> None:
    found = _read(**{queries.ROUTER_TIMES: []})
    assert profile.shares(found.first) == {
        "prefill": 0.5,
        "others_prefill": 0.25,
        "queue": 0.25,
        "decode": 0.0,
    }
    assert profile.NETWORK not in (found.whole or {})


@pytest.mark.parametrize("gone", [[], Unknown("no answer")])
def test_what_is_missing_is_unknown(gone: Any) -> None:
    found = _read(**{queries.ENGINE_TIMES: gone})
    assert found.first is None  # the router's first byte may be that of a whole answer
    assert next(iter(profile.shares(found.whole))) == "stream"
    assert "ttft" not in _status(found)
    found = _read(**{queries.STEP_COUNTS: gone})
    assert (found.decode, found.batch, found.occupancy) == (None, None, None)
    assert not {"decode", "batch", "steps"} & set(_status(found))
    found = _read(**{queries.ENGINE_TIMES: gone, queries.ROUTER_TIMES: gone})
    assert "bottleneck" not in _status(found)


def test_causes_that_no_router_or_engine_has_are_left_out() -> None:
    odd = [Sample({"cause": "x" * 5000}, 1e9), Sample({"cause": "wake"}, 3.0)]
    found = _read(**{queries.ROUTER_TIMES: odd, queries.ENGINE_TIMES: []})
    assert _status(found)["e2e"] == "wake 100%"


def test_no_requests_have_no_shares() -> None:
    nothing = [Sample({"cause": "queue"}, 0.0)]
    found = _read(**{queries.ENGINE_TIMES: [], queries.ROUTER_TIMES: nothing})
    assert found.whole is None


def test_a_round_without_the_queries_has_no_profile() -> None:
    assert profile.read(query_results.alone({queries.GAIN: []}), sequences=None, kv=None) is None
    assert "profile" not in summarize()


def test_the_bound_of_a_large_batch_is_computing() -> None:
    kind = profile.Kind(seconds=10.0, count=100.0, sequences=60_000.0)
    found = profile.step(profile.Profile(decode=kind), ROOFLINE, None)
    assert found is not None
    assert (found.bound, found.least) == ("compute", pytest.approx(0.0097, rel=0.01))


def test_without_facts_the_learned_step_time_says_what_steps_are_for() -> None:
    found = _read()
    weights = profile.step(found, "it is not stated", Coefficients(0.007, 1e-4, 0.0, 0.0))
    each = profile.step(found, "it is not stated", Coefficients(0.001, 1e-3, 0.0, 0.0))
    assert weights is not None and weights.bound == "reading the weights, as measured"
    assert each is not None and each.bound == "work for each sequence, as measured"
    unknown = profile.step(found, "it is not stated", None)
    assert unknown is not None and unknown.least is None
    measured = dataclasses.replace(measure(), profile=found)
    resolved = dataclasses.replace(RESOLVED, roofline="it is not stated")
    shown = summarize(resolved=resolved, measured=measured, state=None)["profile"]["decode"]
    assert shown == "8 ms; the shortest time is unknown because it is not stated"


def test_a_full_batch_is_named_as_the_reason_of_a_queue() -> None:
    found = dataclasses.replace(_read(), whole={"queue": 9.0, "decode": 1.0}, sequences=4)
    assert profile.bottleneck(found, None) == (
        "90% of the time of requests is waiting in queues: more replicas or sequences would shorten it, "
        "and the batch is full."
    )


def test_facts_that_the_profile_does_not_state_are_named() -> None:
    cpu = roofline.of(Accelerator(name="cpu"), None)
    gpu = roofline.of(Accelerator(name="h100", resource_name="nvidia.com/gpu"), None)
    assert cpu == "the bandwidth of its memory is not stated"
    assert gpu == "accelerator h100 of the ServingProfile states no memoryBandwidth"
