"""Acceptance by position informs about all smaller numbers of draft tokens, and follows the traffic."""

import random

import pytest

from slipstream_runtime.engine.acceptance import Acceptance


def steps(accepted: float, drafted: int, *, count: int, seed: int = 1) -> list[int]:
    dice = random.Random(seed)
    found = []
    for _ in range(count):
        number = 0
        while number < drafted and dice.random() < accepted:
            number += 1
        found.append(number)
    return found


def fill(acceptance: Acceptance, accepted: float, drafted: int, *, count: int = 8000) -> None:
    for number in range(count // 8):
        acceptance.add(drafted, steps(accepted, drafted, count=8, seed=number))


def test_nothing_is_known_before_a_step_with_draft_tokens() -> None:
    acceptance = Acceptance(4)
    acceptance.add(0, [0, 0])
    assert not acceptance.known(1)
    assert acceptance.known(0)
    assert acceptance.length(0) == 1.0


def test_steps_with_many_draft_tokens_tell_how_steps_with_fewer_do() -> None:
    acceptance = Acceptance(4)
    fill(acceptance, 0.7, 4)
    for tokens in range(5):
        expected = sum(0.7**place for place in range(tokens + 1))
        assert acceptance.length(tokens) == pytest.approx(expected, rel=0.03)


def test_steps_with_few_draft_tokens_do_not_tell_how_steps_with_more_do() -> None:
    acceptance = Acceptance(4)
    fill(acceptance, 0.7, 2)
    assert acceptance.known(2)
    assert not acceptance.known(3)


def test_traffic_of_today_counts_more_than_that_of_yesterday() -> None:
    acceptance = Acceptance(4)
    fill(acceptance, 0.9, 4)
    fill(acceptance, 0.1, 4, count=20_000)
    assert acceptance.length(4) == pytest.approx(1 / 0.9, rel=0.05)


def test_a_batch_size_begins_with_what_others_know_and_ends_with_its_own() -> None:
    shared = Acceptance(4)
    fill(shared, 0.8, 4)
    own = Acceptance(4, shared=shared)
    assert own.length(4) == pytest.approx(shared.length(4))
    fill(own, 0.2, 4)
    assert own.length(4) == pytest.approx(1.25, rel=0.1)


def test_more_steps_make_it_surer() -> None:
    acceptance, surer = Acceptance(4), Acceptance(4)
    fill(acceptance, 0.5, 4, count=80)
    fill(surer, 0.5, 4, count=2000)
    assert 0 < surer.variance(4) < acceptance.variance(4)
    assert surer.variance(0) == 0


def test_certain_acceptance_has_a_small_variance_too() -> None:
    acceptance = Acceptance(2)
    fill(acceptance, 1.0, 2)
    assert acceptance.length(2) == pytest.approx(3.0)
    assert acceptance.variance(2) > 0


def test_old_steps_give_way_to_a_few_new_ones_after_a_long_time() -> None:
    acceptance = Acceptance(4)
    fill(acceptance, 0.1, 4)
    acceptance.fade(100_000)
    fill(acceptance, 0.9, 4, count=200)
    assert acceptance.length(4) == pytest.approx(4.1, rel=0.1)
