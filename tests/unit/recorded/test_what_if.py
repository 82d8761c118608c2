"""Engines fitted to records, and replays with other settings against what the simulated service would really do."""

import functools
import math
from dataclasses import replace

import pytest

from slipstream_operator.core.scaling.models.steptime import Coefficients
from slipstream_runtime.simulator import model
from slipstream_simulator.recorded import attribution, fitting, what_if
from slipstream_simulator.recorded.fitting import Fitted
from slipstream_simulator.recorded.fleet import Arrival, Span
from slipstream_simulator.recorded.requests import Recorded
from slipstream_simulator.recorded.what_if import Recording, RefusedError, Setting
from tests.support import recordings
from tests.support.recordings import E2E, TTFT, record

LIMITS = model.Parameters(max_sequences=8, max_batched_tokens=512, kv_tokens=40_000)
ENGINE = replace(LIMITS, alpha=0.02, beta=3e-4, gamma=2e-7, delta=1e-4)
OVERHEAD = 0.004
OBJECTIVES = [TTFT, E2E]


@functools.cache
def recorded() -> list[Recorded]:
    return recordings.play(ENGINE, load(), replicas=2, overhead=OVERHEAD)


@functools.cache
def fitted() -> Fitted:
    return fitting.of_records(recorded(), limits=LIMITS)


KNOWN = Fitted(ENGINE, "known", 0)


def load() -> list[Arrival]:
    return recordings.traffic(seed=3, rate=13.0, number=1000, prompt=150, output=40)


def recording(records: list[Recorded], *, limits: model.Parameters = LIMITS) -> Recording:
    until = max(one.ended for one in records) + 60.0
    spans = what_if.spans(records, until=until)
    return Recording(records, since=0.0, until=until, setting=Setting(limits, None, spans))


def attainment(records: list[Recorded]) -> float:
    targets = attribution.limits(OBJECTIVES)
    late = [attribution.missed(attribution.latencies(one), targets) for one in records]
    return 1 - sum(late) / len(late)


def test_the_step_times_come_back_from_the_records() -> None:
    check(fitted())


def test_the_step_times_come_back_from_answers_that_are_no_streams() -> None:
    records = recordings.play(ENGINE, load()[:400], replicas=2, overhead=OVERHEAD, streamed=False)
    check(fitting.of_records(records, limits=LIMITS))


def check(found: Fitted) -> None:
    assert found.parameters.alpha == pytest.approx(ENGINE.alpha, rel=0.1)
    assert found.parameters.delta == pytest.approx(ENGINE.delta, rel=0.2)
    assert found.requests > 300


def test_too_few_records_are_no_engine() -> None:
    with pytest.raises(ValueError, match="at least 20"):
        fitting.of_records([record(seconds={"first": 0.1, "stream": 1.0})] * 5, limits=LIMITS)


CHANGES = {
    "replicas=3": (ENGINE, 3),
    "replicas=1": (ENGINE, 1),
    "batching.maxSequences=4": (replace(ENGINE, max_sequences=4), 2),
    "batching.maxSequences=24": (replace(ENGINE, max_sequences=24), 2),
    "batching.maxBatchedTokens=128": (replace(ENGINE, max_batched_tokens=128), 2),
    "replicas=3,batching.maxSequences=4": (replace(ENGINE, max_sequences=4), 3),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_replay_attains_what_the_changed_service_would(change: str) -> None:
    records = recorded()
    found = what_if.study(recording(records), fitted(), what_if.parse(change), OBJECTIVES)
    parameters, replicas = CHANGES[change]
    really = attainment(recordings.play(parameters, load(), replicas=replicas, overhead=OVERHEAD))
    assert found.recorded.attainment == pytest.approx(attainment(records))
    assert found.error is not None and abs(found.error) < 0.03
    assert found.changed.attainment == pytest.approx(really, abs=0.03)


def test_requests_that_would_have_met_their_objectives_are_counted() -> None:
    found = what_if.study(recording(recorded()), KNOWN, {"replicas": 8}, OBJECTIVES)
    missed = sum(found.recorded.missed)
    assert missed > 50
    assert 0.9 * missed < found.recovered <= missed
    assert found.replicas == 2


def test_the_operator_s_step_times_replace_those_of_records() -> None:
    learned = Coefficients(ENGINE.alpha, ENGINE.beta, ENGINE.gamma, ENGINE.delta)
    assert fitting.of_operator(learned, limits=LIMITS).parameters == ENGINE


def test_requests_before_the_period_load_the_engines_but_are_not_judged() -> None:
    records = recorded()
    whole = recording(records)
    part = replace(whole, since=records[400].arrived)
    all_of_it = what_if.study(whole, KNOWN, {"replicas": 2}, OBJECTIVES).replayed.latencies
    found = what_if.study(part, KNOWN, {"replicas": 2}, OBJECTIVES).replayed.latencies
    assert found == all_of_it[400:]


def test_requests_at_the_end_of_the_recording_are_not_judged() -> None:
    slow, fast = (record(seconds={"first": took}) for took in (10.0, 0.1))
    requests = [replace(slow, arrived=0.0), replace(fast, arrived=5.0), replace(fast, arrived=95.0)]
    whole = recording(requests)
    assert replace(whole, until=100.0).judged() == [True, True, False]


def test_only_answers_of_replicas_are_judged() -> None:
    requests = [
        record(seconds={"first": 0.1}),
        record(status=429, replica=""),
        record(replica="", seconds={"router": 0.1}),
        record(outcome="cancelled", status=499),
    ]
    assert replace(recording(requests), until=2000.0).judged() == [True, False, False, False]


def test_replicas_serve_from_their_first_request_to_their_last() -> None:
    requests = [
        record(replica="old", arrived=100.0),
        record(replica="old", arrived=200.0),
        record(replica="new", arrived=300.0),
        record(replica="new", arrived=990.0),
    ]
    assert what_if.spans(requests, until=1000.0) == (Span(100.0, 200.0), Span(300.0))


def test_a_minimum_adds_replicas_only_while_there_are_fewer() -> None:
    setting = Setting(LIMITS, None, (Span(100.0, 200.0), Span(150.0)))
    found = what_if.CHANGES["scaling.minReplicas"](setting, 2).spans
    added = {(span.start, span.end) for span in found[2:]}
    assert added == {(-math.inf, 100.0), (100.0, 150.0), (200.0, math.inf)}
    assert sum(span.start == -math.inf for span in found) == 2
    assert what_if.most(found) == 2


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("quantization.method=fp8", "quantization.method.*must be|not known before it is measured"),
        ("scaling.maxReplicas=4", "slipstream simulate"),
        ("color=3", 'color.*no model of it. Use replicas, scaling.minReplicas'),
        ("replicas=0", 'replicas: "0" can\'t work'),
        ("replicas=two", 'replicas: "two" can\'t work'),
        ("replicas=1.5", "whole number"),
        ("replicas", 'replicas: "" can\'t work'),
        ("replicas=2,spec.replicas=3", "given twice"),
        ("replicas=99999999", "from 1 to"),
    ],
)  # fmt: skip
def test_settings_that_a_replay_can_t_change_are_refused_by_name(text: str, problem: str) -> None:
    with pytest.raises(RefusedError, match=problem):
        what_if.parse(text)


def test_several_settings_change_at_once() -> None:
    assert what_if.parse("spec.replicas=3, batching.maxBatchedTokens=4096") == {
        "replicas": 3,
        "batching.maxBatchedTokens": 4096,
    }


def test_batched_tokens_below_the_sequences_are_refused() -> None:
    records = [record(seconds={"first": 0.1, "stream": 0.1})]
    with pytest.raises(RefusedError, match="can't be less than maxSequences"):
        what_if.study(recording(records), KNOWN, {"batching.maxBatchedTokens": 4}, OBJECTIVES)
