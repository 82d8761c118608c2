"""Samples of a service's pods, as Prometheus returns them."""

from slipstream_operator.core.scaling.metrics.values import Sample
from tests.support import given


def sample(value: float, *, namespace: str = given.NAMESPACE, **labels: str) -> Sample:
    return Sample({"namespace": namespace, "service": given.NAME, **labels}, value)
