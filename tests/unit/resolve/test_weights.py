"""Sources of weights: what pods mount for them, and what is refused."""

from typing import Any

import pytest

from slipstream_operator.core import resolve, revisions
from slipstream_operator.errors import PermanentError
from slipstream_operator.names import Reason
from slipstream_runtime import contract
from tests.support import given

ANY = {"allow": ["*"]}
IMAGE = "oci://registry.local:5000/models/chat:8b"


def observed(**spec: Any) -> Any:
    return given.observed(spec, profiles=[given.profile(sources=ANY)])


def pod(**spec: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """The rendered pod and its container."""
    deployment = next(
        child for child in given.rendered(observed(**spec)) if child["kind"] == "Deployment"
    )
    rendered = deployment["spec"]["template"]["spec"]
    return rendered, rendered["containers"][0]


def refusal(**spec: Any) -> PermanentError:
    with pytest.raises(PermanentError) as caught:
        resolve.resolve(observed(**spec))
    return caught.value


@pytest.mark.parametrize("uri", ["s3://b/m", "gs://b/m", IMAGE, "file:///m"])
def test_a_profile_without_sources_allows_hub_and_claims_only(uri: str) -> None:
    """Stores and registries are reached with the node's identity, which is not every tenant's."""
    with pytest.raises(PermanentError) as caught:
        resolve.resolve(given.observed({"model": {"uri": uri}}))
    assert caught.value.reason == Reason.SOURCE_NOT_ALLOWED


def test_an_image_is_mounted_where_the_engine_looks_for_it() -> None:
    rendered, container = pod(model={"uri": IMAGE})
    assert {
        "name": "image-0",
        "image": {"reference": "registry.local:5000/models/chat:8b", "pullPolicy": "IfNotPresent"},
    } in rendered["volumes"]
    assert {
        "name": "image-0",
        "mountPath": contract.image_directory(IMAGE),
        "readOnly": True,
    } in container["volumeMounts"]


def test_a_draft_of_another_image_is_mounted_too() -> None:
    draft = "oci://registry.local/models/draft:1"
    _, container = pod(model={"uri": IMAGE}, speculation={"draft": draft, "tokens": 4})
    mounted = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert mounted >= {contract.image_directory(IMAGE), contract.image_directory(draft)}


def test_credentials_are_files_and_neither_variables_nor_arguments() -> None:
    rendered, container = pod(model={"uri": "s3://b/m", "credentials": {"name": "keys"}})
    assert {
        "name": "store-credentials",
        "secret": {"secretName": "keys", "optional": True},
    } in rendered["volumes"]
    assert {
        "name": "store-credentials",
        "mountPath": contract.CREDENTIALS_DIRECTORY,
        "readOnly": True,
    } in container["volumeMounts"]
    assert "keys" not in str(container["env"]) + str(container["command"])


def test_the_chat_template_of_a_config_map_is_a_file_whose_name_makes_the_revision() -> None:
    def named(name: str) -> dict[str, Any]:
        template = {"name": name, "key": "tools"}
        return {"model": {"uri": "hf://org/model", "chatTemplateFrom": template}}

    rendered, container = pod(**named("templates-1"))
    assert {
        "name": "chat-template",
        "configMap": {
            "name": "templates-1",
            "items": [{"key": "tools", "path": "template.jinja"}],
            "optional": True,
        },
    } in rendered["volumes"]
    assert {
        "name": "chat-template",
        "mountPath": contract.CHAT_TEMPLATE_DIRECTORY,
        "readOnly": True,
    } in container["volumeMounts"]
    one, other = (
        resolve.resolve(observed(**named(name))).revisioned
        for name in ("templates-1", "templates-2")
    )
    assert revisions.identity(one) != revisions.identity(other)


def test_fields_that_are_not_used_change_no_revision() -> None:
    plain = resolve.resolve(observed(model={"uri": "hf://org/model"})).revisioned
    assert (plain.images, plain.credentials) == (None, None)
    streamed = resolve.resolve(observed(model={"uri": "hf://org/model", "load": "Streamed"}))
    assert revisions.identity(streamed.revisioned) != revisions.identity(plain)
    assert streamed.revisioned.config["load"] == "streamed"


@pytest.mark.parametrize(
    ("spec", "reason", "message"),
    [
        (
            {"model": {"uri": "hf://o/m", "adapters": [{"name": "sql", "uri": IMAGE}]}},
            Reason.UNSUPPORTED,
            "spec.model.adapters[sql].uri",
        ),
        (
            {"model": {"uri": "hf://o/m", "credentials": {"name": "keys"}}},
            Reason.INVALID_SPEC,
            'spec.model.credentials: "keys" can\'t work because no source is s3:// or gs://',
        ),
        (
            {"runtime": "onnx", "model": {"uri": "hf://o/m", "load": "Streamed"}},
            Reason.UNSUPPORTED,
            'spec.model.load: "Streamed" can\'t work because runtime: onnx',
        ),
    ],
)
def test_what_cannot_work_is_refused_by_its_field(
    spec: dict[str, Any], reason: str, message: str
) -> None:
    found = refusal(**spec)
    assert found.reason == reason
    assert found.message.startswith(message)
