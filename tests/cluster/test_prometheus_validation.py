"""The API server refuses a Prometheus of a profile that can't work."""

from typing import Any

import pytest

from dev.cluster.kube import Kube, Refused

SECRET = {"name": "slipstream-prometheus", "key": "token"}


@pytest.mark.parametrize(
    ("prometheus", "message"),
    [
        ({"url": "prometheus:9090"}, 'url: "prometheus:9090" has no scheme.'),
        ({"url": "http://p", "tokenSecret": SECRET}, "need a url that begins with https://"),
        ({"url": "http://p", "caSecret": SECRET}, "need a url that begins with https://"),
        (
            {"url": "http://p", "headers": [{"name": "a", "secret": SECRET}]},
            "need a url that begins with https://",
        ),
        (
            {"url": "https://p", "headers": [{"name": "a", "secret": SECRET, "value": "b"}]},
            "exactly one of value and secret",
        ),
        ({"url": "https://p", "headers": [{"name": "a"}]}, "exactly one of value and secret"),
    ],
)
def test_a_prometheus_that_cannot_work_is_refused(
    kube: Kube, prometheus: dict[str, Any], message: str
) -> None:
    profile = {
        "apiVersion": "slipstream.dev/v1alpha1",
        "kind": "ServingProfile",
        "metadata": {"name": "refused"},
        "spec": {"accelerators": [{"name": "cpu"}], "prometheus": prometheus},
    }
    with pytest.raises(Refused) as refusal:
        kube.apply(profile)
    assert message in str(refusal.value)
