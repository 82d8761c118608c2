"""Models that are downloaded or inspected before their engines start: what is done, by what Job, and how it stands."""

import dataclasses
import json
from typing import Any

import pytest

from slipstream_operator import names
from slipstream_operator.core import facts, fetching, resolve, revisions
from slipstream_operator.core.fetching import Fetched, Progress
from slipstream_operator.core.observed import Fetcher, Observed
from slipstream_operator.core.render import fetch
from slipstream_operator.names import Reason
from slipstream_runtime import contract
from tests.support import given

URI = "hf://org/model"
CLAIM = {"model": {"claim": {"name": "models"}}}
SPEC: dict[str, Any] = {"model": {"uri": URI}, "cache": CLAIM}
REPORT = json.dumps({"model": {"uri": URI, "bytes": 16, "config": {"hidden_size": 64}}})


def task(spec: dict[str, Any] = SPEC, **profile: Any) -> fetching.Task | None:
    profile = {"sources": {"allow": ["*"]}, **profile}
    return given.resolved(spec, profiles=[given.profile(**profile)]).task


def wanted() -> fetching.Task:
    found = task()
    assert found is not None
    return found


def pod(found: fetching.Task, **fields: Any) -> Fetcher:
    return dataclasses.replace(
        Fetcher(
            namespace=given.NAMESPACE,
            name="fetch-0",
            service=given.NAME,
            task=found.identity,
            phase="Running",
            deleting=False,
            created=given.CREATED,
            address="10.0.0.9",
            report=None,
            trouble=None,
        ),
        **fields,
    )


def manifest(found: fetching.Task) -> dict[str, Any]:
    return fetch.job(given.KEY, given.UID, task=found)


def job(found: fetching.Task, condition: str) -> Any:
    child = given.child(manifest(found))
    return dataclasses.replace(
        child, status={"conditions": [{"type": condition, "status": "True"}]}
    )


def observed(**fields: Any) -> Observed:
    return given.observed(SPEC, **fields)


@pytest.mark.parametrize(
    "spec",
    [
        {"model": {"uri": URI}},
        {"model": {"uri": "pvc://weights/m"}, "cache": CLAIM},
        {"model": {"uri": "oci://registry.local/m:1"}, "cache": CLAIM},
        {"model": {"uri": URI}, "cache": {"model": {"hostPath": {"path": "/models"}}}},
        {"model": {"uri": URI}, "cache": CLAIM, "runtime": "onnx"},
        {"runtime": "simulator"},
    ],
)
def test_nothing_is_fetched_ahead_without_a_claim_and_a_remote_source(spec: dict[str, Any]) -> None:
    assert task(spec) is None


def test_a_download_needs_no_accelerator_and_none_of_its_nodes() -> None:
    gpu = {"name": "gpu", "resourceName": "nvidia.com/gpu", "nodeSelector": {"gpu": "h100"}}
    found = task(accelerators=[gpu], router={"nodeSelector": {"pool": "system"}})
    assert found is not None
    made = manifest(found)["spec"]["template"]["spec"]
    assert made["nodeSelector"] == {"pool": "system"}
    assert "nvidia.com/gpu" not in json.dumps(made)
    assert made["volumes"][1] == {
        "name": "cache",
        "persistentVolumeClaim": {"claimName": "models"},
    }


def test_a_job_gets_what_concerns_network_and_identity_and_no_token_in_its_command() -> None:
    template = {
        "env": [{"name": "HF_ENDPOINT", "value": "https://mirror"}],
        "serviceAccountName": "reader",
        "nodeSelector": {"gpu": "h100"},
        "priorityClassName": "high",
        "labels": {"team": "a"},
        "imagePullSecrets": [{"name": "registry"}],
    }
    model = {"uri": URI, "tokenSecret": {"name": "hub", "key": "token"}}
    allowed = {"allow": ["env.HF_ENDPOINT"]}
    found = task({**SPEC, "model": model, "template": template}, template=allowed)
    assert found is not None
    made = manifest(found)["spec"]["template"]
    container = made["spec"]["containers"][0]
    assert container["command"] == ["python", "-m", contract.FETCH_MODULE, "--model", URI]
    assert {"name": "HF_ENDPOINT", "value": "https://mirror"} in container["env"]
    assert made["spec"]["serviceAccountName"] == "reader"
    assert made["spec"]["imagePullSecrets"] == [{"name": "registry"}]
    assert "nodeSelector" not in made["spec"]
    assert made["metadata"]["labels"]["team"] == "a"


def test_a_job_names_no_user_where_the_cluster_assigns_it() -> None:
    found = task(users="Assigned")
    assert found is not None
    context = manifest(found)["spec"]["template"]["spec"]["securityContext"]
    assert not {"runAsUser", "runAsGroup", "fsGroup"} & set(context)


def test_a_pod_that_fetches_is_no_engine() -> None:
    labels = manifest(wanted())["spec"]["template"]["metadata"]["labels"]
    assert names.SERVICE_LABEL not in labels
    assert labels[names.FETCH_LABEL] == given.NAME


def test_a_job_runs_as_the_restricted_standard_asks() -> None:
    made = manifest(wanted())["spec"]["template"]["spec"]
    assert made["securityContext"]["runAsNonRoot"] is True
    assert made["containers"][0]["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert made["automountServiceAccountToken"] is False


def test_another_environment_makes_another_job_of_the_same_task() -> None:
    changed = task({**SPEC, "template": {"env": [{"name": "SSL_CERT_DIR", "value": "/p"}]}})
    assert changed is not None
    assert changed.identity == wanted().identity
    assert manifest(changed)["metadata"]["name"] != manifest(wanted())["metadata"]["name"]


def test_names_of_jobs_are_valid_for_the_longest_service() -> None:
    assert len(names.fetch_name("a" * 40, "12345678")) <= 63


def test_a_download_takes_the_draft_along() -> None:
    found = task({**SPEC, "speculation": {"draft": "hf://org/draft", "tokens": 4}})
    assert found is not None
    assert manifest(found)["spec"]["template"]["spec"]["containers"][0]["command"][3:] == [
        "--model",
        URI,
        "--draft",
        "hf://org/draft",
    ]


def test_a_draft_from_an_image_is_left_to_the_engine() -> None:
    found = task({**SPEC, "speculation": {"draft": "oci://registry.local/d:1", "tokens": 4}})
    assert found is not None
    assert found.uris == (URI,)


def test_where_the_memory_of_the_accelerator_is_known_a_model_is_inspected() -> None:
    gpu = {"name": "gpu", "resourceName": "nvidia.com/gpu", "memory": "80Gi"}
    found = task({"model": {"uri": URI}}, accelerators=[gpu])
    assert found is not None and found.inspects
    made = manifest(found)["spec"]
    assert made["template"]["spec"]["containers"][0]["command"][-1] == "--inspect"
    assert made["activeDeadlineSeconds"] > 0


def test_engines_of_a_new_revision_wait_for_the_download_and_old_ones_stay() -> None:
    snapshot = observed()
    decided = resolve.resolve(snapshot)
    assert fetching.holds(snapshot, decided.task, None)
    rollout = revisions.roll_out(snapshot, decided, replicas=2, held=True, now=given.MOMENT)
    assert [revision.replicas for revision in rollout.revisions] == [0]
    before = given.realised(given.observed({"model": {"uri": "hf://org/old"}}), replicas=2)
    (old,) = {child.revision for child in before.children if child.ref.kind == "Deployment"}
    assert old is not None
    serving = dataclasses.replace(snapshot, children=before.children, pods=given.pods(old, 2))
    rollout = revisions.roll_out(serving, decided, replicas=2, held=True, now=given.MOMENT)
    assert {revision.hash: revision.replicas for revision in rollout.revisions} == {
        old: 2,
        rollout.wanted: 0,
    }


def test_an_engine_that_runs_already_is_not_stopped_for_a_download() -> None:
    snapshot = given.realised(observed(), replicas=2)
    rollout = revisions.roll_out(
        snapshot, resolve.resolve(snapshot), replicas=2, held=True, now=given.MOMENT
    )
    assert [revision.replicas for revision in rollout.revisions] == [2]


def test_what_a_pod_reports_is_taken_over_and_kept() -> None:
    found = wanted()
    done = fetching.noted(observed(fetchers=[pod(found, phase="Succeeded", report=REPORT)]), None)
    assert done is not None and done.facts is not None
    assert (done.task, done.facts.model.bytes) == (found.identity, 16)
    assert fetching.load(done.text) == done
    assert fetching.noted(observed(), done) == done
    assert not fetching.holds(observed(), found, done)


def test_a_job_that_ended_without_a_pod_to_ask_is_done_and_its_facts_unknown() -> None:
    found = wanted()
    done = fetching.noted(observed(children=[job(found, "Complete")]), None)
    assert done == Fetched(found.identity)
    assert done.facts is None


def test_another_source_is_fetched_again() -> None:
    other = task({"model": {"uri": "hf://org/other"}, "cache": CLAIM})
    assert not fetching.is_done(wanted(), Fetched(other.identity if other else "", REPORT))


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"task": 1}', "[" * 100_000])
def test_a_broken_record_means_that_nothing_is_done(text: str) -> None:
    assert fetching.load(text) is None


def test_an_inspection_that_was_given_up_holds_nothing() -> None:
    gpu = {"name": "gpu", "resourceName": "nvidia.com/gpu", "memory": "80Gi"}
    snapshot = given.observed({"model": {"uri": URI}}, profiles=[given.profile(accelerators=[gpu])])
    found = resolve.resolve(snapshot).task
    assert found is not None
    assert fetching.holds(snapshot, found, None)
    failed = dataclasses.replace(snapshot, children=(job(found, "Failed"),))
    assert not fetching.holds(failed, found, None)


@pytest.mark.parametrize(
    ("fetcher", "progress", "reason", "message"),
    [
        (None, None, Reason.FETCHING, "hf://org/model: waiting for the pod of the download Job."),
        ({}, None, Reason.FETCHING, "hf://org/model: downloading."),
        (
            {},
            Progress(total=16 << 30, done=4 << 30, rate=120 << 20),
            Reason.FETCHING,
            "hf://org/model: downloading, 25% of 16.0 GiB, 120.0 MiB/s.",
        ),
        (
            {"trouble": (Reason.FETCH_FAILED, "hf://org/model: is gated (tried 2 times)")},
            None,
            Reason.FETCH_FAILED,
            "hf://org/model: is gated (tried 2 times)",
        ),
        (
            {"phase": "Failed", "trouble": ("Evicted", "The node was low on disk.")},
            None,
            "Evicted",
            "The node was low on disk.",
        ),
        (
            {"phase": "Failed"},
            None,
            Reason.FETCHING,
            "hf://org/model: waiting for the pod of the download Job.",
        ),
        (
            {"deleting": True},
            None,
            Reason.FETCHING,
            "hf://org/model: waiting for the pod of the download Job.",
        ),
    ],
)
def test_how_a_download_stands_is_said_in_one_line(
    fetcher: dict[str, Any] | None, progress: Progress | None, reason: str, message: str
) -> None:
    found = wanted()
    fetchers = [] if fetcher is None else [pod(found, **fetcher)]
    standing = fetching.state(observed(fetchers=fetchers), found, progress)
    assert (standing.reason, standing.message) == (reason, message)


@pytest.mark.parametrize("content", [None, [], {}, {"totalBytes": True, "doneBytes": -1}, "x"])
def test_an_answer_that_is_not_ours_is_unknown(content: object) -> None:
    assert fetching.parse_progress(content) == Progress()


@pytest.mark.parametrize("number", [1 << 53, 10**400, -1, 1.5, True, "5", None])
def test_numbers_that_are_no_bytes_are_unknown_and_still_said_in_words(number: object) -> None:
    found = fetching.parse_progress(dict.fromkeys(("totalBytes", "doneBytes"), number))
    assert found == Progress()
    assert fetching.state(observed(fetchers=[pod(wanted())]), wanted(), found).message


def test_a_download_of_the_largest_size_is_said_in_words() -> None:
    most = facts.LARGEST
    found = fetching.parse_progress({"totalBytes": 1, "doneBytes": most, "bytesPerSecond": most})
    standing = fetching.state(observed(fetchers=[pod(wanted())]), wanted(), found)
    assert "downloading, 100% of 1 B" in standing.message
