"""Commands of the README and of the documentation are run by a test, or listed here with the reason why not."""

import re
from pathlib import Path
from typing import Final

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "docs/how-to").glob("*.md")),
]
DATA: Final = frozenset({"yaml", "json", "dockerfile"})
"""Languages of blocks that hold no commands."""
HOW_TO_TEST: Final = "tests/cluster/test_docs.py"
"""Runs every block `sh` of the how-to pages, and applies the titled manifests before it."""

GPU = "needs a GPU and images in a registry"
REGISTRY = "changes the locks, and needs the package index"
COVERED: Final[dict[str, str]] = {
    "make demo": "tests/e2e/test_demo.py",
    "make cluster-down": "tests/cluster/test_dev_cluster.py",
    # NB: all clusters of tests install manifests/overlays/local, which is manifests/base with local images.
    "kubectl apply --server-side -k manifests/base": "tests/support/clusters.py",
    "kubectl apply -f manifests/samples/profiles/gke.yaml": "tests/cluster/test_gpu_profiles.py",
    "slipstream plan -f service.yaml --profile profile.yaml --config config.json": (
        "tests/unit/cli/test_plan_command.py"
    ),
    "kubectl get inferenceservices -A -o yaml | slipstream upgrade check -f - --to 0.32.0": (
        "tests/unit/cli/test_upgrade_command.py"
    ),
    "slipstream upgrade compare --baseline http://localhost:8000 --candidate http://localhost:8001 --model chat "
    "--prompts prompts.jsonl": "tests/unit/cli/test_upgrade_comparison.py",
    "python -m slipstream_runtime.router --config router.json --endpoints endpoints.json": (
        "tests/router/test_process.py"
    ),
    "$ kubectl get mb": "tests/cluster/test_build_validation.py",
    "slipstream build -f build.yaml --plan": "tests/unit/cli/test_build_command.py",
    "slipstream build -f build.yaml --local --output-uri file:///models/chat-int8": (
        "tests/build/test_builds.py"
    ),
    "$ slipstream build --compare s3://models/chat-int8 /models/chat-int8": (
        "tests/unit/build/test_comparison.py"
    ),
    "make gpu-contract": "tests/gpu/test_contract.py",
    "slipstream index handbook/ --embeddings http://localhost:8000/v1 --model embeddings -o handbook.npz": (
        "tests/engine/test_retrieval.py"
    ),
    "python -m slipstream_runtime.evaluate quality --config quality.json": (
        "tests/engine/test_quality.py"
    ),
    "slipstream rollout status chat": "tests/unit/cli/test_rollout_command.py",
    "slipstream rollout promote chat": "tests/unit/cli/test_rollout_command.py",
    "slipstream rollout abort chat": "tests/unit/cli/test_rollout_command.py",
    "slipstream rollout retry chat": "tests/unit/cli/test_rollout_command.py",
    "slipstream why chat": "tests/unit/cli/test_why_command.py",
    "slipstream why chat -n team --since 15m -o json": "tests/unit/cli/test_why_command.py",
    "slipstream why chat --request 8f14e45fceea167a": "tests/unit/cli/test_why_command.py",
    "slipstream why chat --what-if replicas=3": "tests/router/test_what_if.py",
}
"""Command -> test that runs it, or what it runs."""
NOT_RUN: Final[dict[str, str]] = {
    "kubectl apply -f manifests/samples/chat-gpu.yaml": GPU,
    "kubectl wait --for=condition=Ready infer/chat --timeout=30m": GPU,
    "url=$(kubectl get infer chat -o jsonpath='{.status.url}')": GPU,
    "kubectl run ask": GPU,
    "$ kubectl get infer": "shows the output of a GPU service",
    "$ kubectl get infer chat -o jsonpath='{.status.engine}'": "shows the output of a GPU service",
    "kubectl get infer chat -o jsonpath='{.status.profile}'": "shows an output that load decides",
    "slipstream simulate": "takes minutes; tests/unit/simulator plays scenarios",
    "python -m benchmarks.": "is a benchmark",
    "kubectl port-forward service/embeddings": "runs until it is stopped",
    "kubectl create configmap handbook": "needs the file of the command before it",
    "make lock": REGISTRY,
    "uv venv --python 3.11 ~/.cache/slipstream/builder": "makes the environment of tests/build",
    "uv pip sync --require-hashes --python ~/.cache/slipstream/builder": "makes it, too",
    "make vllm-arguments": "regenerates a file; tests/repo/test_vllm_arguments.py compares it",
    "make gpu-kernels": "needs the GPU environment of 8 GB",
    "make test": "runs all tests, this one too",
    "python -m dev cuda": "installs 8 GB",
    "python -m dev image runtime": "downloads Debian's packages and needs 40 GB of disk",
}
"""Start of a command -> the reason why no test runs it."""


def blocks(page: Path) -> list[tuple[str, str]]:
    """Language and text of each fenced block."""
    return re.findall(r"^ *```(\w*)[^\n]*\n(.*?)^ *```", page.read_text(), re.MULTILINE | re.DOTALL)


def commands(text: str) -> list[str]:
    """Commands of a block: continued lines joined, comments and the output below a prompt left out."""
    joined = re.sub(r"\\\n\s*", "", text)
    lines = [re.sub(r"\s+#.*", "", line).strip() for line in joined.splitlines()]
    if prompted := [line for line in lines if line.startswith("$ ")]:
        return prompted
    return [line for line in lines if line and not line.startswith(("/", "#", ")"))]


def uncovered(page: Path) -> list[str]:
    """Commands of a page that no test runs and no reason excuses."""
    found = []
    for language, text in blocks(page):
        if language in DATA or (language == "sh" and page.parent.name == "how-to"):
            continue
        for command in commands(text):
            if command not in COVERED and not command.startswith(tuple(NOT_RUN)):
                found.append(command)
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_command_is_run_by_a_test_or_excused(page: Path) -> None:
    assert uncovered(page) == []


def test_every_named_test_exists() -> None:
    assert all((ROOT / test).is_file() for test in [*COVERED.values(), HOW_TO_TEST])


def test_no_command_is_listed_that_no_page_shows() -> None:
    shown = [command for page in PAGES for _, text in blocks(page) for command in commands(text)]
    assert set(COVERED) <= set(shown)
    assert all(any(command.startswith(start) for command in shown) for start in NOT_RUN)


def test_the_demo_is_what_its_test_runs() -> None:
    makefile = (ROOT / "Makefile").read_text()
    recipe = makefile.split("\ndemo: ")[1].split("\n\n")[0]
    assert "-m dev.demo" in recipe
    assert '"dev.demo"' in (ROOT / COVERED["make demo"]).read_text()


def test_a_new_command_is_noticed(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("```text\nmake demo   # known\nrm \\\n  -r unknown\n```\n")
    assert uncovered(page) == ["rm -r unknown"]


def test_a_block_of_shell_outside_of_how_to_pages_is_not_run_and_so_must_be_listed(
    tmp_path: Path,
) -> None:
    page = tmp_path / "page.md"
    page.write_text("```sh\nkubectl delete node --all\n```\n")
    assert uncovered(page) == ["kubectl delete node --all"]
