"""Settings of the operator from its environment."""

import pytest

from slipstream_operator.config import Config

POD = {"POD_NAME": "operator-1", "POD_NAMESPACE": "slipstream-system"}


def test_without_names_it_runs_the_services_of_the_whole_cluster() -> None:
    assert Config.from_env(POD).namespaces == ()
    assert Config.from_env({**POD, "SLIPSTREAM_NAMESPACES": " , "}).namespaces == ()


def test_namespaces_are_listed_by_name() -> None:
    given = {**POD, "SLIPSTREAM_NAMESPACES": "team-b, team-a,team-b"}
    assert Config.from_env(given).namespaces == ("team-a", "team-b")


@pytest.mark.parametrize("name", ["*", "!kube-system", "Team", "a b", "-a", "a" * 64])
def test_patterns_are_no_names(name: str) -> None:
    with pytest.raises(
        ValueError, match=r"SLIPSTREAM_NAMESPACES: .* is not the name of a namespace"
    ):
        Config.from_env({**POD, "SLIPSTREAM_NAMESPACES": f"team-a,{name}"})


def test_all_errors_are_reported_together() -> None:
    given = {"POD_NAME": "a", "SLIPSTREAM_PORT": "x", "SLIPSTREAM_NAMESPACES": "*"}
    with pytest.raises(ValueError, match=r"SLIPSTREAM_PORT.*SLIPSTREAM_NAMESPACES.*POD_NAMESPACE"):
        Config.from_env(given)
