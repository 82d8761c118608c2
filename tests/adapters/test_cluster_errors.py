"""Translation of the client library's exceptions, and the requests of each call."""

from typing import Any

import aiohttp
import pytest
from kubernetes.aio.client.rest import ApiException

from slipstream_operator import errors
from slipstream_operator.adapters import cluster
from slipstream_operator.adapters.cluster import Cluster
from slipstream_operator.core.observed import Ref
from tests.support import given

REF = Ref("ConfigMap", given.NAMESPACE, "chat-state")
MANIFEST: dict[str, Any] = {"kind": "ConfigMap", "metadata": {"name": "chat-state"}}


def _api_error(status: int, body: object = "the message") -> ApiException:
    error = ApiException(status=status, reason="Why")
    error.body = body
    return error


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (_api_error(404), errors.NotFound),
        (_api_error(409), errors.Conflict),
        (_api_error(400), errors.Rejected),
        (_api_error(403), errors.Rejected),
        (_api_error(422), errors.Rejected),
        (_api_error(401), errors.Unavailable),
        (_api_error(410), errors.Unavailable),
        (_api_error(429), errors.Unavailable),
        (_api_error(500), errors.Unavailable),
        (_api_error(503), errors.Unavailable),
        (_api_error(0), errors.Unavailable),
        (TimeoutError(), errors.Unavailable),
        (ConnectionResetError(), errors.Unavailable),
        (aiohttp.ServerDisconnectedError(), errors.Unavailable),
    ],
    ids=repr,
)
def test_errors_are_translated(raised: Exception, expected: type[Exception]) -> None:
    with pytest.raises(errors.TransientError) as caught, cluster.translated_errors():
        raise raised
    assert type(caught.value) is expected


@pytest.mark.parametrize("body", ["the message", b"the message"])
def test_the_message_of_the_api_server_is_kept(body: object) -> None:
    with (
        pytest.raises(errors.Rejected, match=r"^422 Why: the message$"),
        cluster.translated_errors(),
    ):
        raise _api_error(422, body)


def test_a_long_message_is_cut() -> None:
    with pytest.raises(errors.Rejected) as caught, cluster.translated_errors():
        raise _api_error(422, "x" * 100_000)
    assert len(str(caught.value)) < 2100


def test_a_message_without_a_body_has_its_status() -> None:
    with pytest.raises(errors.Unavailable, match=r"^503 Why: $"), cluster.translated_errors():
        raise _api_error(503, None)


def test_bugs_are_not_hidden() -> None:
    with pytest.raises(KeyError), cluster.translated_errors():
        raise KeyError("a bug")


class Recorded(Cluster):
    """Records requests instead of sending them."""

    def __init__(self, answer: Any = None, *, namespaces: tuple[str, ...] = ()) -> None:
        super().__init__(None, namespaces=namespaces)
        self.sent: list[tuple[str, str, dict[str, Any]]] = []
        self.answer = answer

    async def request(self, verb: str, kind: str, /, **arguments: Any) -> dict[str, Any]:
        self.sent.append((verb, kind, arguments))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer or {}

    async def send(self, verb: str, kind: str, /, **arguments: Any) -> None:
        await self.request(verb, kind, **arguments)


async def test_an_object_is_created_only_if_none_exists() -> None:
    api = Recorded()
    await api.create(REF, MANIFEST)
    ((verb, kind, sent),) = api.sent
    assert (verb, kind, sent["name"], sent["namespace"]) == (
        "server_side_apply",
        "ConfigMap",
        "chat-state",
        "team",
    )
    assert sent["body"]["metadata"] == {"name": "chat-state", "resourceVersion": "1"}
    assert sent["field_manager"] == "slipstream-operator"


async def test_an_object_is_changed_only_if_it_is_still_the_same() -> None:
    api = Recorded()
    await api.apply(REF, MANIFEST, uid="uid-1")
    assert api.sent[0][2]["body"]["metadata"] == {"name": "chat-state", "uid": "uid-1"}
    assert MANIFEST["metadata"] == {"name": "chat-state"}


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("422: Precondition failed: UID in precondition: uid-1", errors.Conflict),
        ("409: uid mismatch Precondition failed", errors.Conflict),
        ("422: spec.replicas: Invalid value", errors.Rejected),
    ],
)
async def test_another_object_of_the_same_name_is_a_conflict(
    message: str, expected: type[Exception]
) -> None:
    api = Recorded(errors.Rejected(message))
    with pytest.raises(errors.TransientError) as caught:
        await api.apply(REF, MANIFEST, uid="uid-1")
    assert type(caught.value) is expected


async def test_only_the_object_with_the_uid_is_deleted() -> None:
    api = Recorded()
    await api.delete(REF, uid="uid-1")
    ((verb, _, sent),) = api.sent
    assert verb == "delete"
    assert sent["body"]["preconditions"] == {"uid": "uid-1"}


@pytest.mark.parametrize("error", [errors.NotFound("gone"), errors.Conflict("another one")])
async def test_the_deletion_of_a_missing_object_succeeds(error: Exception) -> None:
    await Recorded(error).delete(REF, uid="uid-1")


async def test_a_failed_deletion_raises() -> None:
    with pytest.raises(errors.Unavailable):
        await Recorded(errors.Unavailable("down")).delete(REF, uid="uid-1")


async def test_only_metadata_of_a_secret_is_requested() -> None:
    api = Recorded({"metadata": {"uid": "a"}})
    assert await api.metadata_of(REF) == {"uid": "a"}
    ((_, _, sent),) = api.sent
    accept = sent["header_params"]["Accept"]
    assert "as=PartialObjectMetadata;" in accept
    assert "," not in accept


async def test_the_status_is_written_only_to_the_same_object_and_nothing_else_of_it() -> None:
    api = Recorded()
    await api.write_status(given.KEY, given.UID, {"replicas": 1})
    ((_, kind, sent),) = api.sent
    assert (kind, sent["subresource"]) == ("InferenceService", "status")
    assert sent["body"] == {
        "apiVersion": "slipstream.dev/v1alpha1",
        "kind": "InferenceService",
        "metadata": {"name": "chat", "namespace": "team", "uid": given.UID},
        "status": {"replicas": 1},
    }


async def test_a_kind_that_the_cluster_lacks_has_no_objects() -> None:
    assert await Recorded(errors.NotFound("no kind")).list_uids("PodMonitor") == set()


async def test_uids_are_listed() -> None:
    items = {"items": [{"metadata": {"uid": "a"}}, {"metadata": {"uid": "b"}}]}
    assert await Recorded(items).list_uids("Pod") == {"a", "b"}


async def test_an_operator_of_named_namespaces_lists_each_of_them() -> None:
    api = Recorded({"items": []}, namespaces=("a", "b"))
    await api.list_uids("Pod")
    await api.list_uids("ServingProfile")
    assert [sent.get("namespace") for _, _, sent in api.sent] == ["a", "b", None]
