"""SIGTERM with requests in flight, three times; `make soak` does it fifty times."""

import random
from pathlib import Path

import pytest

from tests.support import stopping
from tests.support.engines import write_model


@pytest.mark.parametrize("seed", range(3))
def test_sigterm_never_hangs_and_never_truncates_silently(tmp_path: Path, seed: int) -> None:
    write_model(tmp_path)
    trial = stopping.run(tmp_path, dice=random.Random(seed))
    assert trial.lossless, trial
