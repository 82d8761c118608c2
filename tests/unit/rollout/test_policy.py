"""Policies of rollouts, from the spec."""

from typing import Any

import pytest

from slipstream_operator.core.rollout.policy import Policy
from slipstream_operator.errors import PermanentError
from tests.support import given


def steps(**fields: Any) -> dict[str, Any]:
    return {"model": given.MODEL, "rollout": {"steps": ["5%", "50%"], **fields}}


@pytest.mark.parametrize(
    ("rollout", "expected"),
    [
        (None, None),
        ({}, None),
        ({"strategy": "Recreate"}, None),
        ({"steps": ["5%", "50%"]}, Policy((5, 50))),
        (
            {
                "strategy": "Canary",
                "steps": ["1%"],
                "pause": "90s",
                "tolerance": "2.5%",
                "surge": 0,
                "analysis": {"slo": False, "minRequests": 30, "maxDuration": "2h"},
            },
            Policy(
                (1,),
                pause=90.0,
                tolerance=0.025,
                surge=0,
                latency=False,
                min_requests=30,
                max_duration=7200.0,
            ),
        ),
    ],
)
def test_unset_fields_have_their_defaults(
    rollout: dict[str, Any] | None, expected: Policy | None
) -> None:
    spec = {"model": given.MODEL, **({} if rollout is None else {"rollout": rollout})}
    assert given.resolved(spec).steps == expected


def test_a_policy_is_no_part_of_the_revision() -> None:
    plain = given.identity({"model": given.MODEL})
    assert given.identity(steps(pause="1m", surge=1)) == plain


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            {**steps(), "routing": {"mode": "Direct"}},
            'spec.rollout.steps: can\'t work with spec.routing.mode: "Direct"',
        ),
        (steps(steps=["75%"]), '"75%" is not a step. Use a whole percentage from 1% to 50%'),
        (steps(steps=["50%", "5%"]), "the steps must increase"),
        (steps(steps=["5%", "5%"]), "the steps must increase"),
        (steps(tolerance="a lot"), '"a lot" is not a percentage'),
        (steps(pause="soon"), '"soon" is not a duration'),
    ],
)
def test_a_policy_that_was_stored_before_the_rules_is_refused_with_the_field(
    spec: dict[str, Any], message: str
) -> None:
    with pytest.raises(PermanentError) as refused:
        given.resolved(spec)
    assert message in refused.value.message
