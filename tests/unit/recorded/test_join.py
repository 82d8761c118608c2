"""Records of engines divide the time that the router counts in a replica."""

import pytest

from slipstream_simulator.recorded import advice, attribution, causes, fitting, requests
from slipstream_simulator.recorded.requests import Recorded
from tests.support import recordings
from tests.support.recordings import record

SECONDS = {"queue": 0.5, "first": 0.7, "stream": 0.9, "client": 0.2}


def joined(one: Recorded, **engine: object) -> Recorded:
    fields = {"arrived": 1000.5, **engine}
    replica = str(fields.pop("replica", "pod-0"))
    found = requests.read_engine([recordings.engine_line(**fields)], replica=replica)
    return requests.join([one], found)[0]


def test_the_engine_s_causes_replace_the_time_in_the_replica() -> None:
    one = joined(record(seconds=SECONDS))
    assert causes.until_first_token(one) == pytest.approx(
        {
            "queue": 0.5, "wake": 0.0, "retry": 0.0, "router": 0.0, "engine_queue": 0.1, "prefill": 0.2,
            "others_prefill": 0.3, "decode": 0.0, "transfer": 0.1,
        }
    )  # fmt: skip
    whole = causes.until_end(one)
    assert sum(whole.values()) == pytest.approx(one.e2e)
    assert whole["others_prefill"] == pytest.approx(0.4)
    assert whole["decode"] == pytest.approx(0.6)
    assert whole["transfer"] == pytest.approx(0.3)
    assert not {"first", "stream"} & whole.keys()


def test_a_request_without_an_engine_s_record_is_not_divided() -> None:
    parts = causes.until_end(record(seconds=SECONDS))
    assert (parts["first"], parts["stream"]) == (0.7, 0.9)
    assert "prefill" not in parts


@pytest.mark.parametrize(
    "engine",
    [
        {"replica": "pod-1"},
        {"request": "11" * 8},
        {"arrived": 1090.0},
    ],
    ids=["other replica", "other id", "other time"],
)
def test_a_record_of_another_request_is_not_joined(engine: dict[str, object]) -> None:
    assert joined(record(seconds=SECONDS), **engine).engine is None


def test_of_several_requests_with_one_id_the_nearest_is_joined() -> None:
    lines = [recordings.engine_line(arrived=at, cachedTokens=int(at)) for at in (998.0, 1000.6)]
    [one] = requests.join([record(seconds=SECONDS)], requests.read_engine(lines, replica="pod-0"))
    assert one.engine is not None and one.engine.cached == 1000


def test_causes_never_add_up_to_more_than_the_router_measured() -> None:
    one = joined(record(seconds={"first": 0.3, "stream": 0.1}), arrived=1000.0)
    first = causes.until_first_token(one)
    assert first is not None
    assert sum(first.values()) == pytest.approx(0.3)
    assert sum(causes.until_end(one).values()) == pytest.approx(0.4)


def test_the_engine_knows_the_first_token_of_an_answer_that_is_no_stream() -> None:
    one = joined(record(streamed=False, seconds={"queue": 0.5, "first": 1.4}), outputTokens=8)
    assert one.ttft == pytest.approx(1.1)
    assert one.tpot == pytest.approx(0.7 / 7)
    first = causes.until_first_token(one)
    assert first is not None and sum(first.values()) == pytest.approx(1.1)


def test_an_engine_without_a_first_token_says_nothing() -> None:
    none = {"queue": 0.0, "prefill": 0.0}
    one = joined(record(streamed=False, seconds={"first": 1.0}), arrived=1000.0, firstSeconds=none,
                 seconds=none, cachedTokens=None)  # fmt: skip
    assert (one.ttft, one.tpot) == (None, None)
    assert causes.until_end(one)["first"] == 1.0


def test_the_engine_s_tokens_replace_the_router_s_estimate() -> None:
    one = joined(record(seconds=SECONDS, promptTokens=115), promptTokens=100, outputTokens=12)
    assert (one.prompt, one.output) == (100, 12)
    none = joined(record(seconds=SECONDS), promptTokens=0, outputTokens=0)
    assert (none.prompt, none.output) == (100, 11)


def test_cached_tokens_are_left_out_of_the_prefill_that_is_replayed() -> None:
    assert fitting.cached(joined(record(seconds=SECONDS))) == 64
    assert fitting.cached(joined(record(seconds=SECONDS), promptTokens=64)) == 63
    assert fitting.cached(record(seconds=SECONDS)) == 0


def test_every_cause_has_a_name_and_advice() -> None:
    for cause in causes.CAUSES:
        shares = attribution.Shares(1, 1.0, {cause: 1.0})
        found = attribution.Attribution(shares, shares, shares, shares)
        [(named, sentence)] = advice.sentences(found, service="chat")
        assert named == cause
        assert sentence.startswith("100% of TTFT ") and sentence.endswith(".")
