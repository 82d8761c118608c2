"""Metric reference: what the operator, the router and the engines export, read from their collectors."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import prometheus_client
from prometheus_client import Metric
from prometheus_client.metrics import MetricWrapperBase

from slipstream_operator.telemetry import ServiceGauges, Telemetry
from slipstream_runtime.engine.gain import Tally
from slipstream_runtime.engine.metrics import GainMetrics
from slipstream_runtime.host.lifecycle import Lifecycle
from slipstream_runtime.host.metrics import Metrics as EngineMetrics
from slipstream_runtime.recording.metrics import StepMetrics
from slipstream_runtime.recording.steps import Steps
from slipstream_runtime.recording.totals import Totals
from slipstream_runtime.retrieval import server as retrieval
from slipstream_runtime.router import metrics as router
from slipstream_runtime.router.comparing.arms import Arms
from slipstream_runtime.router.recording.flight import CAUSES


class Row(NamedTuple):
    """One metric family."""

    name: str
    type: str
    labels: tuple[str, ...]
    help: str


def page() -> str:
    """Markdown page of all metric families that Slipstream exports itself."""
    lines = [
        "# Metrics",
        "",
        (
            "This page lists the metrics of Slipstream for platform teams that write dashboards and alerts. "
            "It is generated from the code. Engines also export vLLM's own metrics."
        ),
    ]
    for title, rows in (
        ("Operator, port 8080", _operator()),
        ("Router, management port 8001", _router()),
        ("Engine, management port 8001", _engine()),
        ("Search service, management port 8001", _search()),
    ):
        lines += [
            "",
            f"## {title}",
            "",
            "| Metric | Type | Labels | Meaning |",
            "|---|---|---|---|",
        ]
        lines += [
            f"| `{row.name}` | {row.type} | {', '.join(f'`{label}`' for label in row.labels)} | {row.help} |"
            for row in sorted(rows)
            if row.name.startswith("slipstream_")
        ]
    return "\n".join(lines) + "\n"


def _operator() -> Iterator[Row]:
    telemetry = Telemetry(prometheus_client.CollectorRegistry())
    for value in vars(telemetry).values():
        if isinstance(value, MetricWrapperBase):
            yield _wrapped(value)
    yield from map(_family, ServiceGauges(decided=tuple, failing=tuple).collect())


def _router() -> Iterator[Row]:
    metrics = router.Metrics()
    router.ServiceMetrics(metrics, "service").watch(
        queued=lambda: 0,
        in_flight=lambda: 0,
        endpoints=lambda: 0,
        refused_keys=lambda: 0,
        times=Totals(len(CAUSES)),
        arms=Arms("service", now=lambda: 0.0),
    )
    router.RouteMetrics(metrics, "route", ("small", "large"))
    router.HookMetrics(metrics, "route", "condense")
    for family in metrics._families.values():
        metric = next(iter(family.values()))
        if isinstance(metric, MetricWrapperBase):
            yield _wrapped(metric)
        else:
            yield from map(_family, metric.describe())


def _engine() -> Iterator[Row]:
    yield from map(_family, EngineMetrics(Lifecycle(clock=lambda: 0.0)).collect())
    yield from map(_family, StepMetrics([Steps()]).collect())
    with tempfile.TemporaryDirectory() as folder:
        yield from map(_family, GainMetrics(Tally.create(Path(folder, "tally"), most=1)).collect())


def _search() -> Iterator[Row]:
    for value in vars(retrieval.Metrics()).values():
        if isinstance(value, MetricWrapperBase):
            yield _wrapped(value)


def _wrapped(metric: MetricWrapperBase) -> Row:
    (family,) = metric.describe()
    return Row(_name(family), family.type, tuple(metric._labelnames), family.documentation)


def _family(family: Metric) -> Row:
    labels = tuple(getattr(family, "_labelnames", ()))
    return Row(_name(family), family.type, labels, family.documentation)


def _name(family: Metric) -> str:
    return f"{family.name}_total" if family.type == "counter" else family.name
