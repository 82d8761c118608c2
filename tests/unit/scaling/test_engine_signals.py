"""Values of engines besides their load: KV capacity, draft tokens, gain and adapters."""

import math
from typing import Any

import pytest

from slipstream_operator.core.scaling.metrics import queries, query_results, signals
from slipstream_operator.core.scaling.metrics.values import BatchSpeculation, Sample, Unknown
from tests.support import given
from tests.support.samples import sample


def _cache(blocks: str, size: str) -> Sample:
    return sample(1.0, num_gpu_blocks=blocks, block_size=size)


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        ([_cache("1000", "16")], 16000),
        ([_cache("1000", "16"), _cache("500", "16")], 8000),
        ([_cache("None", "16")], None),
        ([], None),
        (Unknown("refused"), None),
        (None, None),
    ],
)
def test_the_kv_capacity_is_that_of_the_smallest_engine(
    result: list[Sample] | Unknown | None, expected: int | None
) -> None:
    samples = {} if result is None else {queries.KV_TOKENS: result}
    assert signals.kv_capacity(query_results.alone(samples)) == expected


def _drafted(value: float, revision: str = "new") -> Sample:
    labels = {"namespace": given.NAMESPACE, "service": given.NAME, "revision": revision}
    return Sample(labels, value)


@pytest.mark.parametrize(
    ("drafted", "accepted", "expected"),
    [
        ([_drafted(200.0)], [_drafted(150.0)], 0.75),
        ([_drafted(200.0)], [_drafted(0.0)], 0.0),
        ([_drafted(200.0), _drafted(900.0, "old")], [_drafted(150.0), _drafted(1.0, "old")], 0.75),
        ([_drafted(0.0)], [_drafted(0.0)], None),
        ([_drafted(math.nan)], [_drafted(1.0)], None),
        ([_drafted(200.0)], [], None),
        ([], [], None),
        (Unknown("refused"), [_drafted(1.0)], None),
    ],
)
def test_draft_tokens_are_known_only_if_this_revision_made_some(
    drafted: Any, accepted: Any, expected: float | None
) -> None:
    samples = given.grouped({queries.DRAFTED: drafted, queries.ACCEPTED: accepted})
    found = signals.draft_tokens(samples.of(given.KEY), revision="new")
    assert (found and found.acceptance) == expected


def _gain(value: float, *, revision: str = "new") -> Sample:
    labels = {"namespace": given.NAMESPACE, "service": given.NAME}
    return Sample({**labels, "revision": revision}, value)


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        ([_gain(1.5), _gain(1.2, revision="old")], 1.5),
        ([_gain(1.5, revision="old")], None),
        ([_gain(math.nan)], None),
        ([], None),
        (Unknown("refused"), None),
    ],
)
def test_a_gain_is_known_only_if_this_revision_has_one(result: Any, expected: float | None) -> None:
    samples = given.grouped({queries.GAIN: result}).of(given.KEY)
    assert signals.gain(samples, revision="new") == expected


def _batch(label: str, value: float, *, revision: str = "new") -> Sample:
    return Sample({**_gain(1.0, revision=revision).labels, "batch": label}, value)


def test_draft_tokens_by_batch_size_come_with_their_gain_where_it_is_known() -> None:
    tokens = [_batch("8", 0.0), _batch("1", 4.0), _batch("1", 2.0, revision="old")]
    gains = [_batch("1", 1.4), _batch("16", 1.2), _batch("8", math.nan)]
    samples = given.grouped({queries.BATCH_TOKENS: tokens, queries.BATCH_GAIN: gains})
    assert signals.by_batch(samples.of(given.KEY), revision="new") == (
        BatchSpeculation(1, 4.0, 1.4),
        BatchSpeculation(8, 0.0, None),
    )


@pytest.mark.parametrize(
    "odd",
    ["", "0", "3", "-1", "1.0", "65536", "1e3", "x" * 500, "\u0661"],
)
def test_batch_sizes_that_no_engine_exports_are_left_out(odd: str) -> None:
    samples = given.grouped({queries.BATCH_TOKENS: [_batch(odd, 4.0), _batch("2", 3.0)]})
    found = signals.by_batch(samples.of(given.KEY), revision="new")
    assert found == (BatchSpeculation(2, 3.0, None),)


@pytest.mark.parametrize("value", [math.nan, math.inf, -1.0, 1e9])
def test_implausible_draft_tokens_and_gains_are_left_out(value: float) -> None:
    samples = given.grouped({queries.BATCH_TOKENS: [_batch("2", value)]})
    assert signals.by_batch(samples.of(given.KEY), revision="new") == ()


@pytest.mark.parametrize("result", [Unknown("refused"), []])
def test_without_an_answer_no_batch_size_is_known(result: Any) -> None:
    samples = given.grouped({queries.BATCH_TOKENS: result}).of(given.KEY)
    assert signals.by_batch(samples, revision="new") == ()


def test_an_adapter_is_loaded_if_every_engine_has_it() -> None:
    def sample(name: str, value: float) -> Sample:
        labels = {"namespace": given.NAMESPACE, "service": given.NAME, "adapter": name}
        return Sample(labels, value)

    samples = {queries.ADAPTERS: [sample("sql", 1.0), sample("chat", 0.0)]}
    assert signals.adapters(query_results.alone(samples)) == {"sql": True, "chat": False}
    assert signals.adapters(query_results.alone({queries.ADAPTERS: Unknown("no answer")})) == {}
    assert signals.adapters(query_results.alone({})) == {}


def _capacity(*reported: float, **labels: str) -> int | None:
    found = [sample(value) for value in reported]
    found += [sample(1.0, **labels)] if labels else []
    return signals.kv_capacity(given.grouped({queries.KV_TOKENS: found}).of(given.KEY))


@pytest.mark.parametrize("nothing", [0.0, 0.5, -1.0, math.nan, math.inf, 1e16])
def test_a_capacity_that_no_engine_has_is_unknown_and_lowers_none(nothing: float) -> None:
    """A KV cache of 0 tokens would set no limit to requests, and a service would get too few replicas."""
    assert _capacity(nothing) is None
    assert _capacity(nothing, 5_000.0) == 5_000
    sequences = given.grouped({queries.SEQUENCES: [sample(nothing)]}).of(given.KEY)
    assert signals.max_sequences(sequences, revision="a") is None


def test_an_old_engine_without_a_capacity_in_tokens_leaves_those_of_new_ones() -> None:
    assert _capacity(9_000.0, 5_000.0, num_gpu_blocks="10", block_size="16") == 5_000


@pytest.mark.parametrize("blocks", ["²", "9" * 5_000, "", "-5", "1e3", "None", "٣"])
def test_blocks_that_are_no_number_are_unknown(blocks: str) -> None:
    assert _capacity(num_gpu_blocks=blocks, block_size="16") is None
