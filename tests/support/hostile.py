"""A pod of a tenant that is no engine, and exports what no engine exports."""

from typing import Any, Final

import httpx

from dev import waiting
from dev.cluster.kube import Kube
from slipstream_runtime import contract

_SERVER: Final = """
import http.server, sys
class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("content-type", "text/plain; version=0.0.4; charset=utf-8")
        self.end_headers()
        self.wfile.write(sys.argv[1].encode())
http.server.HTTPServer(("", int(sys.argv[2])), Page).serve_forever()
"""


def page(service: str) -> str:
    """Return metrics in the name of the service, of which no number makes sense."""
    own = f'service="{service}",revision="x"'
    return "\n".join(
        [
            f'{contract.CACHE_INFO}{{{own},num_gpu_blocks="²",block_size="{"9" * 5000}"}} 1',
            f'{contract.TTFT}_bucket{{{own},le="abc"}} 1',
            f'{contract.TTFT}_bucket{{{own},le="NaN"}} 1',
            f"{contract.TTFT}_bucket{{{own}}} 1",
            f"{contract.RUNNING}{{{own}}} NaN",
            f"{contract.WAITING}{{{own}}} -5",
            f"{contract.KV_USAGE}{{{own}}} 1e300",
            f"{contract.SEQUENCES}{{{own}}} 1e308",
            "",
        ]
    )


def pod(kube: Kube, namespace: str, service: str) -> dict[str, Any]:
    """Return a pod that exports this page, as everybody who may create pods can make one."""
    profile = kube.get("ServingProfile", None, "local")
    assert profile is not None
    port = str(contract.MANAGEMENT_PORT)
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": "hostile",
            "namespace": namespace,
            "annotations": {"prometheus.io/scrape": "true", "prometheus.io/port": port},
        },
        "spec": {
            "runtimeClassName": "slipstream-local",
            "terminationGracePeriodSeconds": 0,
            "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [
                {
                    "name": "page",
                    "image": profile["spec"]["images"]["simulator"],
                    "command": [
                        "/opt/slipstream/venv/bin/python",
                        "-c",
                        _SERVER,
                        page(service),
                        port,
                    ],
                    "securityContext": {
                        "allowPrivilegeEscalation": False,
                        "capabilities": {"drop": ["ALL"]},
                        "runAsUser": 65532,
                    },
                }
            ],
        },
    }


def value(kube: Kube, query: str) -> float | None:
    """Return the only value of a query to the cluster's Prometheus; None if there is none."""
    service = kube.get("Service", "monitoring", "prometheus")
    assert service is not None
    url = f"http://{service['spec']['clusterIP']}:9090/api/v1/query"
    result = httpx.get(url, params={"query": query}, timeout=10).json()["data"]["result"]
    return float(result[0]["value"][1]) if result else None


def scraped(kube: Kube, namespace: str) -> None:
    """Wait until Prometheus has the page."""
    query = f'count({contract.TTFT}_bucket{{namespace="{namespace}", le="abc"}})'
    waiting.until(lambda: value(kube, query) == 1, seconds=60, what="the page is scraped")
