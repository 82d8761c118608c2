"""TLS from the client over the router to the engine, on a real node."""

import base64
import ssl

import httpx

from dev.cluster.kube import Kube
from slipstream_runtime import contract
from tests.support import services
from tests.support.certificates import Authority


def _write_profile(kube: Kube, namespace: str, **more: object) -> None:
    """The profile of the local cluster, with more fields, for this namespace alone."""
    local = kube.get("ServingProfile", None, "local")
    assert local is not None
    selector = {"matchLabels": {"kubernetes.io/metadata.name": namespace}}
    kube.apply(
        {
            **services.gpu_profile(namespace),
            "spec": {**local["spec"], "namespaceSelector": selector, **more},
        }
    )


def _write_certificate(kube: Kube, namespace: str, name: str, *, host: str, by: Authority) -> None:
    entries = by.issue(host)
    kube.apply(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": name, "namespace": namespace},
            "type": "kubernetes.io/tls",
            "data": {key: base64.b64encode(value).decode() for key, value in entries.items()},
        }
    )


def _trusting(authority: Authority) -> ssl.SSLContext:
    return ssl.create_default_context(cadata=authority.pem.decode())


def test_a_service_is_reached_by_https_alone_and_its_engine_by_tls(
    kube: Kube, namespace: str
) -> None:
    company, ours = Authority(), Authority()
    host, engines = f"safe.{namespace}.svc", contract.engines_host(namespace)
    _write_certificate(kube, namespace, "clients", host=host, by=company)
    _write_certificate(kube, namespace, "engines", host=engines, by=ours)
    tls = {"clients": {"secret": "clients"}, "engines": {"secret": "engines"}}
    _write_profile(kube, namespace, tls=tls)
    kube.apply(
        services.simulated(
            namespace,
            "safe",
            fake=False,
            routing={"mode": "Router"},
            simulator={"coldStart": "1s"},
        )
    )
    status = services.ready(kube, namespace, "safe", timeout=180)["status"]
    assert status["url"] == f"https://{host}/v1"
    service = kube.get("Service", namespace, "safe")
    assert service is not None
    assert [port["port"] for port in service["spec"]["ports"]] == [443]
    with httpx.Client(verify=_trusting(company), timeout=60) as client:
        answer = client.post(
            f"https://{service['spec']['clusterIP']}/v1/completions",
            json={"model": "safe", "prompt": "hello", "max_tokens": 4},
            extensions={"sni_hostname": host},
        )
    assert answer.status_code == 200, answer.text
    (pod,) = kube.find("Pod", namespace, labelSelector="slipstream.dev/service=safe")
    with httpx.Client(verify=_trusting(ours), timeout=60) as client:
        engine = f"https://{pod['status']['podIP']}:{contract.API_PORT}"
        client.get(f"{engine}/v1/models", extensions={"sni_hostname": engines})
