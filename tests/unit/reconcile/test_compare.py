"""Compare: what is wanted must be there; what others added does not count."""

from typing import Any

import pytest

from slipstream_operator.core import compare

SAME: dict[str, tuple[Any, Any]] = {
    "equal values": ({"a": 1}, {"a": 1}),
    "keys of others": ({"a": 1}, {"a": 1, "b": 2}),
    "an empty map that is left out": ({"a": {}}, {}),
    "an empty list that is left out": ({"a": []}, {}),
    "an empty text that is left out": ({"name": "A", "value": ""}, {"name": "A"}),
    "an empty map that became null": ({"a": {}}, {"a": None}),
    "a quantity in another spelling": ({"cpu": "1000m"}, {"cpu": "1"}),
    "memory in another spelling": ({"memory": "1024Mi"}, {"memory": "1Gi"}),
    "containers in another order": (
        [{"name": "a", "image": "x"}, {"name": "b"}],
        [{"name": "b"}, {"name": "a", "image": "x"}],
    ),
    "a container of others": ([{"name": "a"}], [{"name": "sidecar"}, {"name": "a"}]),
    "ports with defaults": ([{"port": 80}], [{"port": 80, "protocol": "TCP", "nodePort": 0}]),
    "two tolerations of one key": (
        [{"key": "gpu", "effect": "NoSchedule"}, {"key": "gpu", "effect": "NoExecute"}],
        [{"key": "gpu", "effect": "NoSchedule"}, {"key": "gpu", "effect": "NoExecute"}],
    ),
    "words": (["a", "b"], ["a", "b"]),
}

DIFFERENT: dict[str, tuple[Any, Any, str]] = {
    "a value": ({"spec": {"replicas": 1}}, {"spec": {"replicas": 2}}, "spec.replicas"),
    "a missing key": ({"spec": {"a": 1}}, {"spec": {}}, "spec.a"),
    "a missing map": ({"spec": {"a": {"b": 1}}}, {"spec": {}}, "spec.a"),
    "a map that is none": ({"spec": {"a": {"b": 1}}}, {"spec": {"a": "x"}}, "spec.a"),
    "a list that is none": ({"a": [1]}, {"a": None}, "a"),
    "a quantity": ({"cpu": "1"}, {"cpu": "2"}, "cpu"),
    "a text": ({"image": "a:1"}, {"image": "a:2"}, "image"),
    "a number as text": ({"port": 80}, {"port": "80"}, "port"),
    "a missing container": (
        {"containers": [{"name": "a"}]},
        {"containers": [{"name": "b"}]},
        "containers[a]",
    ),
    "inside a container": (
        {"containers": [{"name": "a", "image": "x"}]},
        {"containers": [{"name": "b", "image": "x"}, {"name": "a", "image": "y"}]},
        "containers[a].image",
    ),
    "words in another order": ({"drop": ["a", "b"]}, {"drop": ["b", "a"]}, "drop[0]"),
    "a word more": ({"drop": ["ALL"]}, {"drop": ["ALL", "x"]}, "drop"),
    "a word fewer": ({"command": ["a", "b"]}, {"command": ["a"]}, "command"),
}


@pytest.mark.parametrize(("desired", "observed"), SAME.values(), ids=SAME)
def test_nothing_is_missing(desired: Any, observed: Any) -> None:
    assert compare.difference(desired, observed) is None


@pytest.mark.parametrize(("desired", "observed", "path"), DIFFERENT.values(), ids=DIFFERENT)
def test_the_first_difference_is_named(desired: Any, observed: Any, path: str) -> None:
    assert compare.difference(desired, observed) == path
