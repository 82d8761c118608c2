"""The number of draft tokens follows the measured gain, on simulated engines whose true speeds are known."""

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from slipstream_runtime.engine.draft_lengths import Choice, DraftLengths, Step, group, overall

MOST = 4
LOADS = (1, 4, 8, 16, 32)
LEARNING, MEASURED = 4_000, 6_000
"""Steps."""


def plain(batch: int) -> float:
    """Seconds of a step without draft tokens."""
    return 0.004 + 0.0001 * batch


@dataclass
class Engine:
    """An engine in a closed loop, with noise that drifts, scatters and stalls."""

    accepted: float
    """Probability that a draft token is accepted after those before it were."""
    verify: Callable[[int], float] = lambda batch: 0.0001 + 0.00001 * batch
    """Seconds that each draft token adds to the target's step."""
    draft: Callable[[int], float] = lambda batch: 0.0008 + 0.00001 * batch
    """Seconds of the draft model for one token of each request."""
    scatter: float = 0.06
    dice: random.Random = field(default_factory=lambda: random.Random(7))
    lengths: DraftLengths = field(default_factory=lambda: DraftLengths(MOST))
    ordered: int = 0
    drift: float = 0.0
    used: dict[int, int] = field(default_factory=dict)

    def seconds(self, batch: int, tokens: int) -> float:
        """True time of a step."""
        return plain(batch) + tokens * (self.verify(batch) + self.draft(batch))

    def speed(self, batch: int, tokens: int) -> float:
        """True output tokens per second."""
        emitted = sum(self.accepted**place for place in range(tokens + 1))
        return batch * emitted / self.seconds(batch, tokens)

    def run(self, batch: int, steps: int) -> float:
        """Decode, and return true output tokens per second: without the noise, with everything else."""
        made = spent = 0.0
        self.used = dict.fromkeys(range(MOST + 1), 0)
        for _ in range(steps):
            verified, self.ordered = self.ordered, self.lengths.choose(batch)
            self.used[self.ordered] += 1
            emitted = [self._emit(verified) for _ in range(batch)]
            took = plain(batch) + verified * self.verify(batch) + self.ordered * self.draft(batch)
            made += batch * sum(self.accepted**place for place in range(verified + 1))
            spent += took
            self.lengths.observe(
                Step(
                    batch=batch,
                    verified=verified,
                    ordered=self.ordered,
                    emitted=emitted,
                    seconds=took * self._noise(),
                )
            )
        return made / spent

    def _emit(self, drafted: int) -> int:
        made = 1
        while made <= drafted and self.dice.random() < self.accepted:
            made += 1
        return made

    def _noise(self) -> float:
        self.drift = 0.999 * self.drift + self.dice.gauss(0, 0.01)
        stalled = 20.0 if self.dice.random() < 0.0005 else 1.0
        return stalled * math.exp(self.drift + self.dice.gauss(0, self.scatter))


def costly_at_load(batch: int) -> float:
    """Verification that is free for few requests, and as costly as decoding for many."""
    return 0.0001 * batch


@pytest.mark.parametrize("batch", LOADS)
def test_a_draft_that_is_always_wrong_costs_two_percent_at_most_from_the_first_step(
    batch: int,
) -> None:
    engine = Engine(accepted=0.0)
    assert engine.run(batch, LEARNING) > 0.97 * engine.speed(batch, 0)
    assert engine.run(batch, MEASURED) > 0.985 * engine.speed(batch, 0)
    assert engine.lengths.choices()[group(batch)].tokens == 0


@pytest.mark.parametrize("accepted", [0.3, 0.5, 0.6, 0.7, 0.8, 0.95])
@pytest.mark.parametrize("batch", LOADS)
def test_the_best_number_is_found_at_every_load(batch: int, accepted: float) -> None:
    engine = Engine(accepted, verify=costly_at_load)
    engine.run(batch, LEARNING)
    speed = engine.run(batch, MEASURED)
    assert speed > 0.98 * engine.speed(batch, 0)
    assert speed > 0.95 * max(engine.speed(batch, tokens) for tokens in range(MOST + 1))


def test_a_draft_that_gains_for_few_requests_and_loses_for_many_is_used_for_few() -> None:
    engine = Engine(0.5, verify=costly_at_load)
    for _ in range(4):
        for batch in LOADS:
            engine.run(batch, LEARNING // 4)
    choices = engine.lengths.choices()
    assert choices[group(1)].tokens >= 1
    assert choices[group(32)].tokens == 0
    tokens = [choice.tokens for choice in choices.values()]
    assert tokens == sorted(tokens, reverse=True)


@pytest.mark.parametrize("seed", range(4))
def test_on_a_crowded_machine_a_draft_that_is_always_wrong_is_not_taken_for_a_good_one(
    seed: int,
) -> None:
    engine = Engine(accepted=0.0, scatter=0.6, dice=random.Random(seed))
    assert engine.run(4, LEARNING) > 0.96 * engine.speed(4, 0)
    assert engine.lengths.choices()[group(4)].tokens == 0


@pytest.mark.parametrize("seed", range(4))
def test_on_a_crowded_machine_a_gain_is_shown_once_it_is_certain(seed: int) -> None:
    engine = Engine(0.5, scatter=0.6, dice=random.Random(seed))
    engine.run(4, LEARNING)
    choice = engine.lengths.choices()[group(4)]
    true = engine.speed(4, choice.tokens) / engine.speed(4, 0)
    assert choice.gain is None or 0.75 < choice.gain / true < 1.35


def test_the_gain_that_is_shown_is_the_true_one() -> None:
    engine = Engine(0.8)
    engine.run(1, LEARNING + MEASURED)
    choice = engine.lengths.choices()[group(1)]
    true = engine.speed(1, choice.tokens) / engine.speed(1, 0)
    assert choice.gain == pytest.approx(true, rel=0.06)
    assert overall(engine.lengths.choices()) == pytest.approx(choice.gain)


def test_traffic_whose_acceptance_falls_is_noticed_at_once() -> None:
    engine = Engine(0.8)
    engine.run(4, LEARNING)
    assert engine.lengths.choices()[group(4)].tokens > 0
    engine.accepted = 0.05
    assert engine.run(4, MEASURED) > 0.95 * engine.speed(4, 0)
    assert engine.lengths.choices()[group(4)].tokens == 0


def test_traffic_whose_acceptance_rises_is_noticed_in_time() -> None:
    engine = Engine(0.05)
    engine.run(4, LEARNING)
    assert engine.lengths.choices()[group(4)].tokens == 0
    engine.accepted = 0.85
    engine.run(4, 3 * MEASURED)
    best = max(engine.speed(4, tokens) for tokens in range(MOST + 1))
    assert engine.run(4, MEASURED) > 0.95 * best


def test_steps_that_become_slower_with_draft_tokens_are_noticed() -> None:
    engine = Engine(0.6)
    engine.run(8, LEARNING)
    assert engine.lengths.choices()[group(8)].tokens > 0
    engine.draft = lambda batch: 0.004
    engine.run(8, 3 * MEASURED)
    assert engine.run(8, MEASURED) > 0.98 * engine.speed(8, 0)


def test_once_settled_few_steps_try_another_number() -> None:
    engine = Engine(0.8)
    engine.run(1, LEARNING + MEASURED)
    chosen = engine.lengths.choices()[group(1)].tokens
    engine.run(1, MEASURED)
    assert sum(engine.used.values()) - engine.used[chosen] < 0.02 * MEASURED


def test_an_engine_starts_without_draft_tokens_and_knows_no_gain() -> None:
    lengths = DraftLengths(MOST)
    assert [lengths.choose(batch) for batch in LOADS] == [0] * len(LOADS)
    assert {choice.gain for choice in lengths.choices().values()} == {None}
    assert overall(lengths.choices()) is None


@pytest.mark.parametrize(
    ("prompt", "speculates"), [(20, True), (10_000, False)], ids=["short prompts", "long prompts"]
)
def test_reading_prompts_with_the_draft_model_counts_against_it(
    prompt: int, speculates: bool
) -> None:
    per_prompt_token = 20e-6
    engine = Engine(0.7)
    lengths, ordered = engine.lengths, 0
    for number in range(LEARNING):
        verified, ordered = ordered, lengths.choose(1)
        starts = number % 20 == 0
        drafting = ordered * engine.draft(1) + (
            prompt * per_prompt_token if starts and ordered else 0
        )
        lengths.observe(
            Step(
                batch=1,
                verified=verified,
                ordered=ordered,
                emitted=[engine._emit(verified)],
                seconds=plain(1) + verified * engine.verify(1) + drafting,
                drafting=drafting,
                prompt_tokens=prompt if starts else 0,
            )
        )
    assert (lengths.choices()[0].tokens > 0) is speculates


@pytest.mark.parametrize("most", [1, 2, 32])
def test_any_number_of_draft_tokens_works(most: int) -> None:
    engine = Engine(0.9, lengths=DraftLengths(most))
    made = 0
    for _ in range(LEARNING):
        verified, engine.ordered = engine.ordered, engine.lengths.choose(2)
        emitted = [engine._emit(verified) for _ in range(2)]
        made += sum(emitted)
        seconds = engine.seconds(2, verified)
        engine.lengths.observe(Step(2, verified, engine.ordered, emitted, seconds))
    assert 0 < engine.lengths.choices()[group(2)].tokens <= most
    assert made > 2 * LEARNING


def test_batch_sizes_belong_to_groups_up_to_powers_of_two() -> None:
    assert [group(batch) for batch in (0, 1, 2, 3, 4, 5, 8, 9, 32, 33)] == [
        0, 0, 1, 2, 2, 3, 3, 4, 5, 6,
    ]  # fmt: skip
    assert group(10**9) == 15


def test_the_gain_over_all_batch_sizes_weighs_their_time() -> None:
    known, other, unknown = Choice(4, 1.5, 30.0), Choice(0, 1.0, 10.0), Choice(0, None, 10.0)
    assert overall({0: known, 2: other, 3: unknown}) == pytest.approx(1.375)
    assert overall({0: known, 3: Choice(0, None, 31.0)}) is None
    assert overall({}) is None
