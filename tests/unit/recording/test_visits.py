"""Parts of a request's time in an engine."""

import json
import math

import pytest

from slipstream_runtime.recording import headers
from slipstream_runtime.recording.journal import Journal
from slipstream_runtime.recording.recorder import Form, Outcome, Recorder
from slipstream_runtime.recording.steps import Steps
from slipstream_runtime.recording.times import CAUSES, FORM, Times
from slipstream_runtime.recording.visits import Visit


class _Closed:
    def __init__(self, times: Times) -> None:
        self._times = times

    def close(self) -> Times:
        return self._times


def _visit(*found: Times, known_prefix: float | None = None, queue: float = 0.0) -> Visit:
    visit = Visit("a", arrived=0.0, known_prefix=known_prefix)
    visit.sequences = [_Closed(each) for each in found]
    visit.queue = queue
    return visit


def _read(*, cached: int = 0) -> tuple[Steps, Times]:
    """A prompt of 100 tokens, queued at 1, in a step from 2 to 3 with 300 tokens of other prompts."""
    steps = Steps()
    steps.add(began=2.0, ended=3.0, prompt=400 - cached, decoded=0, sequences=2)
    times = Times(100)
    times.begin(steps, queued=1.0, scheduled=2.0, first=3.0, computed=100 - cached, cached=cached)
    return steps, times


def test_the_parts_add_up_to_the_request_s_time() -> None:
    steps, times = _read()
    steps.add(began=3.0, ended=4.0, prompt=0, decoded=1, sequences=1)
    times.end(steps, last=4.0, output=2)
    visit = _visit(times, queue=0.25)
    visit.first = 3.5
    closed = visit.close(5.0)
    parts = dict(zip(CAUSES, closed.parts, strict=True))
    assert sum(closed.parts) == pytest.approx(5.0) == closed.took
    assert sum(closed.first) == pytest.approx(3.5)
    assert parts["queue"] == pytest.approx(1.25)
    assert parts["prefill"] == pytest.approx(0.25)
    assert parts["others_prefill"] == pytest.approx(0.75)
    assert parts["decode"] == pytest.approx(1.0)
    numbers = dict(zip(FORM.numbers, closed.numbers, strict=True))
    assert numbers["batch"] == pytest.approx(1.5)
    assert math.isnan(numbers["coldTokens"])


def test_waiting_for_a_step_of_others_prompts_is_not_queueing() -> None:
    steps = Steps()
    steps.add(began=0.0, ended=2.0, prompt=2048, decoded=0, sequences=1)
    steps.add(began=2.0, ended=3.0, prompt=100, decoded=0, sequences=1)
    times = Times(100)
    times.begin(steps, queued=0.5, scheduled=2.0, first=3.0, computed=100, cached=0)
    assert times.queue == pytest.approx(0.0)
    assert times.others_first == pytest.approx(1.5)
    assert times.prefill == pytest.approx(1.0)


def test_the_prompt_that_a_replica_had_read_and_this_cache_lacks_is_a_cold_prefix() -> None:
    steps, times = _read(cached=20)
    times.end(steps, last=3.0, output=1)
    parts = dict(zip(CAUSES, _visit(times, known_prefix=0.6).close(3.0).parts, strict=True))
    assert parts["cold_prefix"] == pytest.approx(parts["prefill"])  # 40 of the 80 computed tokens
    parts = dict(zip(CAUSES, _visit(times, known_prefix=0.2).close(3.0).parts, strict=True))
    assert parts["cold_prefix"] == 0


def test_preemption_lasts_from_the_loss_to_the_next_token() -> None:
    steps, times = _read()
    steps.add(began=3.0, ended=5.0, prompt=0, decoded=1, sequences=1)
    steps.add(began=5.0, ended=7.0, prompt=100, decoded=0, sequences=1)
    times.lose(steps, start=4.0, end=7.0)
    times.end(steps, last=7.0, output=3)
    assert times.preempted_rest == pytest.approx(3.0)
    assert times.others_rest == pytest.approx(0.0)
    assert times.decode == pytest.approx(1.0)
    assert times.preemptions == 1


def test_a_request_without_a_token_says_nothing_of_the_engine() -> None:
    closed = _visit(Times(100), queue=1.0).close(4.0)
    parts = dict(zip(CAUSES, closed.parts, strict=True))
    assert (parts["queue"], parts["engine"]) == (1.0, 3.0)
    assert set(closed.first) == {0.0}
    assert all(map(math.isnan, closed.numbers))


def test_of_several_sequences_the_last_one_decides_and_all_tokens_count() -> None:
    steps, short = _read()
    _, long = _read()
    steps.add(began=3.0, ended=6.0, prompt=0, decoded=1, sequences=1)
    short.end(steps, last=3.0, output=1)
    long.end(steps, last=6.0, output=4)
    closed = _visit(short, long).close(6.0)
    assert dict(zip(CAUSES, closed.parts, strict=True))["decode"] == pytest.approx(3.0)
    assert closed.output == 5


def test_a_journal_keeps_one_record_and_the_sums() -> None:
    now = [10.0]
    journal = Journal("chat", clock=lambda: now[0])
    visit = journal.arrive([(b"x-request-id", b"mine"), (b"x-slipstream-prefix", b"0.5")])
    assert visit.known_prefix == 0.5
    visit.queue = 2.0
    now[0] = 13.0
    journal.end(visit, status=200, outcome=Outcome.ANSWERED, streamed=False)
    [record] = journal.recorder.asked({"request": "mine", "service": "chat"})
    assert record["seconds"] == dict.fromkeys(map(str, CAUSES), 0.0) | {"queue": 2.0, "engine": 1.0}
    assert record["cachedTokens"] is None
    assert "mine" not in json.dumps(record)
    assert sum(journal.first.seconds) == 0.0
    assert sum(journal.rest.seconds) == pytest.approx(3.0)


def test_no_sum_ever_falls() -> None:
    steps, times = _read()
    times.end(steps, last=3.0, output=1)
    journal = Journal("chat", clock=lambda: 3.0)
    visit = _visit(times, known_prefix=1.0)
    visit.first = 2.9999999  # seen by another clock than the engine's end
    for _ in range(100):
        before = [*journal.first.seconds, *journal.rest.seconds]
        journal.end(visit, status=200, outcome=Outcome.ANSWERED, streamed=False)
        after = [*journal.first.seconds, *journal.rest.seconds]
        assert all(now >= then for now, then in zip(after, before, strict=True))


def test_a_full_ring_takes_less_than_64_mib() -> None:
    recorder = Recorder(FORM, now=lambda: 100.0)
    assert FORM.layout().size * 131_072 < 64 * 2**20
    floats = (0.0,) * (2 * len(CAUSES) + len(FORM.numbers))
    recorder.add(
        "a", floats, took=1.0, service="s", replica="r", status=200,
        outcome=Outcome.ANSWERED, prompt=1, output=1,
    )  # fmt: skip
    assert len([*recorder.read()]) == 1


def test_numbers_are_shown_as_they_are_and_unknown_ones_as_null() -> None:
    recorder = Recorder(Form({"seconds": ("a",)}, ("x", "y", "z")), now=lambda: 100.0)
    recorder.add(
        "a", (0.5, 3.0, math.nan, 2.5), took=1.0, service="s", replica="r", status=200,
        outcome=Outcome.BROKEN, prompt=1, output=1,
    )  # fmt: skip
    [record] = recorder.read()
    assert record["seconds"] == {"a": 0.5}
    assert (record["x"], record["y"], record["z"]) == (3, None, 2.5)


@pytest.mark.parametrize(
    ("given", "share"),
    [
        ("0.25", 0.25),
        ("1", 1.0),
        (None, None),
        ("", None),
        ("much", None),
        ("7", None),
        ("nan", None),
    ],
)
def test_a_wrong_share_of_a_known_prefix_is_unknown(given: str | None, share: float | None) -> None:
    assert headers.known_prefix(given) == share
