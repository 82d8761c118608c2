"""Problems with API keys: the report of a router, as the operator reads it and says it."""

import dataclasses
import json
from typing import Any

import pytest

from slipstream_operator.core import events, key_problems, revisions, status
from slipstream_operator.core.key_problems import KeyProblem
from slipstream_operator.core.observed import RouterState
from slipstream_operator.core.status.outcome import Outcome
from slipstream_operator.names import Reason
from tests.support import given
from tests.support.statuses import verdict

KEYED: dict[str, Any] = {"model": given.MODEL, "routing": {"apiKeys": {"name": "keys"}}}


def test_a_report_names_the_problem_of_each_service() -> None:
    report = {
        "chat": {"refused": ["team-a", "team_b.1"], "omitted": 2},
        "new": {"missing": True},
        "closed": {"unreadable": True},
    }
    assert key_problems.parse(json.dumps(report)) == {
        "chat": KeyProblem("refused", ("team-a", "team_b.1"), 2),
        "new": KeyProblem("missing"),
        "closed": KeyProblem("unreadable"),
    }


@pytest.mark.parametrize(
    "text",
    [
        None,
        7,
        "",
        "{",
        "[" * 100_000,
        "[1]",
        "null",
        "x" * (key_problems.LONGEST + 1),
        *(
            json.dumps({"chat": entry})
            for entry in (
                None,
                [],
                {"refused": "team-a"},
                {"refused": []},
                {"refused": [1, None, "a b", "x" * 254, "\u202e", "a\n"]},
                {"refused": ["a"], "omitted": -1},
                {"refused": ["a"], "omitted": True},
                {"refused": ["a"], "omitted": 10**9},
                {"missing": "yes"},
            )
        ),
    ],
)
def test_a_report_that_no_router_writes_says_nothing(text: object) -> None:
    assert key_problems.parse(text) == {}


def test_no_more_entries_are_named_than_a_router_names() -> None:
    found = key_problems.parse(json.dumps({"chat": {"refused": [f"e{n}" for n in range(99)]}}))
    assert found["chat"].entries == ("e0", "e1", "e2", "e3")


def summarize(problem: KeyProblem | None, spec: dict[str, Any] = KEYED) -> dict[str, Any]:
    router = RouterState(available=True, answers=True, keys=problem)
    observed = given.observed(spec, router=router)
    resolved = given.resolved(spec)
    revision = revisions.identity(resolved.revisioned)
    rollout = revisions.Rollout(
        revision,
        revision,
        (revisions.Revision(revision, 1),),
        by_router=resolved.routing.mode == "Router",
    )
    observed = dataclasses.replace(observed, pods=given.pods(revision, 1))
    return status.summarise(observed, Outcome(resolved=resolved, rollout=rollout), now=given.NOW)


@pytest.mark.parametrize(
    ("problem", "reason", "said"),
    [
        (
            KeyProblem("refused", ("team-a",)),
            Reason.KEYS_REFUSED,
            "Secret keys has 1 entry without a valid key: team-a. ",
        ),
        (
            KeyProblem("refused", ("a", "b"), 3),
            Reason.KEYS_REFUSED,
            "Secret keys has 5 entries without a valid key: a, b and 3 more. ",
        ),
        (KeyProblem("missing"), Reason.KEYS_MISSING, "Secret keys does not exist or has no entry"),
        (KeyProblem("unreadable"), Reason.KEYS_UNREADABLE, "Check the Role slipstream-router"),
    ],
)
def test_the_service_says_which_keys_are_not_accepted(
    problem: KeyProblem, reason: str, said: str
) -> None:
    found = summarize(problem)
    kind, given_reason, message = verdict(found, "KeysRefused") or ("", "", "")
    assert (kind, given_reason) == ("True", reason)
    assert message.startswith("spec.routing.apiKeys.name: ")
    assert said in message
    assert (verdict(found, "Ready") or ("",))[0] == "True"


def test_the_condition_is_there_only_while_the_router_checks_keys_and_refuses_some() -> None:
    problem = KeyProblem("missing")
    direct = {"model": given.MODEL, "routing": {"mode": "Direct"}}
    for found in (
        summarize(None),
        summarize(problem, {"model": given.MODEL}),
        summarize(problem, direct),
    ):
        assert verdict(found, "KeysRefused") is None


def test_another_refused_entry_is_written_at_once_and_the_first_one_posts_an_event() -> None:
    none, one, two = (
        summarize(found)
        for found in (None, KeyProblem("refused", ("a",)), KeyProblem("refused", ("a", "b")))
    )
    assert status.worth_writing(one, two, since_last_write=0.0)
    assert [event.reason for event in events.of_status(none, one)] == ["KeysRefused"]
    assert events.of_status(one, two) == []
