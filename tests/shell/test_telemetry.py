"""Metrics of the operator."""

import prometheus_client

from slipstream_operator.core.scaling.state import Decision
from slipstream_operator.core.tick import Scaling
from slipstream_operator.shell.service_states import ServiceStates
from slipstream_operator.telemetry import DesiredReplicas
from tests.support import given


def test_desired_replicas_are_exported_until_the_service_is_deleted() -> None:
    registry, states = prometheus_client.CollectorRegistry(), ServiceStates()
    registry.register(DesiredReplicas(states.decided))
    labels = {"namespace": given.NAMESPACE, "service": given.NAME}
    states.of(given.KEY)
    assert registry.get_sample_value("slipstream_desired_replicas", labels) is None
    states.of(given.KEY).record(Scaling(decision=Decision(3, "as many as are needed", known=True)))
    assert registry.get_sample_value("slipstream_desired_replicas", labels) == 3
    states.forget(given.KEY)
    assert registry.get_sample_value("slipstream_desired_replicas", labels) is None
