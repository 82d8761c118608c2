"""Shares of causes, misses and advice from the records of routers."""

import json

import pytest

from slipstream_operator.core.objectives import Objective
from slipstream_simulator.recorded import attribution, report, requests
from slipstream_simulator.recorded.requests import UnreadableRecordError
from tests.support import recordings
from tests.support.recordings import E2E, TTFT, record

TARGETS = attribution.limits([TTFT, E2E])


def test_the_parts_of_a_stream_give_its_latencies() -> None:
    seconds = {"queue": 1.0, "wake": 2.0, "retry": 3.0, "router": 0.5, "first": 4.0, "stream": 5.0}
    one = record(seconds={**seconds, "client": 6.0}, outputTokens=11)
    assert one.ttft == pytest.approx(10.5)
    assert one.tpot == pytest.approx(0.5)
    assert one.e2e == pytest.approx(21.5)
    assert one.sent == pytest.approx(1006.5)


def test_the_first_token_of_a_whole_answer_is_unknown_and_not_zero() -> None:
    whole = record(streamed=False, seconds={"first": 5.0})
    assert (whole.ttft, whole.tpot, whole.e2e) == (None, None, 5.0)
    assert record(outputTokens=1, seconds={"first": 1.0}).tpot is None
    [found] = attribution.attained([attribution.latencies(whole)], [TTFT])
    assert (found.known, found.share, found.met) == (0, None, None)
    assert attribution.attribute([whole], TARGETS).ttft.requests == 0


def test_shares_are_of_the_time_of_all_requests_and_of_those_that_missed() -> None:
    fast = record(seconds={"first": 0.3, "stream": 0.7})
    late = record(seconds={"queue": 0.6, "first": 0.1, "stream": 0.3})
    found = attribution.attribute([fast, late], TARGETS)
    assert found.ttft.by_cause == pytest.approx({"queue": 0.6, "first": 0.4})
    assert found.e2e.by_cause == pytest.approx({"queue": 0.3, "first": 0.2, "stream": 0.5})
    assert found.missed_ttft.by_cause == pytest.approx({"queue": 6 / 7, "first": 1 / 7})
    assert found.missed_e2e.requests == 1


def test_errors_and_canceled_requests_are_counted_but_take_no_share() -> None:
    answered = record(seconds={"first": 0.1})
    refused = record(status=429, replica="", seconds={"queue": 30.0})
    left = record(outcome="cancelled", status=499, seconds={"queue": 60.0})
    cut = record(outcome="broken", seconds={"first": 0.1, "stream": 9.0})
    found = report.report([answered, refused, left, cut], [TTFT], service="chat", until=2000.0)
    assert (found.requests, found.answered, found.cancelled, found.broken) == (4, 1, 1, 1)
    assert found.refused == {429: 1}
    assert found.causes.e2e.by_cause == {"first": 1.0}


def test_a_request_is_late_by_the_highest_percentile_of_a_metric() -> None:
    targets = attribution.limits([TTFT, Objective("ttft", "p50", 0.1, "100ms")])
    assert targets == {"ttft": 0.5}
    assert not attribution.missed({"ttft": 0.4}, targets)
    assert attribution.missed({"ttft": 0.6}, targets)
    assert not attribution.missed({"ttft": None}, targets)


def test_an_objective_is_met_by_enough_requests() -> None:
    seen = [{"ttft": 0.1}] * 19 + [{"ttft": 0.9}]
    [found] = attribution.attained(seen, [TTFT])
    assert (found.share, found.met) == (0.95, True)
    [found] = attribution.attained([*seen, {"ttft": 0.9}], [TTFT])
    assert found.met is False


@pytest.mark.parametrize(("share", "value"), [(0.5, 2), (0.95, 4), (0.25, 1), (0.0, 1)])
def test_quantiles_are_values_that_were_seen(share: float, value: float) -> None:
    assert attribution.quantile([4, 3, 2, 1], share) == value
    assert attribution.quantile([], share) is None


ROUTER = ("queue", "wake", "retry", "router", "first", "stream", "client")


@pytest.mark.parametrize("cause", ROUTER)
def test_the_largest_cause_has_the_first_sentence(cause: str) -> None:
    seconds = {cause: 1.0}
    found = report.report([record(seconds=seconds)], [], service="chat", until=2000.0)
    first, sentence = found.advice[0]
    assert first == cause
    assert sentence.endswith(".") and "%" in sentence and "{" not in sentence
    assert len(found.advice) == 1


def test_records_are_ordered_by_arrival() -> None:
    lines = [json.dumps(recordings.line(arrived=at)) for at in (3.0, 1.0, 2.0)]
    assert [one.arrived for one in requests.read(["", *lines])] == [1.0, 2.0, 3.0]


@pytest.mark.parametrize(
    "text",
    [
        "not found",
        "[]",
        "{}",
        json.dumps({**recordings.line(), "arrived": "yesterday"}),
        json.dumps({**recordings.line(), "seconds": {"queue": 1.0}}),
        json.dumps({**recordings.line(), "seconds": None}),
    ],
)
def test_a_line_that_is_no_record_is_refused(text: str) -> None:
    with pytest.raises(UnreadableRecordError, match="no record of a request"):
        requests.read([text])
