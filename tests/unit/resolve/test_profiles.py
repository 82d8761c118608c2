"""Which ServingProfile is for a namespace."""

from typing import Any

import pytest

from slipstream_operator.api.pod import LabelSelector
from slipstream_operator.core import profiles
from slipstream_operator.errors import PermanentError
from tests.support import given

ANY: dict[str, Any] = {}
PROD = {"matchLabels": {"env": "prod"}}
PROD_TEAM = {"matchLabels": {"env": "prod", "team": "a"}}
NAMED = {"matchExpressions": [{"key": "team", "operator": "Exists"}]}


@pytest.mark.parametrize(
    ("selectors", "labels", "expected"),
    [
        pytest.param({"all": None}, {}, "all", id="without a selector it is for all"),
        pytest.param({"all": ANY}, {"env": "prod"}, "all", id="an empty selector means all"),
        pytest.param({"all": ANY, "prod": PROD}, {"env": "prod"}, "prod", id="specific wins"),
        pytest.param({"all": ANY, "prod": PROD}, {"env": "test"}, "all", id="others fall back"),
        pytest.param(
            {"prod": PROD, "team": PROD_TEAM},
            {"env": "prod", "team": "a"},
            "team",
            id="more requirements are more specific",
        ),
        pytest.param(
            {"all": ANY, "named": NAMED}, {"team": "b"}, "named", id="expressions count, too"
        ),
    ],
)
def test_the_most_specific_profile_wins(
    selectors: dict[str, Any], labels: dict[str, str], expected: str
) -> None:
    found = [
        given.profile(name=name, **({} if selector is None else {"namespaceSelector": selector}))
        for name, selector in selectors.items()
    ]
    assert profiles.select(found, namespace="team", labels=labels)[0] == expected


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (("young", "2026-02-01T00:00:00Z"), ("old", "2026-01-01T00:00:00Z"), "old"),
        (("b", given.CREATED), ("a", given.CREATED), "a"),
    ],
)
def test_among_equals_the_oldest_wins_then_the_first_by_name(
    first: tuple[str, str], second: tuple[str, str], expected: str
) -> None:
    found = [given.profile(name=name, created=created) for name, created in (first, second)]
    assert profiles.select(found, namespace="team", labels={})[0] == expected


@pytest.mark.parametrize(
    ("operator", "values", "labels", "expected"),
    [
        ("In", ["a", "b"], {"k": "a"}, True),
        ("In", ["a"], {"k": "c"}, False),
        ("In", ["a"], {}, False),
        ("NotIn", ["a"], {"k": "a"}, False),
        ("NotIn", ["a"], {"k": "b"}, True),
        ("NotIn", ["a"], {}, True),
        ("Exists", None, {"k": ""}, True),
        ("Exists", None, {}, False),
        ("DoesNotExist", None, {"k": "a"}, False),
        ("DoesNotExist", None, {}, True),
    ],
)
def test_expressions_mean_what_they_mean_in_kubernetes(
    operator: str, values: list[str] | None, labels: dict[str, str], expected: bool
) -> None:
    requirement = {"key": "k", "operator": operator, "values": values}
    selector = LabelSelector.model_validate({"matchExpressions": [requirement]})
    assert profiles.matches(selector, labels) is expected


def test_all_requirements_must_hold() -> None:
    selector = LabelSelector.model_validate({**PROD, **NAMED})
    assert not profiles.matches(selector, {"env": "prod"})


def test_a_profile_that_is_for_others_does_not_count() -> None:
    found = [given.profile(namespaceSelector=PROD)]
    with pytest.raises(PermanentError, match="No ServingProfile selects namespace team"):
        profiles.select(found, namespace="team", labels={"env": "test"})


def test_an_invalid_profile_is_named() -> None:
    found = [given.profile(name="broken", accelerators=[])]
    with pytest.raises(PermanentError, match=r"^ServingProfile broken\.accelerators: "):
        profiles.select(found, namespace="team", labels={})
