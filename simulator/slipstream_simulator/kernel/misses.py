"""Count of requests that have missed their limits so far, equal to `score.verdicts`, in one pass."""

import math

from slipstream_simulator.kernel.compiled import compiled
from slipstream_simulator.kernel.layout import (
    AHEAD,
    FINISHED,
    Floats,
    Records,
)


@compiled
def count(requests: Records, since: float, now: float, limits: Floats) -> tuple[int, int]:
    """Requests that missed, and those that have a verdict, of those that arrived from `since` on; it is `now`.

    `limits` is kinds x (TTFT, TPOT, E2E), in seconds, inf for none. What has missed once never comes right again.
    """
    missed = judged = 0
    for index in range(requests.shape[0]):
        one = requests[index]
        if one.fate == AHEAD:
            break
        if one.arrival < since:
            continue
        ttft, tpot, e2e = limits[one.kind, 0], limits[one.kind, 1], limits[one.kind, 2]
        if one.fate == FINISHED:
            judged += 1
            if (
                one.first - one.arrival > ttft
                or (one.finished - one.first) / max(1, one.output - 1) > tpot
                or one.finished - one.arrival > e2e
            ):
                missed += 1
            continue
        waited = now - one.arrival
        begun = waited if math.isnan(one.first) else one.first - one.arrival
        if one.fate > FINISHED or begun > ttft or waited > e2e:
            judged += 1
            missed += 1
    return missed, judged
