"""Client of a cluster's API server with the administrator's rights, for the local cluster, tests and benchmarks."""

import base64
import contextlib
import functools
import json
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import yaml

from dev import waiting
from dev.cluster.layout import Layout
from dev.cluster.tls import SharedContext
from dev.errors import DevError
from slipstream_operator import kinds
from slipstream_operator.kinds import Kind

Object = dict[str, Any]
Manifest = Mapping[str, Any]

_PATIENCE_SECONDS = 30.0
"""Limit for requests that the API server asks to repeat, as it does while a new kind's storage starts."""
_REPEAT = (httpx.codes.TOO_MANY_REQUESTS, httpx.codes.SERVICE_UNAVAILABLE)
_PARALLEL = 16
"""Manifests that are applied at once."""
_FIRST = ("Namespace", "CustomResourceDefinition")
"""Kinds that the other manifests of one set depend on."""
_APPLY = {"Content-Type": "application/apply-patch+yaml"}
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
_MOST_WAITS = 5
"""A wait may last this many times its timeout, as long as something changes meanwhile."""


class Refused(Exception):
    """Error that the API server answered."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status
        self.message = message


class Kube:
    """API server with the administrator's rights; close it after use."""

    def __init__(self, kubeconfig: Path, kubectl: Path) -> None:
        self.kubeconfig = kubeconfig
        self.kubectl_path = kubectl
        settings = yaml.safe_load(kubeconfig.read_text())
        cluster, user = settings["clusters"][0]["cluster"], settings["users"][0]["user"]
        with tempfile.TemporaryDirectory() as folder:
            certificate = _file(Path(folder), user, "client-certificate")
            key = _file(Path(folder), user, "client-key")
            authority = _file(Path(folder), cluster, "certificate-authority")
            context = SharedContext(authority, certificate, key)
        self.http = httpx.Client(
            base_url=cluster["server"], verify=context, timeout=30, trust_env=False
        )

        self._discovered = functools.cache(self._discover)

    @classmethod
    def of(cls, layout: Layout) -> "Kube":
        """Return the client of a local cluster."""
        return cls(layout.kubeconfig, layout.binaries / "cli" / "kubectl")

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

    def ready(self) -> bool:
        """Whether the API server answers and is ready."""
        with contextlib.suppress(httpx.HTTPError):
            return self.http.get("/readyz").status_code == httpx.codes.OK
        return False

    def holds(self, kind: str, namespace: str | None, name: str, condition_type: str) -> bool:
        """Whether the object has the condition with status True; False while the API server does not answer."""
        try:
            found = self.get(kind, namespace, name)
        except (httpx.HTTPError, DevError):
            return False
        return condition(found or {}, condition_type).get("status") == "True"

    def apply_all(self, manifests: Iterable[Manifest]) -> None:
        """Apply the manifests server-side: namespaces and definitions one by one, then the rest in parallel."""
        ordered = list(manifests)
        for manifest in ordered:
            if manifest["kind"] in _FIRST:
                self._apply_any(manifest)
        rest = [one for one in ordered if one["kind"] not in _FIRST]
        with ThreadPoolExecutor(_PARALLEL) as pool:
            list(pool.map(self._apply_any, rest))

    def _apply_any(self, manifest: Manifest) -> None:
        """Apply a manifest of any kind that the API server knows."""
        version, kind, metadata = manifest["apiVersion"], manifest["kind"], manifest["metadata"]
        root = f"/apis/{version}" if "/" in version else f"/api/{version}"
        plural, namespaced = self._discovered(root, kind)
        folder = f"namespaces/{metadata.get('namespace', 'default')}/" if namespaced else ""
        self._send(
            "PATCH",
            f"{root}/{folder}{plural}/{metadata['name']}",
            json=manifest,
            params={"fieldManager": "slipstream-dev", "force": "true"},
            headers=_APPLY,
        )

    def _discover(self, root: str, kind: str) -> tuple[str, bool]:
        for resource in self._send("GET", root)["resources"]:
            if resource["kind"] == kind and "/" not in resource["name"]:
                return resource["name"], resource["namespaced"]
        raise DevError(f"the API server knows no {kind} in {root}")

    def apply(self, manifest: Manifest, *, manager: str = "a-user") -> Object:
        """Apply the manifest server-side with strict validation."""
        return self._send(
            "PATCH",
            self.path(
                manifest["kind"],
                manifest["metadata"].get("namespace"),
                manifest["metadata"]["name"],
            ),
            json=manifest,
            params={"fieldManager": manager, "force": "true", "fieldValidation": "Strict"},
            headers=_APPLY,
        )

    def patch(self, kind: str, namespace: str | None, name: str, change: Any) -> Object:
        """Send a merge patch."""
        return self._send(
            "PATCH",
            self.path(kind, namespace, name),
            json=change,
            headers={"Content-Type": "application/merge-patch+json"},
        )

    def write_status(
        self, kind: str, namespace: str, name: str, status: Mapping[str, Any]
    ) -> Object:
        """Send a merge patch of the status, as a controller that does not run here would."""
        return self._send(
            "PATCH",
            f"{self.path(kind, namespace, name)}/status",
            json={"status": status},
            headers={"Content-Type": "application/merge-patch+json"},
        )

    def get(self, kind: str, namespace: str | None, name: str) -> Object | None:
        """Return the object, or None if there is none."""
        with contextlib.suppress(Gone):
            return self._send("GET", self.path(kind, namespace, name))
        return None

    def find(self, kind: str, namespace: str | None = None, **params: str) -> list[Object]:
        """Return all objects of a kind."""
        items: list[Object] = self._send("GET", self.path(kind, namespace), params=params)["items"]
        return items

    def delete(self, kind: str, namespace: str | None, name: str, **options: Any) -> None:
        """Delete it if it is there."""
        with contextlib.suppress(Gone):
            self._send("DELETE", self.path(kind, namespace, name), json=options or None)

    def path(self, kind: str, namespace: str | None = None, name: str | None = None) -> str:
        """Return the URL path of a collection or an object."""
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
        """Watch a collection until the predicate over all its objects is true; return its value.

        A slow machine only takes longer: the timeout starts over as long as objects of the kind, Pods or Events of the
        namespace have changed.
        """
        started, seen = time.monotonic(), None
        fields = f"metadata.name={name}" if name else ""
        selection = {"labelSelector": labels, "fieldSelector": fields}
        found: dict[str, Object] = {}
        for _ in range(_MOST_WAITS):
            for objects in self._snapshots(kind, namespace, selection, time.monotonic() + timeout):
                found = objects
                if value := predicate(list(found.values())):
                    return value
            before, seen = seen, self._versions(kind, namespace)
            if before == seen:
                break
        took = time.monotonic() - started
        state = json.dumps([_short(item) for item in found.values()], indent=1)[:6000]
        raise AssertionError(f"{what or kind} was not as wanted after {took:.0f} s: {state}")

    def never(
        self,
        kind: str,
        namespace: str | None,
        predicate: Callable[[list[Object]], Any],
        *,
        seconds: float,
        name: str,
    ) -> None:
        """Watch an object for this long; AssertionError once the predicate is true."""
        selection = {"fieldSelector": f"metadata.name={name}"}
        for objects in self._snapshots(kind, namespace, selection, time.monotonic() + seconds):
            found = list(objects.values())
            assert not predicate(found), json.dumps([_short(item) for item in found])[:6000]

    def _versions(self, kind: str, namespace: str | None) -> dict[str, str]:
        """Versions of the objects that change while the cluster works towards something."""
        return {
            item["metadata"]["uid"]: item["metadata"]["resourceVersion"]
            for each in {kind, "Pod", "Event"}
            for item in self.find(each, namespace)
        }

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
            return response.status_code not in _REPEAT

        waiting.until(taken, seconds=_PATIENCE_SECONDS, what=f"{method} {path} taken", interval=0.2)
        if response.status_code == 404:
            raise Gone(404, path)
        if response.status_code >= 400:
            raise Refused(response.status_code, _message(response))
        answer: Object = response.json()
        return answer


class Gone(Refused):
    """Error for an object that does not exist."""


def documents(text: str) -> list[Manifest]:
    """Return the manifests of a YAML stream."""
    return [document for document in yaml.safe_load_all(text) if document]


def condition(item: Object, kind: str) -> Object:
    """Return a condition of an object, or an empty one if it has none of this type."""
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


def _message(response: httpx.Response) -> str:
    with contextlib.suppress(ValueError):
        return str(response.json().get("message", response.text))
    return response.text


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
