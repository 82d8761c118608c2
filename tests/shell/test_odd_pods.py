"""Objects of tenants' pods may hold any number, text and time. None of them is a fault of the operator."""

import json
from typing import Any, Final

from slipstream_operator.core import losses, pod_failures, revisions, status
from slipstream_operator.core.observed import Fetcher, ObservedPod
from slipstream_operator.core.status.outcome import Outcome
from slipstream_operator.shell import projections
from tests.support import fakes, given
from tests.support.odd import TEXTS, Odd

PODS: Final = 2000
TIMES: Final = (
    given.NOW, "9999-12-31T23:59:59Z", "0001-01-01T00:00:00Z", "0000-01-01T00:00:00Z", "yesterday", "",
)  # fmt: skip
SECONDS: Final = (0, 30, 2**31, 2**63 - 1, -(2**63))


def _status(odd: Odd) -> dict[str, Any]:
    """Return a status with the types of the API and any value."""
    choose = odd.random.choice

    def state() -> dict[str, Any]:
        ended = {
            "exitCode": choice if (choice := choose((0, 1, 137, 2**31 - 1))) else 0,
            "reason": choose(TEXTS),
            "message": choose((*TEXTS, "x" * 5000)),
            "finishedAt": choose(TIMES),
        }
        waiting = {"reason": choose(("CrashLoopBackOff", *TEXTS)), "message": choose(TEXTS)}
        return choose(({"terminated": ended}, {"waiting": waiting}, {"running": {}}, {}))

    containers = [
        {
            "name": choose(("engine", "fetch", "prefetch", "x")),
            "image": choose(TEXTS),
            "restartCount": choose((0, 2**31 - 1)),
            "state": state(),
            "lastState": state(),
        }
        for _ in range(odd.random.randrange(3))
    ]
    conditions = [
        {
            "type": choose(("Ready", "PodScheduled", "DisruptionTarget", *TEXTS)),
            "status": choose(("True", "False", "Unknown")),
            "reason": choose(("EvictionByEvictionAPI", *TEXTS)),
            "message": choose(TEXTS),
            "lastTransitionTime": choose(TIMES),
        }
        for _ in range(odd.random.randrange(3))
    ]
    return {
        "phase": choose(("Pending", "Running", "Succeeded", "Failed", "Unknown")),
        "reason": choose(("Evicted", "Preempting", "OutOfcpu", *TEXTS)),
        "message": choose(TEXTS),
        "startTime": choose(TIMES),
        "conditions": conditions,
        "containerStatuses": containers,
        "initContainerStatuses": containers[:1],
    }


def _pods() -> list[tuple[ObservedPod, Fetcher]]:
    found = []
    for number in range(PODS):
        odd = Odd(number)
        body = fakes.pod_body(given.identity(), name=f"p{number}", status=_status(odd))
        fetcher = fakes.fetcher_body("t", name=f"f{number}", status=_status(odd))
        for one in (body, fetcher):
            if odd.random.random() < 0.5:
                one["metadata"]["deletionTimestamp"] = given.NOW
                one["metadata"]["deletionGracePeriodSeconds"] = odd.random.choice(SECONDS)
        found.append((projections.pod(body), projections.fetcher(fetcher)))
    return found


def test_a_service_with_odd_pods_has_a_status_that_can_be_written() -> None:
    """The API server limits messages to 32 KiB, and texts of pods reach terminals."""
    resolved = given.resolved()
    for pod, fetcher in _pods():
        observed = given.observed(pods=[pod], fetchers=[fetcher])
        losses.event(observed, posted_at=None, now=given.MOMENT)
        rollout = revisions.roll_out(observed, resolved, replicas=1, now=given.MOMENT)
        outcome = Outcome(resolved=resolved, rollout=rollout)
        written = status.summarise(observed, outcome, now=given.CREATED)
        assert len(json.dumps(written, allow_nan=False)) < 32_768
        for condition in written["conditions"]:
            assert condition["message"].replace("\n", "").isprintable()


def test_characters_that_act_on_a_terminal_are_left_out() -> None:
    assert pod_failures.plain("bad\x1b[2J\x00 \u202ename\nhint ") == "bad [2J   name\nhint"
