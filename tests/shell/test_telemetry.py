"""Metrics of the operator."""

import prometheus_client

from slipstream_operator.core.scaling.state import Decision
from slipstream_operator.core.tick import Scaling
from slipstream_operator.shell.service_states import ServiceStates
from slipstream_operator.telemetry import ServiceGauges
from tests.support import given


def test_desired_replicas_are_exported_until_the_service_is_deleted() -> None:
    registry, states = prometheus_client.CollectorRegistry(), ServiceStates()
    registry.register(ServiceGauges(decided=states.decided, failing=states.failing))
    labels = {"namespace": given.NAMESPACE, "service": given.NAME}
    states.of(given.KEY)
    assert registry.get_sample_value("slipstream_desired_replicas", labels) is None
    states.of(given.KEY).record(Scaling(decision=Decision(3, "as many as are needed", known=True)))
    assert registry.get_sample_value("slipstream_desired_replicas", labels) == 3
    states.forget(given.KEY)
    assert registry.get_sample_value("slipstream_desired_replicas", labels) is None


def test_a_service_whose_decision_fails_has_a_gauge_until_one_succeeds() -> None:
    registry, states = prometheus_client.CollectorRegistry(), ServiceStates()
    registry.register(ServiceGauges(decided=states.decided, failing=states.failing))
    labels = {"namespace": given.NAMESPACE, "service": given.NAME}
    failed = Decision(3, "a value that no decision can use", known=False, failed=True)
    states.of(given.KEY).record(Scaling(decision=failed))
    assert registry.get_sample_value("slipstream_decision_failing", labels) == 1
    states.of(given.KEY).record(Scaling(decision=Decision(3, "enough", known=True)))
    assert registry.get_sample_value("slipstream_decision_failing", labels) is None
