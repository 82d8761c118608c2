"""How-to pages work: their manifests are applied and their commands run, against the real API server."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from dev.cluster.kube import Kube
from tests.support import services

PAGES = sorted((Path(__file__).parents[2] / "docs/how-to").glob("*.md"))
_BLOCK = re.compile(r'^```(\w+)(?: title="([^"]+)")?\n(.*?)^```', re.MULTILINE | re.DOTALL)


def _blocks(page: Path) -> list[tuple[str, str, str]]:
    return _BLOCK.findall(page.read_text())


@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if any(kind == "sh" for kind, _, _ in _blocks(page))],
    ids=lambda page: page.stem,
)
def test_the_commands_of_a_how_to_page_work(
    page: Path, kube: Kube, namespace: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    config = tmp_path / "kubeconfig"
    shutil.copyfile(kube.kubeconfig, config)
    kubectl = kube.kubectl_path
    environment = os.environ | {
        "KUBECONFIG": str(config),
        "PATH": f"{kubectl.parent}:{os.environ['PATH']}",
    }

    def run(script: str) -> None:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}"

    images = kube.get("ServingProfile", None, "local")["spec"]["images"]
    kube.apply(
        services.gpu_profile(
            namespace,
            accelerators=[{"name": "nvidia-h100", "resourceName": "nvidia.com/gpu"}],
            images={**images, "vllm": images["vllmCpu"]},
            router=services.FAKE_NODES,
            sources={"allow": ["hf://*", "pvc://*"]},
            template={"allow": ["env.HF_ENDPOINT"]},
        )
    )
    request.addfinalizer(lambda: kube.delete("ServingProfile", None, namespace))
    (tmp_path / "ca.crt").write_text("a certificate of the reader's")
    request.addfinalizer(
        lambda: kube.delete("Secret", "slipstream-system", "slipstream-prometheus")
    )
    run(f"kubectl config set-context --current --namespace={namespace}")
    for kind, title, text in _blocks(page):
        if kind == "yaml" and title:
            (tmp_path / title).write_text(text)
        elif kind == "sh":
            run(text)
