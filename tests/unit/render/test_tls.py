"""TLS of a ServingProfile, in the objects of services and of the router, and in their addresses."""

from typing import Any

import pytest

from slipstream_operator.core import resolve, revisions, router_config
from slipstream_operator.core.render import router, service
from slipstream_operator.errors import PermanentError
from slipstream_operator.names import Reason
from slipstream_runtime import contract
from slipstream_runtime.engine.config import EngineConfig
from tests.support import given

CLIENTS = {"clients": {"secret": "public-tls"}}
ENGINES = {"engines": {"secret": "engine-tls"}}
SIMULATED = {"runtime": "simulator", "accelerator": {"type": "cpu"}}


def snapshot(tls: dict[str, Any] | None, mode: str = "Router") -> Any:
    profile = given.profile(**({} if tls is None else {"tls": tls}))
    spec = {"model": given.MODEL, "routing": {"mode": mode}}
    return given.observed(spec, profiles=[profile])


def router_objects(tls: dict[str, Any] | None) -> list[dict[str, Any]]:
    profile = given.profile(**({} if tls is None else {"tls": tls}))
    service = snapshot(tls)
    entry = given.entry(service)
    assert entry is not None
    seen = given.router([service.parent], profiles=[profile])
    found = router_config.resolve(seen, {service.parent.key.name: entry}, {})
    assert found is not None
    return router.render(found)


def container(manifests: list[dict[str, Any]]) -> Any:
    return given.find(manifests, "Deployment")["spec"]["template"]["spec"]["containers"][0]


def ports(manifests: list[dict[str, Any]], name: str) -> list[tuple[str, int, str]]:
    found = given.find(manifests, "Service", name=name)["spec"]["ports"]
    return [(port["name"], port["port"], port["targetPort"]) for port in found]


def test_without_it_nothing_changes() -> None:
    assert "certificate" not in str(given.rendered(snapshot(None)))
    assert "--tls" not in container(router_objects(None))["command"]
    assert ports(router_objects(None), contract.ROUTER_NAME) == [("http", 80, "http")]


@pytest.mark.parametrize(
    ("allow", "offered"),
    [
        (False, [("https", 443, "https")]),
        (True, [("http", 80, "http"), ("https", 443, "https")]),
    ],
)
def test_clients_reach_the_router_by_https_and_by_http_only_if_it_is_allowed(
    allow: bool, offered: list[tuple[str, int, str]]
) -> None:
    tls = {"clients": {"secret": "public-tls", "http": "Allowed" if allow else "Refused"}}
    manifests = router_objects(tls)
    assert ports(manifests, contract.ROUTER_NAME) == offered
    assert ports(given.rendered(snapshot(tls)), given.NAME) == offered
    command = container(manifests)["command"]
    assert ("--no-plain" in command) is not allow
    assert command[command.index("--tls") + 1] == contract.CERTIFICATE_DIRECTORY
    opened = given.find(manifests, "NetworkPolicy")["spec"]["ingress"][0]["ports"]
    assert [port["port"] for port in opened] == ([8000, 8443] if allow else [8443])


def test_the_router_gets_the_authority_of_the_engines_and_not_their_key() -> None:
    pod = given.find(router_objects(ENGINES), "Deployment")["spec"]["template"]["spec"]
    secrets = {v["name"]: v["secret"] for v in pod["volumes"] if "secret" in v}
    assert secrets["authorities"]["items"] == [{"key": "ca.crt", "path": "ca.crt"}]
    command = pod["containers"][0]["command"]
    assert (
        command[command.index("--engine-host") + 1] == f"slipstream-engines.{given.NAMESPACE}.svc"
    )


def test_engines_serve_with_their_certificate_and_their_revision_says_so() -> None:
    manifests = given.rendered(snapshot(ENGINES))
    pod = given.find(manifests, "Deployment")["spec"]["template"]["spec"]
    (volume,) = (v for v in pod["volumes"] if v["name"] == "certificate")
    assert volume["secret"] == {"secretName": "engine-tls"}
    config = given.resolved(
        {"model": given.MODEL}, profiles=[given.profile(tls=ENGINES)]
    ).revisioned.config
    assert str(EngineConfig.model_validate(config).certificate) == contract.CERTIFICATE_DIRECTORY
    headless = [m for m in manifests if m["kind"] == "Service" and m["spec"].get("clusterIP")]
    assert [m["spec"]["ports"][0].get("appProtocol") for m in headless] == ["https"]


def test_the_engines_of_the_revision_before_are_still_reached_by_http() -> None:
    before = given.realised(snapshot(None))
    after = given.dataclasses.replace(
        before,
        profiles=(given.profile(tls=ENGINES),),
        pods=given.pods(given.identity({"model": given.MODEL, "routing": {"mode": "Router"}}), 1),
    )
    headless = [
        m for m in given.rendered(after) if m["kind"] == "Service" and m["spec"].get("clusterIP")
    ]
    protocols = {m["spec"]["ports"][0].get("appProtocol") for m in headless}
    assert protocols == {None, "https"}


def test_with_mode_direct_engines_have_the_certificate_for_clients() -> None:
    manifests = given.rendered(snapshot({**CLIENTS, **ENGINES}, "Direct"))
    pod = given.find(manifests, "Deployment")["spec"]["template"]["spec"]
    (volume,) = (v for v in pod["volumes"] if v["name"] == "certificate")
    assert volume["secret"] == {"secretName": "public-tls"}
    assert ports(manifests, given.NAME) == [("https", 443, "http")]


def test_a_gateway_can_not_reach_engines_by_tls() -> None:
    with pytest.raises(
        PermanentError, match=r"routing\.mode: Gateway can't work with tls\.engines"
    ) as e:
        resolve.resolve(snapshot(ENGINES, "Gateway"))
    assert e.value.reason == Reason.UNSUPPORTED


@pytest.mark.parametrize(("tls", "scheme"), [(None, "http"), (ENGINES, "http"), (CLIENTS, "https")])
def test_the_url_has_the_scheme_of_the_clients(tls: dict[str, Any] | None, scheme: str) -> None:
    resolved = resolve.resolve(snapshot(tls))
    url = service.url(resolved.key, secure=resolved.routing.secure)
    assert url == f"{scheme}://{given.NAME}.{given.NAMESPACE}.svc/v1"


def test_another_secret_is_another_revision_and_its_content_is_not() -> None:
    spec = {"model": given.MODEL}
    one, two = (
        given.identity(spec, profiles=[given.profile(tls={"engines": {"secret": name}})])
        for name in ("a", "b")
    )
    assert len({one, two, given.identity(spec)}) == 3
    assert revisions.certified({revisions.ENGINE_KEY: "{}"}) is False
