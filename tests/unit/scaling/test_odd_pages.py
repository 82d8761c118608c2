"""Thousands of pages and saved states that no honest program writes, as Prometheus and the API server pass them on.

Each is followed by a decision, whose state is the start of the next: so damage that only shows later is seen, too.
"""

import json
from collections.abc import Iterator
from typing import Final

from slipstream_operator.adapters import vectors
from slipstream_operator.core import speculation
from slipstream_operator.core.fetching import load as load_fetched
from slipstream_operator.core.scaling import persistence
from slipstream_operator.core.scaling.metrics import queries
from slipstream_operator.core.scaling.metrics.query_results import QueryResults
from slipstream_operator.core.scaling.state import State
from slipstream_operator.core.tick import Scaling
from tests.support import given, ticks
from tests.support.odd import NUMBERS, TEXTS, Odd

PAGES: Final = 2000
STATES: Final = 3000
LABELS: Final = (*TEXTS, "0.5", "1", "0.1", "1e400", "1", "16", "+Inf")


def _value(odd: Odd, usual: float) -> str:
    """Return a value as Prometheus writes it, mostly the usual one."""
    value = usual if odd.random.random() < 0.97 else odd.random.choice(NUMBERS)
    text = json.dumps(value).replace("Infinity", "+Inf").replace("-+", "-")
    broken = odd.random.random() < 0.005
    return '"histogram":[1,{"count":"3"}]' if broken else f'"value":[1,"{text}"]'


def _rows(odd: Odd, name: str) -> Iterator[tuple[dict[str, str], str]]:
    """Yield labels and value of the series of the pods of `given.KEY`."""
    choose = odd.random.choice
    if name in queries.PER_POD:
        usual = 3.0 if name == queries.AGE else choose((0.0, 0.5, 0.9))
        for pod in (*ticks.PODS, *choose(((), ("x",), TEXTS[:3]))):
            yield {"pod": pod}, _value(odd, usual)
        return
    for _ in range(odd.random.randrange(5)):
        labels = {label: choose(LABELS) for label in ("le", "num_gpu_blocks", "block_size")}
        labels |= {"revision": choose((ticks.REVISION, "x")), "adapter": choose(LABELS)}
        labels |= {"cause": choose(("decode", *LABELS)), "part": choose(("first", "rest", *LABELS))}
        labels |= {"kind": choose(("decode", "prefill", *LABELS))}
        yield labels, _value(odd, choose((0.5, 3.0, 120.0)))


def _answer(odd: Odd, name: str) -> bytes:
    """Return Prometheus' answer to a query, in which one series is that of another service."""
    service = {"namespace": given.KEY.namespace, "service": given.KEY.name}
    rows = [
        f'{{"metric":{json.dumps({**service, **labels}, separators=(",", ":"))},{value}}}'
        for labels, value in _rows(odd, name)
    ]
    metric, _ = ticks.series(1, ticks.OTHER, pod="x", le="0.5", revision=ticks.REVISION)
    other = f'{{"metric":{metric.decode()},"value":[1,"0.5"]}}'
    rows.insert(odd.random.randrange(len(rows) + 1), other)
    result = ",".join(rows)
    return f'{{"status":"success","data":{{"resultType":"vector","result":[{result}]}}}}'.encode()


def _results(odd: Odd) -> QueryResults:
    found = QueryResults()
    for name in ticks.NAMES:
        text = _answer(odd, name)
        cut = odd.random.randrange(1, len(text))
        for part in vectors.read([text[:cut], text[cut:]]):
            found.take(name, part)
    return found


def _without_pages() -> QueryResults:
    """Return the results of a round in which only the other service exports something."""
    found = QueryResults()
    for name in ticks.NAMES:
        found.take(
            name, [ticks.series(0.5, ticks.OTHER, pod="x", le="0.5", revision=ticks.REVISION)]
        )
    return found


def test_no_page_makes_a_decision_fail_or_changes_what_another_service_gets() -> None:
    service = ticks.service(ticks.READY, ticks.READY)
    scaling = Scaling(state=given.state(2))
    expected = _without_pages().of(ticks.OTHER)
    known = 0
    for number in range(PAGES):
        results = _results(Odd(number))
        assert not results.failed
        scaling = ticks.once(results, scaling, service, number=number)
        assert scaling.decision is not None
        known += scaling.decision.known
        found = results.of(ticks.OTHER)
        assert (found.pods, found.totals, found.histograms, found.others) == (
            expected.pods, expected.totals, expected.histograms, expected.others,
        )  # fmt: skip
    assert PAGES / 5 < known < PAGES, "all or no pages are odd"


def _states() -> Iterator[State]:
    good = json.loads(persistence.dump(given.state(2, concurrency=3.0)))
    keys = [
        *good,
        *good["cold"],
        *good["outlook"],
        *good["spikes"],
        "count",
        "batch",
        "rows",
        "season",
    ]
    for number in range(STATES):
        odd = Odd(number, keys=keys)
        text = json.dumps(odd.changed(good))
        speculation.load(text)
        load_fetched(text)
        if (state := persistence.load(text, now=ticks.NOW)) is not None:
            yield state


def test_no_saved_state_makes_a_decision_fail() -> None:
    service = ticks.service(ticks.READY, ticks.READY)
    usual = {
        name: [ticks.series(0.5, given.KEY, pod=pod) for pod in ticks.PODS]
        for name in queries.PER_POD
    }
    taken = 0
    for state in _states():
        ticks.decide(usual, Scaling(state=state), service, ticks=2)
        taken += 1
    assert taken > STATES / 20
