"""Reader of metric pages in the text format that Prometheus scrapes."""

from collections import defaultdict

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample


def samples(page: str, name: str | None = None, **labels: str) -> list[Sample]:
    """Return the samples of this name, or all, that have these labels among theirs."""
    return [
        sample
        for family in text_string_to_metric_families(page)
        for sample in family.samples
        if name in (None, sample.name) and labels.items() <= sample.labels.items()
    ]


def total(page: str, name: str, **labels: str) -> float:
    """Return the sum of the samples; 0 without samples."""
    return sum(sample.value for sample in samples(page, name, **labels))


def totals(page: str) -> dict[str, float]:
    """Return the sum of the samples of each name."""
    found: defaultdict[str, float] = defaultdict(float)
    for sample in samples(page):
        found[sample.name] += sample.value
    return dict(found)
