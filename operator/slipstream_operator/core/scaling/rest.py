"""What weighs on a service: as long as nothing of it grew, no more replicas are needed than at the last look.

For a decision is monotone in all of it; that a lower need is seen some seconds later does no harm.
"""

from typing import Final, NamedTuple

from slipstream_operator.core.scaling import queries, signals
from slipstream_operator.core.scaling.signals import Answers

_GROWTH: Final = 1.1
"""Less is chance."""
_RUNNING, _WAITING, _KV, _REJECTED, _PREEMPTED = (
    signals.PER_POD.index(name)
    for name in (
        queries.RUNNING,
        queries.WAITING,
        queries.KV_USAGE,
        queries.REJECTED,
        queries.PREEMPTED,
    )
)


class Burden(NamedTuple):
    """Sums over the pods that report, and what the router sees; what is missing is 0 or negative."""

    running: float
    waiting: float
    kv: float
    """Of the fullest pod."""
    trouble: float
    """Requests rejected and preempted per second."""
    arrivals: float
    surge: float
    held: float


def of(answers: Answers) -> Burden:
    """From one round's answers about a service."""
    rows, totals = answers.pods.values(), answers.totals
    return Burden(
        running=sum([row[_RUNNING] for row in rows]),
        waiting=sum([row[_WAITING] for row in rows]),
        kv=max([row[_KV] for row in rows], default=0.0),
        trouble=sum([max(0.0, row[_REJECTED]) + max(0.0, row[_PREEMPTED]) for row in rows]),
        arrivals=totals.get(queries.ARRIVALS, 0.0),
        surge=totals.get(queries.SURGE, 0.0),
        held=totals.get(queries.HELD, 0.0),
    )


def bearable(now: Burden, before: Burden) -> bool:
    """Whether nothing waits, nothing goes wrong, and no load is more than chance above what it was."""
    if now.waiting > 0 or now.trouble > 0 or now.held > 0:
        return False
    return (
        now.running <= _GROWTH * before.running + 1
        and now.kv <= _GROWTH * before.kv
        and now.arrivals <= _GROWTH * before.arrivals
        and now.surge <= _GROWTH * before.surge
    )
