"""Plan: only what is ours is touched, and a cluster that is as desired needs no step."""

import copy
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st

from slipstream_operator import names
from slipstream_operator.core import observed, plan
from slipstream_operator.core.observed import Child, Ref
from tests.support import given

DESIRED = given.rendered(given.observed())
CHILDREN = tuple(given.child(manifest) for manifest in DESIRED)
KEPT = {given.identity()}
DEPLOYMENT = Ref("Deployment", given.NAMESPACE, f"chat-{given.identity()}")


def _plan(
    children: Sequence[Child] = CHILDREN,
    *,
    desired: Sequence[dict[str, Any]] = DESIRED,
    kept: set[str] = KEPT,
) -> plan.Plan:
    return plan.plan(
        desired, children=children, is_ours=plan.controlled_by(given.UID), kept_revisions=kept
    )


def _with(change: Callable[[Child], Child], *, ref: Ref = DEPLOYMENT) -> tuple[Child, ...]:
    return tuple(change(child) if child.ref == ref else child for child in CHILDREN)


def _edited(child: Child, edit: Callable[[dict[str, Any]], object]) -> Child:
    manifest = copy.deepcopy(dict(child.manifest))
    edit(manifest)
    return dataclasses.replace(child, packed=observed.pack(manifest))


def test_in_an_empty_cluster_everything_is_made_in_order() -> None:
    found = _plan([])
    assert [step.manifest for step in found.applies] == DESIRED
    assert {(step.uid, step.reason, step.drifted) for step in found.applies} == {
        (None, "missing", False)
    }
    assert not found.deletes
    assert not found.conflicts


def test_what_is_as_desired_needs_no_step() -> None:
    assert not _plan()


def test_what_we_want_otherwise_now_is_applied_to_the_same_object() -> None:
    desired = given.rendered(given.observed(), replicas=2)
    (step,) = _plan(desired=desired).applies
    assert (step.ref, step.uid, step.reason, step.drifted) == (
        DEPLOYMENT,
        f"uid-of-Deployment-{DEPLOYMENT.name}",
        "changed",
        False,
    )


def test_what_someone_edited_is_restored() -> None:
    children = _with(
        lambda child: _edited(child, lambda manifest: manifest["spec"].update(replicas=9))
    )
    (step,) = _plan(children).applies
    assert (step.ref, step.reason, step.drifted) == (DEPLOYMENT, "spec.replicas was edited", True)


def test_a_label_that_someone_removed_is_restored() -> None:
    children = _with(
        lambda child: _edited(
            child, lambda manifest: manifest["metadata"]["labels"].pop(names.COMPONENT_LABEL)
        )
    )
    (step,) = _plan(children).applies
    assert step.reason == f"metadata.labels.{names.COMPONENT_LABEL} was edited"


def test_what_others_added_is_left_to_them() -> None:
    def edit(manifest: dict[str, Any]) -> None:
        manifest["metadata"]["annotations"]["deployment.kubernetes.io/revision"] = "1"
        manifest["spec"]["minReadySeconds"] = 0

    assert not _plan(_with(lambda child: _edited(child, edit)))


@pytest.mark.parametrize("controller", [None, "uid-of-somebody"])
def test_a_strangers_object_is_a_conflict_and_never_touched(controller: str | None) -> None:
    children = _with(lambda child: given.child(child.manifest, controller=controller))
    found = _plan(children)
    assert found.conflicts == (DEPLOYMENT,)
    assert not found


def test_a_strangers_object_with_our_label_is_never_deleted() -> None:
    manifest = copy.deepcopy(DESIRED[0])
    manifest["metadata"]["name"] = "chat-other"
    assert not _plan([*CHILDREN, given.child(manifest, controller="uid-of-somebody")])


def test_what_is_no_longer_wanted_is_deleted() -> None:
    old = given.realised(given.observed({"model": {"uri": "hf://org/old"}})).children
    gone = [child for child in old if child.revision is not None]
    found = _plan([*CHILDREN, *gone])
    assert [(step.ref, step.uid, step.reason) for step in found.deletes] == [
        (child.ref, child.uid, "no longer desired") for child in gone
    ]
    assert not found.applies


def test_a_revision_that_is_kept_is_not_deleted_even_if_it_cannot_be_rendered() -> None:
    desired = [m for m in DESIRED if names.REVISION_LABEL not in m["metadata"]["labels"]]
    assert not _plan(desired=desired)


@pytest.mark.parametrize("desired", [DESIRED, []], ids=["wanted", "not wanted"])
def test_what_is_being_deleted_is_waited_for(desired: list[dict[str, Any]]) -> None:
    ending = tuple(
        dataclasses.replace(
            _edited(child, lambda manifest: manifest["metadata"]["annotations"].clear()),
            deleting=True,
        )
        for child in CHILDREN
    )
    assert not _plan(ending, desired=desired)


TEXT = st.text("abcdefgh-", min_size=1, max_size=12)
LABEL = st.from_regex("[a-z0-9]([a-z0-9._-]{0,8}[a-z0-9])?", fullmatch=True)
SPECS = st.fixed_dictionaries(
    {"model": st.just(given.MODEL)},
    optional={
        "replicas": st.integers(0, 5),
        "accelerator": st.fixed_dictionaries(
            {"type": st.sampled_from(["gpu", "cpu"]), "count": st.integers(1, 8)}
        ),
        "resources": st.just({"limits": {"memory": "4096Mi", "cpu": "1500m"}}),
        "template": st.fixed_dictionaries(
            {},
            optional={
                "labels": st.dictionaries(LABEL, LABEL, max_size=3),
                "nodeSelector": st.dictionaries(LABEL, LABEL, max_size=3),
                "env": st.lists(
                    st.fixed_dictionaries({"name": TEXT, "value": st.just("") | TEXT}),
                    max_size=3,
                    unique_by=lambda variable: variable["name"],
                ),
                "tolerations": st.lists(
                    st.fixed_dictionaries(
                        {"key": TEXT}, optional={"effect": st.sampled_from(["NoExecute"])}
                    ),
                    max_size=3,
                ),
            },
        ),
    },
)


def _stored(value: Any) -> Any:
    """The value as an API server hands it back: without empty texts, with defaults of its own."""
    if isinstance(value, dict):
        kept = {key: _stored(entry) for key, entry in value.items() if entry != ""}
        return {**kept, "aDefault": "of the server"} if "name" in value else kept
    return [_stored(entry) for entry in value] if isinstance(value, list) else value


@hypothesis.given(SPECS, st.booleans())
def test_what_was_applied_is_what_is_desired(spec: dict[str, Any], pod_monitors: bool) -> None:
    observed = given.observed(spec, pod_monitors=pod_monitors)
    desired = given.rendered(observed, replicas=2)
    children = [given.child(_stored(manifest)) for manifest in desired]
    found = plan.plan(
        desired, children=children, is_ours=plan.controlled_by(given.UID), kept_revisions=()
    )
    assert found == plan.Plan()
