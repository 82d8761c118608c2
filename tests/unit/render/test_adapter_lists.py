"""The list of LoRA adapters that engines follow without a restart."""

import json

from slipstream_operator import names
from slipstream_operator.names import REVISION_LABEL
from tests.support import given

ADAPTERS = [{"name": "sql", "uri": "pvc://a/sql"}]


def test_adapters_are_listed_beside_the_revision_in_a_volume_that_may_be_missing() -> None:
    rendered = given.rendered(given.observed({"model": {**given.MODEL, "adapters": ADAPTERS}}))
    listed = given.find(rendered, "ConfigMap", name="chat-adapters")
    assert json.loads(listed["data"]["adapters.json"]) == {"sql": "pvc://a/sql"}

    assert "immutable" not in listed
    assert REVISION_LABEL not in listed["metadata"]["labels"]
    pod = given.find(rendered, "Deployment")["spec"]["template"]["spec"]
    (volume,) = (volume for volume in pod["volumes"] if volume["name"] == "adapters")
    assert volume["configMap"] == {"name": "chat-adapters", "optional": True}
    mounts = {mount["name"]: mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]}
    assert mounts["adapters"] == "/etc/slipstream-adapters"


def test_a_new_revision_of_an_adapter_changes_its_entry_and_no_pod() -> None:
    def entry(**fields: str) -> tuple[object, str]:
        adapters = [{"name": "sql", "uri": "pvc://a/sql", **fields}]
        found = given.resolved({"model": {**given.MODEL, "adapters": adapters}})
        assert found.adapters is not None
        return found.revisioned, found.adapters["sql"]

    plain, (first, second) = entry(), (entry(revision="1"), entry(revision="2"))
    assert plain[0] == first[0] == second[0]
    assert [found[1] for found in (plain, first, second)] == [
        "pvc://a/sql",
        "pvc://a/sql#1",
        "pvc://a/sql#2",
    ]


def test_without_adapters_there_is_no_list_of_them() -> None:
    manifests = given.rendered(given.observed())
    assert all(manifest["metadata"]["name"] != "chat-adapters" for manifest in manifests)
    deployment = given.find(manifests, "Deployment")
    assert "adapters" not in json.dumps(deployment["spec"]["template"]["spec"])


def test_a_changed_list_changes_nothing_else() -> None:
    def fingerprints(adapters: list[dict[str, str]]) -> dict[str, str]:
        observed = given.observed({"model": {**given.MODEL, "adapters": adapters}})
        return {
            f"{manifest['kind']} {manifest['metadata']['name']}": manifest["metadata"][
                "annotations"
            ][names.APPLIED_ANNOTATION]
            for manifest in given.rendered(observed)
        }

    one, two = (
        fingerprints([{"name": name, "uri": "hf://org/a"} for name in added])
        for added in ("ab", "abc")
    )
    assert {name for name in one if one[name] != two.get(name)} == {"ConfigMap chat-adapters"}
    assert one.keys() == two.keys()
