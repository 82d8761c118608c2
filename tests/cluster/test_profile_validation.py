"""The API server refuses values of a profile that can't work."""

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
        ({"url": "http://p", "window": "500ms"}, '"500ms" is out of range. Use a duration from 1s'),
        ({"url": "http://p", "window": "1h30m"}, '"1h30m" is out of range. Use a duration from 1s'),
    ],
)
def test_a_prometheus_that_cannot_work_is_refused(
    kube: Kube, prometheus: dict[str, Any], message: str
) -> None:
    with pytest.raises(Refused) as refusal:
        kube.apply(profile(prometheus=prometheus))
    assert message in str(refusal.value)


@pytest.mark.parametrize(
    ("destination", "message"),
    [
        (
            {"cidr": "10.0.0.0"},
            '"10.0.0.0" is no range of addresses. Use one such as 10.20.0.0/16.',
        ),
        ({"cidr": "mirror"}, '"mirror" is no range of addresses. Use one such as 10.20.0.0/16.'),
        ({}, "exactly one of cidr and namespaceSelector is needed."),
        (
            {"cidr": "10.0.0.0/8", "namespaceSelector": {}},
            "exactly one of cidr and namespaceSelector is needed.",
        ),
        ({"cidr": "10.0.0.0/8", "ports": [0]}, "greater than or equal to 1"),
    ],
)
def test_a_destination_of_engines_that_cannot_work_is_refused(
    kube: Kube, destination: dict[str, Any], message: str
) -> None:
    with pytest.raises(Refused) as refusal:
        kube.apply(profile(network={"egress": {"allow": [destination]}}))
    assert message in str(refusal.value)


@pytest.mark.parametrize("size", [16, "16", "64m", "0.5", "1e2", "1n"])
@pytest.mark.parametrize("field", ["maxBodySize", "bodyMemory"])
def test_a_size_that_lacks_its_unit_is_refused(kube: Kube, field: str, size: int | str) -> None:
    with pytest.raises(Refused) as refusal:
        kube.apply(profile(router={field: size}))
    assert f'"{size}" is less than 1Ki. Use a size with its unit' in str(refusal.value)


def profile(**spec: Any) -> dict[str, Any]:
    """Return a profile that the API server must refuse."""
    return {
        "apiVersion": "slipstream.dev/v1alpha1",
        "kind": "ServingProfile",
        "metadata": {"name": "refused"},
        "spec": {"accelerators": [{"name": "cpu"}], **spec},
    }
