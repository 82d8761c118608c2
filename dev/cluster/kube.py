"""A real API server for tests, benchmarks and the demo: the admin's certificate, and watches instead of sleeps."""

import base64
import contextlib
import json
import ssl
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import yaml

from dev import waiting
from slipstream_operator import kinds
from slipstream_operator.kinds import Kind

Object = dict[str, Any]

_PATIENCE_SECONDS = 30.0
_OTHERS = (
    Kind("Node", "", "v1", "nodes", namespaced=False),
    Kind("PersistentVolume", "", "v1", "persistentvolumes", namespaced=False),
    Kind("PersistentVolumeClaim", "", "v1", "persistentvolumeclaims"),
    Kind("StatefulSet", "apps", "v1", "statefulsets"),
    Kind("EndpointSlice", "discovery.k8s.io", "v1", "endpointslices"),
    Kind("ResourceClaim", "resource.k8s.io", "v1", "resourceclaims"),
    Kind("ResourceSlice", "resource.k8s.io", "v1", "resourceslices", namespaced=False),
    Kind("DeviceClass", "resource.k8s.io", "v1", "deviceclasses", namespaced=False),
)
"""Kinds that tests use and the operator does not."""
_KINDS = {**kinds.BY_NAME, **{kind.name: kind for kind in _OTHERS}}


class Refused(Exception):
    """The API server said no."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status
        self.message = message


class Kube:
    """The API server, as its admin sees it."""

    def __init__(self, kubeconfig: Path, kubectl: Path) -> None:
        self.kubeconfig = kubeconfig
        self.kubectl_path = kubectl
        settings = yaml.safe_load(kubeconfig.read_text())
        cluster, user = settings["clusters"][0]["cluster"], settings["users"][0]["user"]
        with tempfile.TemporaryDirectory() as folder:
            certificate = _file(Path(folder), user, "client-certificate")
            key = _file(Path(folder), user, "client-key")
            context = ssl.create_default_context(
                cafile=str(_file(Path(folder), cluster, "certificate-authority"))
            )
            context.load_cert_chain(certificate, key)
        self.http = httpx.Client(
            base_url=cluster["server"], verify=context, timeout=30, trust_env=False
        )

    def __enter__(self) -> "Kube":
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()

    def kubectl(self, *arguments: str, stdin: str | None = None, check: bool = True) -> str:
        """Return the output of kubectl; Refused if it fails."""
        done = subprocess.run(
            [str(self.kubectl_path), "--kubeconfig", str(self.kubeconfig), *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
        )
        if check and done.returncode:
            raise Refused(done.returncode, done.stderr)
        return done.stdout

    def apply(self, manifest: Mapping[str, Any], *, manager: str = "a-user") -> Object:
        """Server-side apply with strict validation."""
        return self._send(
            "PATCH",
            self.path(
                manifest["kind"],
                manifest["metadata"].get("namespace"),
                manifest["metadata"]["name"],
            ),
            json=manifest,
            params={"fieldManager": manager, "force": "true", "fieldValidation": "Strict"},
            headers={"Content-Type": "application/apply-patch+yaml"},
        )

    def patch(self, kind: str, namespace: str | None, name: str, change: Any) -> Object:
        """Merge patch."""
        return self._send(
            "PATCH",
            self.path(kind, namespace, name),
            json=change,
            headers={"Content-Type": "application/merge-patch+json"},
        )

    def write_status(
        self, kind: str, namespace: str, name: str, status: Mapping[str, Any]
    ) -> Object:
        """Merge patch of the status, as a controller that is not here would write it."""
        return self._send(
            "PATCH",
            f"{self.path(kind, namespace, name)}/status",
            json={"status": status},
            headers={"Content-Type": "application/merge-patch+json"},
        )

    def get(self, kind: str, namespace: str | None, name: str) -> Object | None:
        """The object, None if there is none."""
        with contextlib.suppress(Gone):
            return self._send("GET", self.path(kind, namespace, name))
        return None

    def find(self, kind: str, namespace: str | None = None, **params: str) -> list[Object]:
        """All objects of a kind."""
        items: list[Object] = self._send("GET", self.path(kind, namespace), params=params)["items"]
        return items

    def delete(self, kind: str, namespace: str | None, name: str, **options: Any) -> None:
        """Delete it if it is there."""
        with contextlib.suppress(Gone):
            self._send("DELETE", self.path(kind, namespace, name), json=options or None)

    def path(self, kind: str, namespace: str | None = None, name: str | None = None) -> str:
        """URL path of a collection or an object."""
        found = _KINDS[kind]
        prefix = f"/{'apis' if found.group else 'api'}/{found.api_version}"
        scope = f"/namespaces/{namespace}" if found.namespaced and namespace else ""
        return f"{prefix}{scope}/{found.plural}" + (f"/{name}" if name else "")

    def until(
        self,
        kind: str,
        namespace: str | None,
        predicate: Callable[[list[Object]], Any],
        *,
        timeout: float,
        name: str | None = None,
        labels: str = "",
        what: str = "",
    ) -> Any:
        """Watch a collection until the predicate over all its objects is true; its value."""
        deadline = time.monotonic() + timeout
        fields = f"metadata.name={name}" if name else ""
        selection = {"labelSelector": labels, "fieldSelector": fields}
        found: dict[str, Object] = {}
        for objects in self._snapshots(kind, namespace, selection, deadline):
            found = objects
            if value := predicate(list(found.values())):
                return value
        state = json.dumps([_short(item) for item in found.values()], indent=1)[:6000]
        raise AssertionError(f"{what or kind} was not as wanted after {timeout:.0f} s: {state}")

    def _snapshots(
        self, kind: str, namespace: str | None, selection: dict[str, str], deadline: float
    ) -> Iterator[dict[str, Object]]:
        """The collection now, and again after each change, until the deadline."""
        path = self.path(kind, namespace)
        while time.monotonic() < deadline:
            answer = self._send("GET", path, params=selection)
            objects = {item["metadata"]["uid"]: {"kind": kind, **item} for item in answer["items"]}
            yield objects
            watch = {
                **selection,
                "watch": "true",
                "resourceVersion": answer["metadata"]["resourceVersion"],
                "timeoutSeconds": str(max(1, int(deadline - time.monotonic()))),
            }
            with (
                contextlib.suppress(httpx.ReadTimeout, httpx.RemoteProtocolError),
                self.http.stream(
                    "GET", path, params=watch, timeout=max(1.0, deadline - time.monotonic())
                ) as stream,
            ):
                for line in stream.iter_lines():
                    event = json.loads(line)
                    if event["type"] == "ERROR":
                        break
                    uid = event["object"]["metadata"]["uid"]
                    if event["type"] == "DELETED":
                        objects.pop(uid, None)
                    else:
                        objects[uid] = event["object"]
                    yield objects

    def _send(self, method: str, path: str, **arguments: Any) -> Object:
        response: httpx.Response

        def taken() -> bool:
            nonlocal response
            response = self.http.request(method, path, **arguments)
            return response.status_code != httpx.codes.TOO_MANY_REQUESTS  # a kind being made

        waiting.until(taken, seconds=_PATIENCE_SECONDS, what=f"{method} {path} taken", interval=1.0)
        if response.status_code == 404:
            raise Gone(404, path)
        if response.status_code >= 400:
            raise Refused(response.status_code, response.json().get("message", response.text))
        answer: Object = response.json()
        return answer


class Gone(Refused):
    """There is no such object."""


def condition(item: Object, kind: str) -> Object:
    """A condition of an object, empty if it has none of this type."""
    found = (
        item.get("status", {}).get("conditions") or []
    )  # null, in a new CustomResourceDefinition
    return next((entry for entry in found if entry["type"] == kind), {})


def is_true(item: Object, kind: str) -> bool:
    """Whether a condition is True and judged by the present generation."""
    entry = condition(item, kind)
    return bool(
        entry.get("status") == "True"
        and entry.get("observedGeneration", item["metadata"].get("generation"))
        == item["metadata"].get("generation")
    )


def _file(folder: Path, source: Mapping[str, str], key: str) -> Path:
    if key in source:
        return Path(source[key])
    path = folder / key
    path.write_bytes(base64.b64decode(source[f"{key}-data"]))
    return path


def _short(item: Object) -> Object:
    metadata = {
        key: item["metadata"].get(key) for key in ("name", "namespace", "deletionTimestamp")
    }
    return {"metadata": metadata, "status": item.get("status")}
