"""A tick is a function: it returns the next state and leaves the present one as it is."""

import dataclasses

from slipstream_operator.core import revisions, tick
from slipstream_operator.core.activation import Renewal
from slipstream_operator.core.scaling.metrics import queries
from slipstream_operator.core.scaling.metrics.values import Unknown
from slipstream_operator.core.tick import Changes, Moment, Scaling, Service
from tests.support import given, scalers, ticks

NOW = Moment(wall=1000.0, monotonic=50.0)
UNKNOWN = Unknown("Prometheus does not answer")


def _service() -> Service:
    observed = given.observed(parent=given.parent(scalers.SPEC))
    resolved = given.resolved(scalers.SPEC)
    rollout = revisions.roll_out(observed, resolved, replicas=1, now=given.MOMENT)
    return Service(given.KEY, resolved, rollout, pods=())


def test_the_same_measurements_and_state_give_the_same_next_state() -> None:
    before = Scaling(state=given.state(3))
    kept = dataclasses.replace(before)
    first, second = (tick.tick(UNKNOWN, before, _service(), moment=NOW) for _ in range(2))
    assert first == second
    assert before == kept
    assert first[0].decision is not None and first[0].decision.desired == 3


def test_a_first_decision_is_reported_at_once_and_the_same_one_later() -> None:
    scaling, changes = tick.tick(UNKNOWN, Scaling(state=given.state(3)), _service(), moment=NOW)
    assert changes is Changes.MAJOR
    later = Moment(NOW.wall + 5, NOW.monotonic + 5)
    _, changes = tick.tick(UNKNOWN, scaling, _service(), moment=later)
    assert changes is Changes.MINOR


def test_a_profile_is_kept_between_its_rounds_and_forgotten_without_prometheus() -> None:
    of = ticks.service(ticks.READY, ticks.READY)
    causes = [ticks.series(2.0, given.KEY, part="rest", cause="decode")]
    page = {**dict.fromkeys(ticks.NAMES, ()), queries.ENGINE_TIMES: causes}
    scaling = ticks.decide(page, Scaling(state=given.state(2)), of)
    assert scaling.measured is not None and scaling.measured.profile is not None
    assert scaling.measured.profile.whole == {"decode": 2.0}
    without = {name: rows for name, rows in page.items() if name not in queries.PROFILE}
    kept = ticks.decide(without, scaling, of)
    assert kept.measured is not None
    assert kept.measured.profile == scaling.measured.profile
    lost, _ = tick.tick(UNKNOWN, kept, of, moment=Moment(ticks.NOW + 500, 900.0))
    assert lost.measured is not None and lost.measured.profile is None


def test_a_service_whose_values_are_unusable_is_held_and_reported_once() -> None:
    scaling, changes = tick.hold(Scaling(state=given.state(3)))
    assert changes is Changes.MAJOR
    assert scaling.decision is not None
    assert (scaling.decision.desired, scaling.decision.known) == (3, False)
    assert tick.hold(scaling) == (scaling, Changes.NONE)


def test_between_ticks_a_count_outside_new_bounds_is_moved_into_them() -> None:
    spec = {**scalers.SPEC, "scaling": {"minReplicas": 2, "maxReplicas": 9}}
    observed, resolved = given.observed(parent=given.parent(spec)), given.resolved(spec)
    decided = dataclasses.replace(Scaling(), state=given.state(1))
    found = tick.between_ticks(decided, observed, resolved, renewal=Renewal(None), moment=NOW)
    assert found.decision is not None and found.decision.desired == 2
    again = tick.between_ticks(found, observed, resolved, renewal=Renewal(None), moment=NOW)
    assert again == found
