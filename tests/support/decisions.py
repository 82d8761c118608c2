"""Load, state and decisions of a service whose engines have a known step time."""

from typing import Any

from slipstream_operator.core.scaling import policy
from slipstream_operator.core.scaling.metrics.values import Load
from slipstream_operator.core.scaling.models import steptime
from slipstream_operator.core.scaling.models.coldstart import ColdStart
from slipstream_operator.core.scaling.models.steptime import Row
from slipstream_operator.core.scaling.state import Decision, State
from tests.support import given

MODEL = steptime.fit((Row(20.0, 1.0, 1200.0, 5.0, 0.0074), Row(20.0, 60.0, 72000.0, 300.0, 0.0221)))
"""About 7 ms a step, and a little more for each sequence, its context and new prompts."""

SLOW = (given.reading(current=1.0, target=0.5),)

FAST = (given.reading(current=0.05, target=0.5),)


def known(desired: int, **fields: Any) -> State:
    """A state that knows the step time and how long starts take."""
    known = {"model": MODEL, "cold": ColdStart(5.0, 4.5, 0.01)}
    return given.state(desired, **{**known, **fields})


def traffic(rate: float, *, pods: int = 1, **changed: Any) -> Load:
    """Requests of 1155 prompt and 211 output tokens, the same on each pod, in steady state."""
    each = rate / pods
    busy = min(each * 0.055, 0.97)
    step = 0.007 / (1 - busy)
    batch = each * 211 * step
    pod = given.pod_load(
        batch,
        **{
            "kv": min(batch * 1260 / 120_000, 1.0),
            "output": each * 211,
            "prompt": each * 1155,
            "started": each,
            "finished": each,
            "steps": 1 / step,
            "itl_sum": each * 210 * step,
            "itl_count": each * 210,
            **changed,
        },
    )
    return Load(
        pods=(pod,) * pods,
        complete=True,
        output_length=211.0,
        prompt_length=1155.0,
        kv_tokens=120_000,
    )


def decide(state: State, **fields: Any) -> Decision:
    return policy.decide(given.inputs(**fields), state)[0]


WINDOW = ((701.0, 1),)
"""A need inside the window of 300 s before `now`, which is 1000."""

QUIET: dict[str, Any] = {"ready": 4, "load": traffic(2.0, pods=4), "readings": FAST}
