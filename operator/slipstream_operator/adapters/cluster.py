"""Kubernetes API over the async dynamic client: server-side apply, delete, status, and exceptions of `errors`."""

import asyncio
import base64
import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import aiohttp
from kubernetes.aio import client, config, dynamic
from kubernetes.aio.client.rest import ApiException

from slipstream_operator import errors, kinds, names
from slipstream_operator.core.observed import Key, Manifest, Ref

TIMEOUT: Final = 30.0
"""Seconds for one call; the client's own default is 300."""
_MESSAGE_LENGTH: Final = 2000
"""Characters of an answer that a message repeats."""
_NO_CACHE_FILE: Final = "/nonexistent/slipstream-discovery"
"""No file: by default the client caches discovery in one, which goes stale and needs a writable root."""
_METADATA_LIST: Final = {
    "Accept": "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
}
_METADATA: Final = {
    "Accept": "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1, application/json"
}
"""Headers of writes. The API server answers with the object; its metadata alone is the shortest answer."""
_METADATA_ALONE: Final = {"Accept": "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"}
"""Headers of reads that must not transfer an object's content."""


@contextlib.contextmanager
def translated_errors() -> Iterator[None]:
    """Translate exceptions of the client library into those of `errors`."""
    try:
        yield
    except ApiException as error:
        raise _translated(error) from error
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise errors.Unavailable(f"The API server did not answer: {error!r}.") from error


def _translated(error: ApiException) -> errors.TransientError:
    message = f"{error.status} {error.reason}: {_message(error)}"
    match error.status:
        case 404:
            return errors.NotFound(message)
        case 409:
            return errors.Conflict(message)
        case 400 | 403 | 422:
            return errors.Rejected(message)
        case _:
            return errors.Unavailable(message)


def _message(error: ApiException) -> str:
    body = error.body.decode(errors="replace") if isinstance(error.body, bytes) else error.body
    return str(body or "")[:_MESSAGE_LENGTH]


async def connect() -> client.ApiClient:
    """Return a client with the pod's ServiceAccount, or else with KUBECONFIG."""
    settings = client.Configuration()
    try:
        config.load_incluster_config(client_configuration=settings)
    except config.ConfigException:
        await config.load_kube_config(client_configuration=settings)
    return client.ApiClient(settings)


class Cluster:
    """`ports.Cluster` of an API server, or of some of its namespaces."""

    def __init__(self, api: client.ApiClient, *, namespaces: Sequence[str] = ()) -> None:
        self._api = api
        self._namespaces = namespaces
        self._dynamic: Any = None
        self._resources: dict[str, Any] = {}
        self._discovery = asyncio.Lock()

    async def request(self, verb: str, kind: str, /, **arguments: Any) -> dict[str, Any]:
        """Call the dynamic client on a kind with a timeout; return the answer as plain data."""
        response = await self._call(verb, kind, **arguments)
        with translated_errors():
            answer: dict[str, Any] = await response.json()
            return answer

    async def send(self, verb: str, kind: str, /, **arguments: Any) -> None:
        """Call the dynamic client without reading the answer."""
        response = await self._call(verb, kind, header_params=dict(_METADATA), **arguments)
        with translated_errors():
            await response.read()

    async def _call(self, verb: str, kind: str, /, **arguments: Any) -> aiohttp.ClientResponse:
        subresource = arguments.pop("subresource", None)
        with translated_errors():
            resource = await self._resource(kind)
            target = resource.subresources[subresource] if subresource else resource
            method = getattr(self._dynamic, verb)
            response: aiohttp.ClientResponse = await method(
                target, serialize=False, _request_timeout=TIMEOUT, **arguments
            )
            return response

    async def create(self, ref: Ref, manifest: Manifest) -> None:
        """Create the object by server-side apply; raise Conflict if the name exists.

        NB: with a resourceVersion that no object has, the API server answers 409 if the object exists. A POST would
        record the field manager with the operation Update, and fields dropped later would stay.
        """
        metadata = {**manifest["metadata"], "resourceVersion": "1"}
        await self._apply(ref, {**manifest, "metadata": metadata})

    async def apply(self, ref: Ref, manifest: Manifest, *, uid: str) -> None:
        """Apply to the object with this uid."""
        try:
            await self._apply(ref, {**manifest, "metadata": {**manifest["metadata"], "uid": uid}})
        except errors.Rejected as error:
            if "uid" in str(error) and "Precondition failed" in str(error):
                raise errors.Conflict(str(error)) from error
            raise

    async def _apply(self, ref: Ref, manifest: Manifest) -> None:
        await self.send(
            "server_side_apply",
            ref.kind,
            body=dict(manifest),
            name=ref.name,
            namespace=ref.namespace,
            field_manager=names.FIELD_MANAGER,
            force_conflicts=True,
        )

    async def delete(self, ref: Ref, *, uid: str) -> None:
        """Delete the object with this uid, if it still exists, with background propagation."""
        body = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "propagationPolicy": "Background",
            "preconditions": {"uid": uid},
        }
        with contextlib.suppress(errors.NotFound, errors.Conflict):
            await self.send("delete", ref.kind, name=ref.name, namespace=ref.namespace, body=body)

    async def metadata_of(self, ref: Ref) -> Manifest:
        """Return only the object's metadata. Its content, such as a Secret's data, is not transferred."""
        found = await self.request(
            "get",
            ref.kind,
            name=ref.name,
            namespace=ref.namespace,
            header_params=dict(_METADATA_ALONE),
        )
        metadata: Manifest = found["metadata"]
        return metadata

    async def write_entries(
        self, ref: Ref, entries: Mapping[str, str | None], *, version: str
    ) -> None:
        """Write entries of a Secret, and delete those that are None; raise Conflict if it has another version."""
        data = {
            name: None if text is None else base64.b64encode(text.encode()).decode()
            for name, text in entries.items()
        }
        await self.send(
            "patch",
            ref.kind,
            body={"metadata": {"resourceVersion": version}, "data": data},
            name=ref.name,
            namespace=ref.namespace,
            content_type="application/merge-patch+json",
            field_manager=names.FIELD_MANAGER,
        )

    async def read_secret(self, name: str, *, namespace: str) -> Mapping[str, bytes]:
        """Return the entries of a Secret; raise NotFound if it does not exist."""
        found = await self.request("get", "Secret", name=name, namespace=namespace)
        return {key: base64.b64decode(text) for key, text in (found.get("data") or {}).items()}

    async def write_status(self, key: Key, uid: str, status: Mapping[str, Any]) -> None:
        """Apply the status. With the uid, an object that was recreated under the same name is rejected."""
        body = {
            "apiVersion": names.API_VERSION,
            "kind": key.kind,
            "metadata": {"name": key.name, "namespace": key.namespace, "uid": uid},
            "status": dict(status),
        }
        await self.send(
            "server_side_apply",
            key.kind,
            subresource="status",
            body=body,
            name=key.name,
            namespace=key.namespace,
            field_manager=names.FIELD_MANAGER,
            force_conflicts=True,
        )

    async def list_objects(
        self, kind: str, *, label_selector: str | None = None
    ) -> list[dict[str, Any]]:
        """Return all objects of a kind, in the form of watch events; none if the cluster lacks the kind."""
        found = []
        for answer in await self._lists(kind, label_selector=label_selector):
            kind_of = {"apiVersion": answer.get("apiVersion"), "kind": kind}
            found += [{**kind_of, **item} for item in answer["items"] or ()]
        return found

    async def list_uids(self, kind: str, *, label_selector: str | None = None) -> set[str]:
        """Return the uids of all objects of a kind, from metadata alone; none if the cluster lacks the kind."""
        answers = await self._lists(
            kind, label_selector=label_selector, header_params=dict(_METADATA_LIST)
        )
        return {item["metadata"]["uid"] for answer in answers for item in answer["items"] or ()}

    async def _lists(self, kind: str, **arguments: Any) -> list[dict[str, Any]]:
        """Return the list of the cluster, or one of each namespace; none if the cluster lacks the kind."""
        named = kinds.BY_NAME[kind].namespaced and self._namespaces
        places = [{"namespace": name} for name in self._namespaces] if named else [{}]
        try:
            return [await self.request("get", kind, **place, **arguments) for place in places]
        except errors.NotFound:
            return []

    async def _resource(self, kind: str) -> Any:
        if kind in self._resources:
            return self._resources[kind]
        api_version = kinds.BY_NAME[kind].api_version
        async with self._discovery:
            if self._dynamic is None:
                self._dynamic = await dynamic.DynamicClient(self._api, cache_file=_NO_CACHE_FILE)
            try:
                found = await self._dynamic.resources.get(api_version=api_version, kind=kind)
            except dynamic.exceptions.ResourceNotFoundError as error:
                self._dynamic = None
                raise errors.KindMissing(f"the cluster has no {kind} of {api_version}") from error
            self._resources[kind] = found
            return found
