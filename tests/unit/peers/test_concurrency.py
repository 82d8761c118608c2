"""The peers that divide requests in flight by a target: KubeAI, Knative and Ray Serve."""

from collections.abc import Callable, Mapping

from slipstream_simulator.peers import knative, kubeai, ray_serve
from tests.support import views
from tests.support.views import ENGINE

Samples = Callable[[float, int], Mapping[str, views.Result]]


def _step(query: str, *, before: float, after: float, at: float) -> Samples:
    return lambda now, _: {query: views.number(before if now < at else after)}


def test_kubeai_follows_a_step_only_after_ten_minutes() -> None:
    policy = kubeai.shipped(ENGINE, 10.0)
    counts = views.driven(
        policy, _step("in_flight", before=20, after=80, at=10), replicas=2, until=700
    )
    assert counts[0] == 2
    assert counts[30] == 5  # half of the window
    assert counts[59] == 8


def test_kubeai_skips_three_lower_ticks_and_then_jumps() -> None:
    policy = kubeai.shipped(ENGINE, 10.0)
    counts = views.driven(policy, lambda *_: {"in_flight": views.number(10)}, replicas=9, until=50)
    assert counts == [9, 9, 9, 1, 1]


def test_kubeai_keeps_its_mean_over_a_restart() -> None:
    policy = kubeai.shipped(ENGINE, 10.0)
    views.driven(policy, lambda *_: {"in_flight": views.number(80)}, replicas=8, until=600)
    policy.restarted()
    idle = {"in_flight": views.number(0)}
    counts = views.driven(policy, lambda *_: idle, replicas=8, until=110)
    assert counts[:4] == [8, 8, 8, 8]
    assert counts[-2:] == [8, 7]  # lower since eight of sixty samples, and three ticks skipped


def test_kubeai_holds_when_it_reads_nothing() -> None:
    policy = kubeai.shipped(ENGINE, 10.0)
    assert policy.decide(views.view(5, {"in_flight": views.AWAY})) == 5
    assert policy.decide(views.view(5, {"in_flight": []})) == 5


def test_kubeai_leaves_zero_with_the_first_request() -> None:
    policy = kubeai.shipped(ENGINE, 10.0)
    assert policy.decide(views.view(0, {"in_flight": views.number(0)}, minimum=0)) == 0
    assert policy.decide(views.view(0, {"in_flight": views.number(1)}, minimum=0, now=10)) == 1


def test_knative_panics_when_the_short_window_asks_for_twice_the_pods() -> None:
    policy = knative.shipped(ENGINE, 70.0)
    counts = views.driven(
        policy, _step("in_flight", before=100, after=700, at=60), replicas=2, until=70
    )
    assert counts[29] == 2
    assert counts[32] == 10


def test_knative_does_not_go_down_until_a_minute_after_panic() -> None:
    policy = knative.shipped(ENGINE, 70.0)

    def burst(now: float, _: int) -> Mapping[str, views.Result]:
        return {"in_flight": views.number(700 if 60 <= now < 72 else 100)}

    counts = views.driven(policy, burst, replicas=2, until=200)
    peak = max(counts)
    last = max(index for index, count in enumerate(counts) if count == peak)
    assert peak == 10
    assert (
        2 * last == 118
    )  # a minute after 60 s, the last time that it was asked for twice the ready pods
    assert counts[-1] == 2


def test_knative_halves_at_most() -> None:
    policy = knative.shipped(ENGINE, 70.0)
    assert policy.decide(views.view(8, {"in_flight": views.number(10)})) == 4


def test_knative_goes_to_zero_after_the_grace_period() -> None:
    policy = knative.shipped(ENGINE, 70.0)
    idle = {"in_flight": views.number(0)}
    counts = views.driven(policy, lambda *_: idle, replicas=1, until=60, minimum=0)
    assert 2 * counts.index(0) == 30


def test_ray_serve_waits_half_a_minute_up_and_ten_minutes_down() -> None:
    policy = ray_serve.shipped(ENGINE, 2.0)
    samples = _step("ongoing", before=16, after=4, at=120)
    counts = views.driven(policy, samples, replicas=2, until=900)
    assert 10 * counts.index(8) == 30
    assert counts[60] == 8
    assert counts[-1] == 2


def test_ray_serve_begins_its_delay_anew_when_the_direction_turns() -> None:
    policy = ray_serve.shipped(ENGINE, 2.0)

    def wobbling(now: float, _: int) -> Mapping[str, views.Result]:
        return {"ongoing": views.number(0 if now % 60 >= 20 else 30)}

    counts = views.driven(policy, wobbling, replicas=5, until=600)
    assert set(counts) == {5}


def test_ray_serve_forgets_its_delay_in_a_restart() -> None:
    policy = ray_serve.shipped(ENGINE, 2.0)
    busy = {"ongoing": views.number(16)}
    assert views.driven(policy, lambda *_: busy, replicas=2, until=30) == [2, 2, 2]
    policy.restarted()
    assert views.driven(policy, lambda *_: busy, replicas=2, start=30, until=60) == [2, 2, 2]
