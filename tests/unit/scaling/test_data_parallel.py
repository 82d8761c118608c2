"""A replica of several data-parallel engines carries several times the load of one engine."""

import dataclasses
from typing import Any

import pytest

from slipstream_operator.core.scaling import demand, policy
from slipstream_operator.core.scaling.metrics import queries, query_results, signals
from slipstream_operator.core.scaling.metrics.values import Load, Sample
from slipstream_operator.core.scaling.models import sizing
from slipstream_operator.core.scaling.models.coldstart import ColdStart
from slipstream_operator.core.scaling.models.steptime import Coefficients, StepTimeModel
from slipstream_operator.core.scaling.state import Decision
from tests.support import given

ENGINES = 8
STEP = Coefficients(0.007, 20e-6, 60e-9, 32e-6)
KNOWN = StepTimeModel(coefficients=STEP, uncertainty=0.0)
TOKENS = 24_381.0
"""Output tokens per second of one replica, whose engines are half busy with it."""
PROMPT, OUTPUT = 1000.0, 400.0
CONTEXT = PROMPT + OUTPUT / 2
REQUESTS = TOKENS / OUTPUT
WORK = TOKENS * (STEP.beta + STEP.gamma * CONTEXT) + REQUESTS * PROMPT * STEP.delta
SECONDS = STEP.alpha / (1 - WORK / ENGINES)
BATCH = TOKENS / ENGINES * SECONDS
KV_TOKENS = 120_000


def replica() -> Load:
    """The load of one replica, as Prometheus sums it over its engines, but for the shares of the KV caches."""
    pod = given.pod_load(
        BATCH * ENGINES,
        kv=BATCH * CONTEXT / KV_TOKENS,
        output=TOKENS,
        prompt=REQUESTS * PROMPT,
        started=REQUESTS,
        finished=REQUESTS,
        steps=ENGINES / SECONDS,
        itl_sum=REQUESTS * (OUTPUT - 1) * SECONDS,
        itl_count=REQUESTS * (OUTPUT - 1),
    )
    return Load(
        pods=(pod,),
        complete=True,
        output_length=OUTPUT,
        prompt_length=PROMPT,
        kv_tokens=KV_TOKENS,
    )


def decided(engines: int, *, load: Load | None = None, **fields: Any) -> Decision:
    state = given.state(1, model=KNOWN, cold=ColdStart(5.0, 4.5, 0.01))
    readings = (given.reading(current=0.3, target=0.5),)
    inputs = given.inputs(load=load or replica(), readings=readings, engines=engines, **fields)
    return policy.decide(inputs, state)[0]


def test_a_half_busy_replica_of_eight_engines_stays_alone() -> None:
    found = decided(ENGINES)
    assert found.numbers is not None
    assert found.numbers.work == pytest.approx(0.53, abs=0.01)
    assert found.numbers.requests == pytest.approx(REQUESTS)
    assert found.desired == 1


def test_the_same_load_keeps_four_replicas_of_one_engine_busy() -> None:
    found = decided(1, load=dataclasses.replace(replica(), kv_tokens=ENGINES * KV_TOKENS))
    assert found.numbers is not None
    assert found.numbers.work == pytest.approx(4.2, abs=0.1)
    assert found.numbers.need >= 5


def test_the_engines_of_a_replica_count_as_that_many_replicas_of_one_engine() -> None:
    load = replica()
    whole = demand.estimate(load, window=60.0)
    part = demand.estimate(load, window=60.0, engines=ENGINES)
    assert part.requests * ENGINES == pytest.approx(whole.requests)
    for count in (1, 2, 3):
        one = sizing.operate(STEP, part, count)
        many = sizing.operate(STEP, dataclasses.replace(whole, context=CONTEXT), count * ENGINES)
        assert one is not None
        assert many is not None
        assert dataclasses.astuple(one) == pytest.approx(dataclasses.astuple(many), rel=1e-6)


def test_a_step_is_that_of_one_engine() -> None:
    [seen] = demand.observations(replica(), window=60.0, engines=ENGINES)
    assert seen.batch == pytest.approx(BATCH)
    assert seen.context == pytest.approx(BATCH * CONTEXT)
    assert seen.seconds == pytest.approx(SECONDS)
    assert demand.context(replica(), engines=ENGINES) == pytest.approx(CONTEXT)


def test_a_queue_that_one_step_of_the_engines_takes_adds_no_replica() -> None:
    [pod] = replica().pods
    waiting = dataclasses.replace(pod, waiting=7.0, waiting_mean=7.0)
    quiet = dataclasses.replace(replica(), pods=(waiting,))
    assert decided(ENGINES, load=quiet).desired == 1


def test_a_throughput_is_shared_by_all_engines() -> None:
    objectives = dataclasses.replace(given.inputs().objectives, throughput=TOKENS)
    assert decided(ENGINES, objectives=objectives).desired == 1
    doubled = dataclasses.replace(objectives, throughput=2 * TOKENS)
    assert decided(ENGINES, objectives=doubled).desired > 1


def sample(value: float, **labels: str) -> Sample:
    return Sample({"namespace": given.NAMESPACE, "service": given.NAME, **labels}, value)


def test_the_capacity_of_one_engine_is_its_own_metric_and_not_the_sum_of_vllms_blocks() -> None:
    blocks = sample(1.0, num_gpu_blocks="60000", block_size="16")
    results = query_results.alone({queries.KV_TOKENS: [blocks, sample(KV_TOKENS)]})
    assert signals.kv_capacity(results) == KV_TOKENS


def test_the_largest_batch_is_known_once_the_engines_report_it() -> None:
    results = query_results.alone({queries.SEQUENCES: [sample(8192.0)]})
    assert signals.max_sequences(results, revision="a") == 8192
    assert signals.max_sequences(query_results.alone({}), revision="a") is None


def test_sequences_are_those_of_the_revision_that_is_sized() -> None:
    old, new = (
        Sample({**sample(0.0).labels, "revision": revision}, value)
        for revision, value in (("old", 2048.0), ("new", 256.0))
    )
    results = query_results.alone({queries.SEQUENCES: [old, new]})
    assert signals.max_sequences(results, revision="old") == 2048
    assert signals.max_sequences(results, revision="new") == 256
    assert signals.max_sequences(results, revision="other") is None


def test_prometheus_sums_the_load_of_a_pods_engines_and_averages_their_caches() -> None:
    asked = queries.every_tick(window=60.0)
    of_a_pod = {
        name: str(asked[name]).partition(" by (namespace, service, pod)")[0]
        for name in (
            queries.RUNNING,
            queries.OUTPUT,
            queries.STEPS,
            queries.KV_MEAN,
            queries.KV_USAGE,
        )
    }
    assert of_a_pod == {
        queries.RUNNING: "sum",
        queries.OUTPUT: "sum",
        queries.STEPS: "sum",
        queries.KV_MEAN: "avg",
        queries.KV_USAGE: "max",
    }
