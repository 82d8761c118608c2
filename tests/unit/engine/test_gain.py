"""What the scheduler writes into the tally, the metrics show."""

import math
from pathlib import Path

import numpy as np
import pytest

from slipstream_runtime import contract
from slipstream_runtime.engine.draft_lengths import Choice
from slipstream_runtime.engine.gain import Tally
from slipstream_runtime.engine.metrics import GainMetrics

MOST = 4


@pytest.fixture
def tally(tmp_path: Path) -> Tally:
    return Tally.create(tmp_path / "tally", most=MOST)


def shown(tally: Tally) -> dict[tuple[str, ...], float]:
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in GainMetrics(tally).collect()
        for sample in family.samples
    }


def test_the_drafting_function_is_measured_and_called_as_before(tally: Tally) -> None:
    assert math.isnan(tally.drafting)
    moments = iter([1.0, 1.25, 7.0, 7.5])
    draft = tally.timed(lambda number, *, power: number**power, clock=moments.__next__)
    assert tally.drafting == 0
    assert (draft(2, power=3), draft(3, power=2)) == (8, 9)
    assert tally.drafting == pytest.approx(0.75)


def test_what_one_process_counts_another_reads(tmp_path: Path) -> None:
    read = Tally.create(tmp_path / "tally", most=MOST)
    written = Tally.open(tmp_path / "tally")
    assert written.most == MOST
    written.add(3, 2, tokens=5, seconds=0.5, drafting=0.1)
    assert read.table[3, 2].tolist() == [1, 5, 0.5, 0.1]
    assert np.count_nonzero(read.table) == 4


def test_without_steps_there_are_no_metrics(tally: Tally) -> None:
    assert shown(tally) == {}


@pytest.mark.parametrize("drafting", [0.1, math.nan], ids=["measured", "unmeasured"])
def test_the_metrics_count_by_draft_tokens_and_batch_size(tally: Tally, drafting: float) -> None:
    tally.add(3, 2, tokens=9, seconds=0.5, drafting=drafting)
    measured = {(contract.SAMPLED_DRAFTING, "2", "8"): 0.1} if drafting == 0.1 else {}
    assert shown(tally) == {
        (contract.SAMPLED_STEPS, "2", "8"): 1.0,
        (contract.SAMPLED_TOKENS, "2", "8"): 9.0,
        (contract.SAMPLED_SECONDS, "2", "8"): 0.5,
        **measured,
    }


def test_the_metrics_show_the_numbers_in_use_and_what_they_earn(tally: Tally) -> None:
    tally.choose({0: Choice(4, 1.5, 30.0), 2: Choice(0, 1.0, 10.0), 5: Choice(0, None, 1.0)})
    assert shown(tally) == {
        (contract.SPECULATION_GAIN,): pytest.approx(1.375),
        (contract.SPECULATION_TOKENS, "1"): 4.0,
        (contract.SPECULATION_TOKENS, "4"): 0.0,
        (contract.SPECULATION_TOKENS, "32"): 0.0,
        (contract.SPECULATION_BATCH_GAIN, "1"): 1.5,
        (contract.SPECULATION_BATCH_GAIN, "4"): 1.0,
    }


def test_a_gain_that_is_no_longer_known_disappears(tally: Tally) -> None:
    tally.choose({0: Choice(4, 1.5, 30.0)})
    tally.choose({0: Choice(4, None, 30.0)})
    assert shown(tally) == {(contract.SPECULATION_TOKENS, "1"): 4.0}
