"""The few requests the local cluster makes to its own API server, without starting kubectl."""

import contextlib
import functools
import json
import ssl
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import yaml

from dev import waiting
from dev.cluster.layout import Layout
from dev.errors import DevError

Manifest = Mapping[str, Any]
_APPLY = {"Content-Type": "application/apply-patch+yaml"}
_PARALLEL = 16


class UnreachableError(DevError):
    """No answer at all; whoever waits for something may try again."""


class Api:
    """A client with the administrator's certificate; close it after use."""

    def __init__(self, layout: Layout) -> None:
        pki = layout.pki
        context = ssl.create_default_context(cafile=str(pki / "ca.crt"))
        context.load_cert_chain(pki / "admin.crt", pki / "admin.key")
        self._http = httpx.Client(
            base_url=layout.server,
            verify=context,
            timeout=10,
            trust_env=False,
            limits=httpx.Limits(max_connections=_PARALLEL),
        )
        self._plural = functools.cache(self._discover)

    def __enter__(self) -> "Api":
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def ready(self) -> bool:
        with contextlib.suppress(httpx.HTTPError):
            return self._http.get("/readyz").status_code == httpx.codes.OK
        return False

    def get(self, path: str) -> Any:
        """The object or list at the path, or None if there is none."""
        try:
            response = self._http.get(path)
        except httpx.HTTPError as error:
            raise UnreachableError(f"the API server does not answer: {error}") from error
        if response.status_code == httpx.codes.NOT_FOUND:
            return None
        return _checked(response, what=f"GET {path}")

    def condition(self, path: str, kind: str) -> bool:
        """Whether the object there has the condition with status True."""
        try:
            found = self.get(path) or {}
        except UnreachableError:
            return False
        conditions = found.get("status", {}).get("conditions") or []
        return any(one["type"] == kind and one["status"] == "True" for one in conditions)

    def apply(self, manifests: Iterable[Manifest]) -> None:
        """Apply server-side: what others depend on first, the rest side by side."""
        ordered = list(manifests)
        for manifest in ordered:
            if manifest["kind"] in ("Namespace", "CustomResourceDefinition"):
                self._apply(manifest)
        rest = [m for m in ordered if m["kind"] not in ("Namespace", "CustomResourceDefinition")]
        with ThreadPoolExecutor(_PARALLEL) as pool:
            list(pool.map(self._apply, rest))

    def _apply(self, manifest: Manifest) -> None:
        version, kind, meta = manifest["apiVersion"], manifest["kind"], manifest["metadata"]
        root = f"/apis/{version}" if "/" in version else f"/api/{version}"
        plural, namespaced = self._plural(root, kind)
        folder = f"namespaces/{meta.get('namespace', 'default')}/" if namespaced else ""
        what = f"applying {kind} {meta['name']}"

        def accepted() -> bool:
            response = self._http.patch(
                f"{root}/{folder}{plural}/{meta['name']}",
                params={"fieldManager": "slipstream-dev", "force": "true"},
                headers=_APPLY,
                content=json.dumps(manifest),
            )
            # NB: a kind whose definition is seconds old answers 429 while its storage starts.
            if response.status_code in (429, 503):
                return False
            _checked(response, what=what)
            return True

        waiting.until(accepted, seconds=20, what=what, interval=0.2)

    def _discover(self, root: str, kind: str) -> tuple[str, bool]:
        listing = self.get(root) or {"resources": []}
        for resource in listing["resources"]:
            if resource["kind"] == kind and "/" not in resource["name"]:
                return resource["name"], resource["namespaced"]
        raise DevError(f"the API server knows no {kind} in {root}")


def documents(text: str) -> list[Manifest]:
    """The manifests of a YAML stream."""
    return [document for document in yaml.safe_load_all(text) if document]


def _checked(response: httpx.Response, *, what: str) -> Any:
    if response.is_success:
        return response.json()
    message = response.text
    with contextlib.suppress(ValueError):
        message = response.json().get("message", message)
    raise DevError(f"{what}: {response.status_code} {message[:500]}")
