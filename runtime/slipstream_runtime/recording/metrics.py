"""Metrics of the times of an engine's requests and steps."""

from collections.abc import Iterable, Sequence

from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from slipstream_runtime import contract
from slipstream_runtime.recording.journal import Journal
from slipstream_runtime.recording.steps import Steps
from slipstream_runtime.recording.times import CAUSES


def times_family(journal: Journal | None) -> CounterMetricFamily:
    """Return the seconds of all requests by cause; without values before an engine serves."""
    family = CounterMetricFamily(
        contract.ENGINE_TIME,
        "Time of requests in the engine's process, by cause, until their first token and after it.",
        labels=[contract.PART_LABEL, contract.CAUSE_LABEL],
    )
    if journal is not None:
        for part, totals in ((contract.FIRST, journal.first), (contract.REST, journal.rest)):
            for cause, seconds in zip(CAUSES, totals.seconds, strict=True):
                family.add_metric((part, cause), seconds)
    return family


class JournalMetrics(Collector):
    """Collector of the times of a journal's requests."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def collect(self) -> Iterable[Metric]:
        """Return the present values."""
        yield times_family(self._journal)


class StepMetrics(Collector):
    """Collector of the sums over the steps of all engines of a process."""

    def __init__(self, engines: Sequence[Steps]) -> None:
        self._engines = engines

    def collect(self) -> Iterable[Metric]:
        """Return the present values, without those of a kind of which there was no step."""
        for field, (name, text) in _SUMS.items():
            family = CounterMetricFamily(name, text, labels=[contract.KIND_LABEL])
            for kind in (contract.DECODES, contract.PREFILLS):
                sums = [steps.sums[kind] for steps in self._engines]
                if any(each.count for each in sums):
                    family.add_metric([kind], sum(getattr(each, field) for each in sums))
            yield family


_SUMS = {
    "seconds": (contract.STEP_TIME, "Seconds of the engine's steps."),
    "count": (contract.STEP_COUNT, "Steps of the engine."),
    "sequences": (contract.STEP_SEQUENCES, "Sequences in these steps."),
    "prompt": (contract.STEP_PROMPT_TOKENS, "Prompt tokens that these steps computed."),
}
"""Field of `Sums` -> name and help of its metric."""
