"""Kubernetes cluster of the user's kubeconfig, or of the pod that the command runs in."""

import dataclasses
import http.client
import json
import re
import ssl
import urllib.parse
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import urllib3
from kubernetes import client, config, stream
from kubernetes.client.exceptions import ApiException

from slipstream_operator import kinds, names

_SECONDS: Final = 30.0
"""Seconds for one read of the API server."""
_POD_SECONDS: Final = 120.0
"""Seconds for one read of a pod, whose records can have 50 MB."""
_ACCOUNT_NAMESPACE: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_MESSAGE: Final = 300
"""Characters of an answer that a message repeats."""
_SAFE: Final = re.compile(r"[a-z0-9.-]{1,253}")
"""Names that may be a part of a path of the API."""


_SERVICES: Final = next(each for each in kinds.ALL if each.name == names.INFERENCE_SERVICE)


class ClusterError(Exception):
    """Error of the cluster or of the right to use it, in one sentence for the user."""


@dataclasses.dataclass(frozen=True)
class Pod:
    """Pod with its state."""

    name: str
    ready_since: str | None
    """Time at which it became ready, as the API server writes it; None if it is not ready."""


class Cluster:
    """Objects and pods of one namespace."""

    def __init__(
        self, api: client.ApiClient, namespace: str, *, port_forward: bool = False
    ) -> None:
        self._api = api
        self.namespace = namespace
        self._by_node = port_forward
        """Whether nodes pass on the ports of pods, because the API server can't reach these."""

    def service(self, name: str) -> dict[str, Any]:
        """Return the InferenceService."""
        status, body = self._get(self._path(name))
        if status == _NOT_FOUND:
            if b'"details"' not in body:
                raise ClusterError(
                    "the cluster has no InferenceServices, because Slipstream is not installed in it"
                )
            raise ClusterError(
                f"there is no InferenceService {name} in the namespace {self.namespace}; "
                "kubectl get infer -A lists them"
            )
        return _object(status, body, right=f"get {_SERVICES.plural}.{_SERVICES.group}")

    def annotate(self, name: str, annotations: dict[str, str]) -> None:
        """Set annotations of the InferenceService."""
        change = {"metadata": {"annotations": annotations}}
        status, body = self._send(
            "PATCH",
            self._path(name),
            body=change,
            headers={"Content-Type": "application/merge-patch+json"},
        )
        _object(status, body, right=f"patch {_SERVICES.plural}.{_SERVICES.group}")

    def _path(self, name: str) -> str:
        """Return the path of an InferenceService."""
        collection = f"/apis/{_SERVICES.api_version}/namespaces/{self.namespace}/{_SERVICES.plural}"
        return f"{collection}/{_checked(name, what='service')}"

    def pods(self, labels: dict[str, str]) -> list[Pod]:
        """Return the pods with these labels that are not being deleted."""
        selector = ",".join(f"{name}={value}" for name, value in labels.items())
        path = f"/api/v1/namespaces/{self.namespace}/pods"
        status, body = self._get(path, labelSelector=selector)
        items = _object(status, body, right="list pods")["items"]
        return [_pod(item) for item in items if "deletionTimestamp" not in item["metadata"]]

    def config_map(self, name: str) -> dict[str, str] | None:
        """Return the data of a ConfigMap; None if there is none."""
        status, body = self._get(f"/api/v1/namespaces/{self.namespace}/configmaps/{name}")
        if status == _NOT_FOUND:
            return None
        data: dict[str, str] = _object(status, body, right="get configmaps").get("data") or {}
        return data

    def read(self, pod: str, port: int, path: str, **query: str) -> bytes | None:
        """Return the answer of a pod's port through the API server; None if the pod does not know the path.

        If the API server can't reach the port, as with a NetworkPolicy, the pod's node passes it on.
        """
        status, body = self._proxied(pod, port, path, query)
        if status >= _UNREACHABLE:
            refused = _said(body) or "not asked"
            try:
                status, body = self._forwarded(pod, port, path, query)
            except _FORWARD_ERRORS as error:
                raise ClusterError(
                    f"the API server can't read port {port} of the pod {pod} ({refused}), and its node can't "
                    f"pass the port on, which needs the right to create pods/portforward ({_short(error)})"
                ) from error
            self._by_node = True
        if status == _NOT_FOUND and not _is_status(body):
            return None
        if status == _FORBIDDEN:
            raise _forbidden(body, right="get pods/proxy")
        if status >= _ERRORS:
            raise ClusterError(f"the pod {pod} answered {status}: {_said(body)}")
        return body

    def _proxied(self, pod: str, port: int, path: str, query: dict[str, str]) -> tuple[int, bytes]:
        """Return status and body of a pod's answer by the API server's proxy, unless that failed before."""
        if self._by_node:
            return _UNREACHABLE, b""
        proxy = f"/api/v1/namespaces/{self.namespace}/pods/{pod}:{port}/proxy{path}"
        return self._get(proxy, seconds=_POD_SECONDS, **query)

    def _forwarded(
        self, pod: str, port: int, path: str, query: dict[str, str]
    ) -> tuple[int, bytes]:
        """Return status and body of a pod's answer by a forwarded port, as of kubectl port-forward."""
        forward = stream.portforward(
            client.CoreV1Api(self._api).connect_get_namespaced_pod_portforward,
            pod,
            self.namespace,
            ports=str(port),
            _request_timeout=_SECONDS,
        )
        connection = http.client.HTTPConnection("localhost", port)
        connection.sock = forward.socket(port)
        connection.sock.settimeout(_POD_SECONDS)
        try:
            connection.request("GET", f"{path}?{urllib.parse.urlencode(query)}")
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()
            forward.close()

    def _get(self, path: str, *, seconds: float = _SECONDS, **query: str) -> tuple[int, bytes]:
        """Return status and body of a path of the API server."""
        return self._send("GET", path, seconds=seconds, query=query)

    def _send(
        self,
        method: str,
        path: str,
        *,
        seconds: float = _SECONDS,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> tuple[int, bytes]:
        """Return status and body of the API server's answer."""
        call = self._api.param_serialize(
            method=method,
            resource_path=path,
            query_params=list((query or {}).items()),
            header_params=dict(headers or {}),
            body=body,
            auth_settings=["BearerToken"],
        )
        try:
            response = self._api.call_api(*call, _request_timeout=seconds)
            return response.status, response.read()
        except (urllib3.exceptions.HTTPError, ApiException, ssl.SSLError, OSError) as error:
            raise ClusterError(
                f"the API server at {self._api.configuration.host} did not answer: {_short(error)}"
            ) from error


_NOT_FOUND: Final = 404
_FORBIDDEN: Final = 403
_UNKNOWN_USER: Final = 401
_ERRORS: Final = 400
_UNREACHABLE: Final = 500
"""Statuses of HTTP. The last two are the least of all errors, and of those of a proxy that can't reach a pod."""
_FORWARD_ERRORS: Final = (
    ApiException,
    OSError,
    http.client.HTTPException,
    urllib3.exceptions.HTTPError,
)


def connect(
    *,
    namespace: str | None,
    context: str | None = None,
    kubeconfig: Path | None = None,
    port_forward: bool = False,
) -> Cluster:
    """Return the namespace of the kubeconfig's context, or of the pod that the command runs in.

    With `port_forward`, ports of pods are read through their nodes alone.
    """
    settings = client.Configuration()
    file = None if kubeconfig is None else str(kubeconfig)
    try:
        config.load_kube_config(file, context=context, client_configuration=settings)
        found = _namespace_of(file, context)
    except config.ConfigException as problem:
        try:
            if context is not None or kubeconfig is not None:
                raise
            config.load_incluster_config(client_configuration=settings)
        except config.ConfigException:
            raise ClusterError(f"no cluster is configured: {_short(problem)}") from None
        found = _ACCOUNT_NAMESPACE.read_text().strip()
    return Cluster(
        client.ApiClient(settings),
        _checked(namespace or found, what="namespace"),
        port_forward=port_forward,
    )


def _namespace_of(kubeconfig: str | None, context: str | None) -> str:
    contexts, current = config.list_kube_config_contexts(kubeconfig)
    chosen = next((one for one in contexts if one["name"] == context), current)
    return str(chosen["context"].get("namespace") or "default")


def _checked(name: str, *, what: str) -> str:
    if _SAFE.fullmatch(name) is None:
        raise ClusterError(f'"{name}" can be no {what}: names have the characters a-z, 0-9 and -')
    return name


def _pod(item: dict[str, Any]) -> Pod:
    conditions = item.get("status", {}).get("conditions") or []
    ready = next((one for one in conditions if one["type"] == "Ready"), None)
    since = ready["lastTransitionTime"] if ready and ready["status"] == "True" else None
    return Pod(item["metadata"]["name"], since)


def _object(status: int, body: bytes, *, right: str) -> dict[str, Any]:
    """Return the object of an answer of the API server."""
    if status == _FORBIDDEN:
        raise _forbidden(body, right=right)
    if status == _UNKNOWN_USER:
        raise ClusterError("the API server does not accept the credentials of the kubeconfig")
    if status >= _ERRORS:
        raise ClusterError(f"the API server answered {status}: {_said(body)}")
    try:
        found: dict[str, Any] = json.loads(body)
    except ValueError as error:
        raise ClusterError("the API server did not answer with JSON") from error
    return found


def _forbidden(body: bytes, *, right: str) -> ClusterError:
    return ClusterError(f"this needs the right to {right}: {_said(body)}")


def _is_status(body: bytes) -> bool:
    """Whether the API server itself wrote the answer."""
    try:
        found = json.loads(body)
    except ValueError:
        return False
    return isinstance(found, dict) and found.get("kind") == "Status"


def _said(body: bytes) -> str:
    """Return the message of an answer."""
    try:
        found = json.loads(body)
        text = str(found["message"])
    except (ValueError, KeyError, TypeError):
        text = body.decode(errors="replace")
    return _short(text)


def _short(text: object) -> str:
    return " ".join(str(text).split())[:_MESSAGE].rstrip(".")
