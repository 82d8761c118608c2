"""Fakes of the ports, and raw bodies as the API server sends them."""

import asyncio
import copy
from collections.abc import Callable, Mapping
from typing import Any

import prometheus_client

from slipstream_operator import errors, kinds, names, ports
from slipstream_operator.core import fetching
from slipstream_operator.core.builds import reports
from slipstream_operator.core.events import Event
from slipstream_operator.core.observed import Key, Manifest, Ref
from slipstream_operator.core.prometheus import Server
from slipstream_operator.core.scaling.metrics.values import Samples, Unknown
from slipstream_operator.telemetry import Telemetry
from tests.support import given


class Clock:
    """Clock that advances only when a test sets it."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def now(self) -> float:
        return 1_767_400_000.0 + self.seconds

    def monotonic(self) -> float:
        return self.seconds


class Cluster:
    """Cluster that records its calls and keeps the objects, as an API server does."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []
        self.objects: dict[Ref, dict[str, Any]] = {}
        self.statuses: list[dict[str, Any]] = []
        self.fails: dict[tuple[str, str], Exception] = {}
        self.refused: Callable[[Ref], bool] = lambda _: False
        """Whether the API server refuses to create or change the object."""
        self.on_change: Callable[[str, dict[str, Any], bool], object] = lambda *_: None
        self._uids = 0

    def _called(self, verb: str, what: object) -> None:
        self.calls.append((verb, str(what)))
        if error := self.fails.get((verb, str(what))):
            raise error
        if verb in ("create", "apply") and isinstance(what, Ref) and self.refused(what):
            raise errors.Rejected(f"422: {what}")

    def verbs(self) -> set[str]:
        return {verb for verb, _ in self.calls}

    def strangers(self, ref: Ref) -> None:
        """Add an object of another owner."""
        self.objects[ref] = {"metadata": {"uid": "uid-of-a-stranger"}}

    async def create(self, ref: Ref, manifest: Manifest) -> None:
        self._called("create", ref)
        if ref in self.objects:
            raise errors.Conflict(f"{ref} exists")
        self._uids += 1
        self._store(ref, manifest, uid=f"uid-{self._uids}")

    async def apply(self, ref: Ref, manifest: Manifest, *, uid: str) -> None:
        self._called("apply", ref)
        if self.objects[ref]["metadata"]["uid"] != uid:
            raise errors.Conflict(f"{ref} is another one")
        self._store(ref, manifest, uid=uid)

    async def delete(self, ref: Ref, *, uid: str) -> None:
        self._called("delete", ref)
        if ref in self.objects and self.objects[ref]["metadata"]["uid"] == uid:
            self.on_change(ref.kind, self.objects.pop(ref), True)

    async def metadata_of(self, ref: Ref) -> Manifest:
        self._called("read", ref)
        body = self.objects[ref]
        fields = {f"f:{entry}": {} for entry in body.get("data", {})}
        managed = [{"fieldsV1": {"f:metadata": {}}}, {"fieldsV1": {"f:data": {".": {}, **fields}}}]
        return {"resourceVersion": "1", "managedFields": managed, **body["metadata"]}

    async def write_entries(
        self, ref: Ref, entries: Mapping[str, str | None], *, version: str
    ) -> None:
        self._called("write", ref)
        data = {**self.objects[ref].get("data", {}), **entries}
        self.objects[ref]["data"] = {k: text for k, text in data.items() if text is not None}

    async def list_objects(
        self, kind: str, *, label_selector: str | None = None
    ) -> list[dict[str, Any]]:
        self._called("list", kind)
        return [copy.deepcopy(body) for ref, body in self.objects.items() if ref.kind == kind]

    async def write_status(self, key: Key, uid: str, status: Mapping[str, Any]) -> None:
        self._called("status", key)
        self.statuses.append(dict(status))

    def _store(self, ref: Ref, manifest: Manifest, *, uid: str) -> None:
        body = copy.deepcopy(dict(manifest))
        body["metadata"] |= {"uid": uid, "creationTimestamp": given.CREATED}
        self.objects[ref] = body
        self.on_change(ref.kind, body, False)


class Events:
    """Records the posted Events."""

    def __init__(self) -> None:
        self.posted: list[Event] = []

    async def post(self, key: Key, uid: str, event: Event) -> None:
        self.posted.append(event)


class Progress:
    """`ports.Progress` with one answer for all pods."""

    def __init__(self) -> None:
        self.answer: fetching.Progress | None = None
        self.stage_answer: reports.Progress | None = None

    async def read(self, address: str) -> fetching.Progress | None:
        return self.answer

    async def stage(self, address: str) -> reports.Progress | None:
        return self.stage_answer


class Metrics:
    """Answers queries with the given samples, and all others with an empty vector."""

    def __init__(self, answers: Samples | None = None) -> None:
        self.answers = answers or {}
        self.asked: list[tuple[str, str]] = []

    async def query(self, server: Server, queries: Mapping[str, str]) -> Samples:
        self.asked += [(server.url, query) for query in queries.values()]
        await asyncio.sleep(0)
        return {name: self.answers.get(name, ()) for name in queries}

    async def read(self, server: Server, queries: Mapping[str, str], *, take: ports.Take) -> None:
        for name, result in (await self.query(server, queries)).items():
            take(name, given.raw(result))


class SilentMetrics(Metrics):
    """A Prometheus that does not answer."""

    async def query(self, server: Server, queries: Mapping[str, str]) -> Samples:
        return {name: Unknown("Prometheus did not answer") for name in queries}


def telemetry() -> Telemetry:
    return Telemetry(prometheus_client.CollectorRegistry())


def service_body(
    spec: Mapping[str, Any] | None = None,
    *,
    key: Key = given.KEY,
    uid: str = given.UID,
    created: str = given.CREATED,
    deleting: bool = False,
    status: Mapping[str, Any] | None = None,
    generation: int = 1,
) -> dict[str, Any]:
    """An InferenceService."""
    body: dict[str, Any] = {
        "metadata": {
            "name": key.name,
            "namespace": key.namespace,
            "uid": uid,
            "creationTimestamp": created,
            "generation": generation,
        },
        "spec": {"model": given.MODEL} if spec is None else spec,
    }
    if status is not None:
        body["status"] = status
    if deleting:
        body["metadata"]["deletionTimestamp"] = given.NOW
    return body


def profile_body(**spec: Any) -> dict[str, Any]:
    """A ServingProfile."""
    found = given.profile(**spec)
    return {
        "metadata": {
            "name": found.name,
            "uid": f"uid-of-{found.name}",
            "creationTimestamp": found.created,
        },
        "spec": found.spec,
    }


def pod_body(
    revision: str,
    *,
    name: str = "pod-0",
    service: str = given.NAME,
    uid: str = "uid-of-pod",
    ready: bool = True,
    status: Mapping[str, Any] | None = None,
    owner: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """An engine pod."""
    condition = {
        "type": "Ready",
        "status": "True" if ready else "False",
        "lastTransitionTime": given.NOW,
    }
    return {
        "metadata": {
            "name": name,
            "namespace": given.NAMESPACE,
            "uid": uid,
            "creationTimestamp": given.CREATED,
            "labels": {
                names.SERVICE_LABEL: service,
                names.REVISION_LABEL: revision,
                "pod-template-hash": "5d4f",
            },
            "ownerReferences": [owner or controller("ReplicaSet", f"{service}-{revision}-5d4f")],
        },
        "status": {"phase": "Running", "conditions": [condition]} if status is None else status,
    }


def worker_body(revision: str, **fields: Any) -> dict[str, Any]:
    """A worker pod of a replica that spans nodes."""
    body = pod_body(
        revision, owner=controller("StatefulSet", f"{given.NAME}-{revision}-0"), **fields
    )
    labels = body["metadata"]["labels"]
    labels[names.WORKER_LABEL] = labels.pop(names.SERVICE_LABEL)
    return body


def controller(kind: str, name: str) -> dict[str, Any]:
    """Owner reference of a pod to the object that made it."""
    return {"kind": kind, "name": name, "uid": f"uid-of-{name}", "controller": True}


def named(name: str, *, labels: Mapping[str, str] | None = None, uid: str = "") -> dict[str, Any]:
    """Return an object without a namespace, such as a Namespace."""
    return {"metadata": {"name": name, "uid": uid or f"uid-of-{name}", "labels": labels or {}}}


def definition(kind: str, *, version: str | None = None) -> dict[str, Any]:
    """CustomResourceDefinition of a kind, which serves the version that the operator uses by default."""
    found = kinds.BY_NAME[kind]
    versions = [{"name": version or found.version, "served": True}]
    return {**named(found.definition), "spec": {"versions": versions}}


def fetcher_body(
    task: str, *, name: str = "fetch-0", service: str = given.NAME, status: Mapping[str, Any]
) -> dict[str, Any]:
    """A pod that downloads or inspects a model."""
    return {
        "metadata": {
            "name": name,
            "namespace": given.NAMESPACE,
            "uid": f"uid-of-{name}",
            "creationTimestamp": given.CREATED,
            "labels": {names.FETCH_LABEL: service, names.TASK_LABEL: task},
            "ownerReferences": [controller("Job", f"{service}-fetch-{task}")],
        },
        "status": status,
    }


def prefetcher_body(
    task: str, *, node: str | None, status: Mapping[str, Any], service: str = given.NAME
) -> dict[str, Any]:
    """A pod that has its node pull images."""
    body = fetcher_body(task, name=f"prefetch-{node}", status=status)
    body["metadata"]["ownerReferences"] = [controller("Job", f"{service}-prefetch-{task}")]
    labels = {names.PREFETCH_LABEL: service, names.TASK_LABEL: task}
    spec = {} if node is None else {"nodeName": node}
    return {**body, "metadata": {**body["metadata"], "labels": labels}, "spec": spec}
