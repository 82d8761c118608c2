"""Speculation is switched off when its draft tokens are rejected for long enough, and a loss of speed is reported."""

from typing import Any

import pytest

from slipstream_operator.core import speculation
from slipstream_operator.core.scaling.metrics.values import DraftTokens
from slipstream_operator.core.speculation import SwitchedOff
from tests.support import given

SPEC: dict[str, Any] = {
    "model": given.MODEL,
    "speculation": {"draft": "hf://org/draft", "tokens": 4, "disableBelowAcceptance": "30%"},
}
POOR, GOOD = DraftTokens(5000.0, 500.0), DraftTokens(5000.0, 4000.0)
FEW = DraftTokens(speculation.EVIDENCE - 1, 0.0)


def judge(drafted: DraftTokens | None, since: float | None, now: float, spec: Any = None) -> Any:
    return speculation.decide(given.resolved(spec or SPEC), drafted, below_since=since, now=now)


def test_poor_acceptance_is_first_suspected_and_then_switched_off() -> None:
    assert judge(POOR, None, 1000.0) == (None, 1000.0)
    assert judge(POOR, 1000.0, 1000.0 + speculation.PATIENCE - 1) == (None, 1000.0)
    off, _ = judge(POOR, 1000.0, 1000.0 + speculation.PATIENCE)
    assert off.acceptance == 0.1


def test_good_acceptance_ends_the_suspicion() -> None:
    assert judge(GOOD, 1000.0, 5000.0) == (None, None)


@pytest.mark.parametrize("drafted", [FEW, None], ids=["few", "none"])
def test_without_evidence_nothing_is_decided(drafted: DraftTokens | None) -> None:
    assert judge(drafted, 1000.0, 9000.0) == (None, 1000.0)


def test_without_a_limit_speculation_stays() -> None:
    spec = {"model": given.MODEL, "speculation": {"method": "ngram"}}
    assert judge(POOR, 0.0, 9000.0, spec) == (None, None)


def off(spec: Any = None, acceptance: float = 0.1) -> SwitchedOff:
    found = speculation.identity(given.resolved(spec or SPEC).revisioned)
    assert found is not None
    return SwitchedOff(found, acceptance)


def test_what_was_switched_off_runs_without_speculation_and_says_why() -> None:
    plain = speculation.applied(given.resolved(SPEC), off())
    assert "speculation" not in plain.revisioned.config
    assert plain.speculation is None
    assert plain.speculation_disabled == (
        "hf://org/draft, 4 tokens: 10.0% of the draft tokens were accepted, fewer than the 30% of "
        "spec.speculation.disableBelowAcceptance"
    )
    assert judge(POOR, None, 0.0) == (None, 0.0)


@pytest.mark.parametrize(
    "change",
    [
        {"draft": "hf://org/better"},
        {"tokens": 2},
        {"disableBelowAcceptance": "5%"},
        {"disableBelowAcceptance": None},
    ],
    ids=str,
)
def test_a_change_of_the_speculation_or_of_its_limit_gives_it_another_try(
    change: dict[str, Any],
) -> None:
    parts = {**SPEC["speculation"], **change}
    spec = {**SPEC, "speculation": {key: part for key, part in parts.items() if part is not None}}
    resolved = given.resolved(spec)
    assert speculation.applied(resolved, off()) == resolved


def test_a_verdict_is_kept_as_text() -> None:
    assert speculation.load(off().text) == off()
    assert speculation.load("not JSON") is None
    assert speculation.load("[]") is None


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        '{"speculation": "a"}',
        '{"speculation": "a", "acceptance": 2}',
        '{"speculation": "a", "acceptance": -0.5}',
        '{"speculation": "a", "acceptance": NaN}',
        '{"speculation": "a", "gain": 1e9}',
        '{"speculation": "a", "acceptance": 0.1, "gain": 0.1}',
    ],
)
def test_a_verdict_that_nobody_can_have_reached_is_dropped(text: str) -> None:
    assert speculation.load(text) is None


BY_GAIN: dict[str, Any] = {
    "model": given.MODEL,
    "speculation": {"draft": "hf://org/draft", "tokens": 4, "disableBelowGain": "5%"},
}


def judge_gain(gain: float | None, since: float | None, now: float, spec: Any = BY_GAIN) -> Any:
    return speculation.decide_by_gain(given.resolved(spec), gain, below_since=since, now=now)


def test_a_gain_below_its_limit_is_first_suspected_and_then_switched_off() -> None:
    assert judge_gain(1.02, None, 1000.0) == (None, 1000.0)
    assert judge_gain(1.02, 1000.0, 1000.0 + speculation.PATIENCE - 1) == (None, 1000.0)
    found, _ = judge_gain(1.02, 1000.0, 1000.0 + speculation.PATIENCE)
    assert (found.gain, found.acceptance) == (0.02, None)
    assert speculation.load(found.text) == found


@pytest.mark.parametrize("gain", [1.05, 3.0])
def test_a_gain_that_meets_its_limit_ends_the_suspicion(gain: float) -> None:
    assert judge_gain(gain, 1000.0, 5000.0) == (None, None)


def test_an_unknown_gain_decides_nothing() -> None:
    assert judge_gain(None, 1000.0, 9000.0) == (None, 1000.0)


@pytest.mark.parametrize("spec", [SPEC, {"model": given.MODEL}], ids=["no limit", "no draft"])
def test_without_a_limit_of_the_gain_speculation_stays(spec: Any) -> None:
    assert judge_gain(1.0, 0.0, 9000.0, spec) == (None, None)


def test_speculation_that_gained_too_little_is_off_until_its_limit_allows_it() -> None:
    resolved = given.resolved(BY_GAIN)
    found = speculation.identity(resolved.revisioned)
    assert found is not None
    too_little = SwitchedOff(found, gain=0.02)
    plain = speculation.applied(resolved, too_little)
    assert "speculation" not in plain.revisioned.config
    assert plain.speculation_disabled == (
        "hf://org/draft, 4 tokens: decoding was 2.0% faster, less than the 5% of "
        "spec.speculation.disableBelowGain"
    )
    for limit in ("2%", None):
        parts = {**BY_GAIN["speculation"], "disableBelowGain": limit}
        spec = {**BY_GAIN, "speculation": {k: v for k, v in parts.items() if v is not None}}
        other = given.resolved(spec)
        assert speculation.applied(other, too_little) == other
    both = {**BY_GAIN["speculation"], "disableBelowAcceptance": "30%"}
    assert speculation.applied(
        given.resolved({**BY_GAIN, "speculation": both}), too_little
    ).speculation_disabled


def test_limits_do_not_change_the_engine() -> None:
    bare = {**BY_GAIN, "speculation": {"draft": "hf://org/draft", "tokens": 4}}
    assert given.resolved(BY_GAIN).revisioned == given.resolved(bare).revisioned


def test_an_acceptance_that_may_meet_its_limit_is_not_switched_off() -> None:
    close = DraftTokens(300.0, 0.28 * 300)
    assert judge(close, 1000.0, 9000.0) == (None, 1000.0)
    sure = DraftTokens(30_000.0, 0.28 * 30_000)
    assert judge(sure, 1000.0, 9000.0)[0] is not None


USELESS, PAYING = 1.0, 1.2


def test_speculation_that_gains_nothing_is_reported_once_it_has_lasted() -> None:
    since = speculation.loss_since(USELESS, since=None, now=1000.0)
    assert since == 1000.0
    before, after = (1000.0 + speculation.PATIENCE + more for more in (-1, 0))
    assert speculation.loss(USELESS, since=since, now=before) is None
    told = speculation.loss(USELESS, since=since, now=after)
    assert told is not None
    assert told.startswith("Draft tokens make decoding no faster at the present load")


def test_speculation_that_may_pay_is_no_loss() -> None:
    assert speculation.loss_since(PAYING, since=1000.0, now=5000.0) is None


def test_the_least_gain_for_which_engines_speculate_is_of_use() -> None:
    assert speculation.loss_since(speculation.USELESS, since=1000.0, now=5000.0) is None


def test_a_gain_that_is_not_known_ends_no_suspicion_and_tells_nothing() -> None:
    assert speculation.loss_since(None, since=1000.0, now=5000.0) == 1000.0
    assert speculation.loss(None, since=1000.0, now=5000.0) is None
