"""Sources build://name: the artifact is treated like a source that the user wrote."""

import json
from typing import Any

import pytest

from slipstream_operator.core import resolve, revisions, speculation
from slipstream_operator.core.facts import Facts, ModelFacts
from slipstream_operator.core.observed import BuildView
from slipstream_operator.core.resolved import Resolved
from slipstream_operator.errors import PermanentError
from slipstream_operator.names import Reason
from tests.support import given

BUILD: dict[str, Any] = {"model": {"uri": "build://small"}}
ANY = given.profile(sources={"allow": ["*"]})
DRAFT: dict[str, Any] = {
    "model": given.MODEL,
    "speculation": {"draft": "build://small", "tokens": 4},
}


def adapted(uri: str = "build://small", **fields: Any) -> dict[str, Any]:
    return {"model": {**given.MODEL, "adapters": [{"name": "sql", "uri": uri, **fields}]}}


def resolved(spec: dict[str, Any], *builds: BuildView, **snapshot: Any) -> Resolved:
    return given.resolved(spec, builds=builds, profiles=[ANY], **snapshot)


def refusal(spec: dict[str, Any], *builds: BuildView, **profile: Any) -> PermanentError:
    snapshot = given.observed(spec, builds=builds, profiles=[given.profile(**profile)])
    with pytest.raises(PermanentError) as caught:
        resolve.resolve(snapshot)
    return caught.value


def test_engines_get_the_artifact_as_if_the_user_had_written_its_uri() -> None:
    artifact = "pvc://artifacts/small"
    found = resolved(BUILD, given.build(artifact)).revisioned
    written = resolved({"model": {"uri": artifact}}).revisioned
    assert found.config == written.config
    assert found.claims == written.claims == ("artifacts",)


@pytest.mark.parametrize(
    ("artifact", "images", "claims"),
    [
        ("oci://registry.local/small:1", ("oci://registry.local/small:1",), ()),
        ("s3://bucket/small", None, ()),
        ("pvc://artifacts/small", None, ("artifacts",)),
    ],
)
def test_a_draft_from_a_build_is_mounted_or_downloaded(
    artifact: str, images: tuple[str, ...] | None, claims: tuple[str, ...]
) -> None:
    found = resolved(DRAFT, given.build(artifact)).revisioned
    assert found.config["speculation"]["draft"] == artifact
    assert (found.images, found.claims) == (images, claims)


def test_an_adapter_from_a_build_is_listed_with_its_artifact_and_loaded_again_after_another_build() -> (
    None
):
    first = resolved(adapted(), given.build(digest="sha256:" + "a" * 64))
    second = resolved(adapted(), given.build(digest="sha256:" + "b" * 64))
    assert first.adapters == {"sql": "pvc://artifacts/small#aaaaaaaaaaaa"}
    assert second.adapters == {"sql": "pvc://artifacts/small#bbbbbbbbbbbb"}
    assert first.revisioned == second.revisioned
    assert first.revisioned.claims == ("artifacts",)


def test_the_revision_that_a_user_gives_an_adapter_of_a_build_counts_too() -> None:
    found = resolved(adapted(revision="v2"), given.build())
    assert found.adapters == {"sql": "pvc://artifacts/small#v2-aaaaaaaaaaaa"}


def test_another_artifact_under_the_same_name_makes_a_revision() -> None:
    """It does so at the same uri, too: a tag or a prefix can hold another artifact."""
    first = resolved(BUILD, given.build(digest="a" * 64)).revisioned
    second = resolved(BUILD, given.build(digest="b" * 64)).revisioned
    assert first.config == second.config
    assert revisions.identity(first) != revisions.identity(second)


def test_a_download_is_made_again_for_another_artifact_at_the_same_uri() -> None:
    spec = {**BUILD, "cache": {"model": {"claim": {"name": "cache"}}}}
    tasks = [
        resolved(spec, given.build("s3://bucket/small", digest=digest * 64)).task for digest in "ab"
    ]
    assert len({task.identity for task in tasks if task is not None}) == 2


def test_the_same_build_makes_no_other_revision_whatever_its_message() -> None:
    first = resolved(BUILD, given.build(message="Published."))
    second = resolved(BUILD, given.build(message="Published 1 hour ago."))
    assert revisions.identity(first.revisioned) == revisions.identity(second.revisioned)


def test_facts_about_the_artifact_count_for_the_service() -> None:
    facts = Facts(ModelFacts(bytes=10**9, uri="pvc://artifacts/small"))
    other = Facts(ModelFacts(bytes=10**9, uri="hf://org/model"))
    requests = [
        resolved(BUILD, given.build(), facts=known).default_requests for known in (facts, other)
    ]
    assert requests[0] != requests[1]


def test_an_artifact_outside_of_the_allowed_sources_is_refused_before_it_is_published() -> None:
    for view in (
        given.build("s3://bucket/small"),
        given.build(None, output="s3://bucket/small"),
    ):
        found = refusal(BUILD, view)
        assert found.reason == Reason.SOURCE_NOT_ALLOWED
        assert found.message.startswith(
            'spec.model.uri: "build://small", which publishes to s3://bucket/small, matches none of '
        )


def test_credentials_are_for_artifacts_in_stores() -> None:
    spec = {"model": {"uri": "build://small", "credentials": {"name": "keys"}}}
    found = resolved(spec, given.build("s3://bucket/small"))
    assert found.revisioned.credentials == "keys"
    assert refusal(spec, given.build("pvc://artifacts/small")).reason == Reason.INVALID_SPEC
    assert resolved(spec).waits_for_build  # where it will be published is unknown yet


def test_an_image_can_be_no_adapter() -> None:
    found = refusal(adapted(), given.build("oci://r.local/small:1"), sources={"allow": ["*"]})
    assert found.reason == Reason.UNSUPPORTED
    assert '"build://small", which publishes to oci://r.local/small:1, can\'t work' in found.message


@pytest.mark.parametrize("uri", ["build://other/small", "build://other/a/b"])
@pytest.mark.parametrize("field", ["model", "draft", "adapter"])
def test_a_build_of_another_namespace_is_refused_with_the_reason_and_a_remedy(
    uri: str, field: str
) -> None:
    spec = {
        "model": {"model": {"uri": uri}},
        "draft": {"model": given.MODEL, "speculation": {"draft": uri, "tokens": 4}},
        "adapter": adapted(uri),
    }[field]
    found = refusal(spec)
    assert found.reason == Reason.INVALID_SPEC
    assert f'"{uri}" is in another namespace' in found.message
    assert "Publish the build to s3:// or oci://, and use that uri." in found.message


def test_an_export_is_served_by_onnx_runtime_alone() -> None:
    export = given.build(exported=True)
    assert resolved({**BUILD, "runtime": "onnx"}, export).revisioned.claims == ("artifacts",)
    for spec in (BUILD, DRAFT, adapted()):
        found = refusal(spec, export)
        assert found.reason == Reason.UNSUPPORTED
        assert "Use runtime: onnx" in found.message


def test_a_build_without_an_export_is_refused_with_onnx_runtime_while_it_still_runs() -> None:
    found = refusal({**BUILD, "runtime": "onnx"}, given.build(None))
    assert found.reason == Reason.UNSUPPORTED
    assert "Add export as its last step" in found.message


def test_a_published_uri_that_is_no_source_is_not_handed_to_engines() -> None:
    found = resolved(BUILD, given.build("pvc://artifacts/../secrets\n"))
    (source,) = found.builds
    assert found.waits_for_build
    assert source.problem is not None and source.problem[0] == Reason.BUILD_FAILED


def test_prefetch_needs_an_artifact_that_is_an_image() -> None:
    spec = {**BUILD, "cache": {"prefetch": True}, "accelerator": {"type": "cpu"}}
    assert resolved(spec, given.build("oci://r.local/small:1")).prefetch is not None
    found = refusal(spec, given.build("pvc://artifacts/small"))
    assert "spec.cache.prefetch: true can't work" in found.message


@pytest.mark.parametrize(
    ("view", "reason", "said"),
    [
        (None, Reason.BUILD_MISSING, "there is no ModelBuild small in namespace team. Create it"),
        (
            given.build(None, message="Step 1 of 2, quantize: 40%, 3m left."),
            Reason.BUILD_RUNNING,
            "Step 1 of 2, quantize: 40%, 3m left.",
        ),
        (
            given.build(None, phase="Failed", message="awq needs a GPU. Use gptq."),
            Reason.BUILD_FAILED,
            "awq needs a GPU. Use gptq.",
        ),
        (given.build(None, phase="Pending"), Reason.BUILD_RUNNING, "is not ready"),
    ],
)
def test_a_build_that_is_not_ready_holds_the_revision_and_says_why(
    view: BuildView | None, reason: str, said: str
) -> None:
    for spec, field in ((BUILD, "spec.model.uri"), (DRAFT, "spec.speculation.draft")):
        found = resolved(spec, *([view] if view else []))
        (source,) = found.builds
        assert found.waits_for_build
        assert (found.task, found.prefetch) == (None, None)
        assert source.problem is not None
        assert source.problem[0] == reason
        assert source.problem[1].startswith(f"{field}: ")
        assert said in source.problem[1]


def test_a_service_without_a_model_names_no_build() -> None:
    assert resolved({"runtime": "simulator"}).builds == ()


def test_the_artifact_of_a_deleted_build_stays_in_use() -> None:
    """The revision keeps it, so that other settings can still be changed."""
    ready = given.observed(BUILD, builds=[given.build()], profiles=[ANY])
    children = given.realised(ready).children
    gone = resolved(BUILD, children=children)
    (source,) = gone.builds
    assert source.uri == "pvc://artifacts/small"
    assert revisions.identity(gone.revisioned) == revisions.identity(
        resolve.resolve(ready).revisioned
    )
    assert source.problem is not None
    assert source.problem[0] == Reason.BUILD_MISSING
    assert "Engines go on with pvc://artifacts/small" in source.problem[1]
    changed = resolved({**BUILD, "batching": {"maxSequences": 8}}, children=children)
    assert not changed.waits_for_build
    assert changed.revisioned.config["model"]["uri"] == "pvc://artifacts/small"


def test_a_revision_edited_by_hand_gives_no_artifact() -> None:
    ready = given.observed(BUILD, builds=[given.build()], profiles=[ANY])
    for text in ("[", "[]", '{"spec.model.uri": "x"}', json.dumps({"spec.model.uri": [1]})):
        manifests = given.rendered(ready)
        for manifest in manifests:
            if "builds.json" in manifest.get("data", {}):
                manifest["data"]["builds.json"] = text
        found = resolved(BUILD, children=[given.child(manifest) for manifest in manifests])
        assert found.waits_for_build


def test_an_adapter_whose_build_runs_again_stays_as_it_was_and_a_new_one_waits_alone() -> None:
    before = given.observed(adapted(), builds=[given.build()], profiles=[ANY])
    children = given.realised(before).children
    running = given.build(None, output="pvc://artifacts/small")
    again = resolved(adapted(), running, children=children)
    assert again.adapters == {"sql": "pvc://artifacts/small#aaaaaaaaaaaa"}
    new = resolved(adapted(), running)
    assert new.adapters == {}
    assert not new.waits_for_build
    assert new.revisioned == again.revisioned == resolve.resolve(before).revisioned


def test_a_draft_that_did_not_pay_off_is_tried_again_when_it_was_built_again() -> None:
    spec = {**DRAFT, "speculation": {**DRAFT["speculation"], "disableBelowAcceptance": "30%"}}
    first = resolved(spec, given.build())
    found = speculation.identity(first.revisioned)
    assert found is not None
    off = speculation.SwitchedOff(found, 0.1)
    assert speculation.applied(first, off).speculation is None
    again = resolved(spec, given.build(digest="b" * 64))
    assert speculation.applied(again, off) == again


def test_nothing_is_decided_about_a_draft_whose_build_still_runs() -> None:
    spec = {**DRAFT, "speculation": {**DRAFT["speculation"], "disableBelowAcceptance": "30%"}}
    assert resolved(spec, given.build(None)).disable_below is None
