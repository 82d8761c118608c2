"""Progress of a stage: what is unknown is null, and the time that is left comes from the rate."""

from slipstream_runtime.build.progress import Progress
from slipstream_runtime.build.steps.step import Tick


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_nothing_is_known_before_the_first_tick() -> None:
    found = Progress("0-quantize", clock=Clock()).status()
    assert found.pop("peakMemory") > 0
    assert found.pop("stage") == "0-quantize"
    assert set(found.values()) == {None}


def test_the_time_left_counts_from_the_first_tick_of_this_process() -> None:
    clock = Clock()
    progress = Progress("0-distill", clock=clock)
    progress.step(Tick(60, 100))
    clock.now = 10.0
    progress.step(Tick(80, 100, loss=1.5))
    found = progress.status()
    assert (found["done"], found["total"], found["etaSeconds"], found["loss"]) == (80, 100, 10, 1.5)


def test_another_phase_starts_another_measurement() -> None:
    clock = Clock()
    progress = Progress("0-sparsify", clock=clock)
    progress.step(Tick(0, 10))
    clock.now = 100.0
    progress.step(Tick(0, 1000))
    clock.now = 101.0
    progress.step(Tick(100, 1000))
    assert progress.status()["etaSeconds"] == 9


def test_a_download_is_counted_in_bytes() -> None:
    clock = Clock()
    progress = Progress("source", clock=clock)
    progress.download.begin(total=1000, present=0)
    clock.now = 2.0
    progress.download.add(500)
    found = progress.status()
    assert (found["done"], found["total"], found["unit"]) == (500, 1000, "bytes")
    assert found["etaSeconds"] == 2
