"""The two sides of the comparison: the operator before the fixes, and the operator of the working tree."""

import subprocess
from pathlib import Path
from typing import Final

import yaml

from dev import paths
from dev.cluster.kube import Kube
from dev.errors import DevError

BEFORE: Final = "0f0e7da293f9ae04c0f813c76fa5cbb11ac1f1d7"
"""The last commit before the first fix."""
TWICE: Final = "twice"
"""Name of the service whose pods Prometheus scrapes by two jobs."""
_NAMESPACE: Final = "monitoring"


def checkout(folder: Path) -> Path:
    """Write the files of the commit before the fixes into the folder; DevError if the history lacks it."""
    listed = subprocess.run(
        ["git", "archive", BEFORE], cwd=paths.REPOSITORY, capture_output=True, check=False
    )
    if listed.returncode:
        raise DevError(
            f"commit {BEFORE[:8]} is not in the history", remedy="run `git fetch --unshallow`"
        )
    subprocess.run(["tar", "-x", "-C", str(folder)], input=listed.stdout, check=True)
    return folder


def scrape_twice(kube: Kube) -> None:
    """Add a job that scrapes one service once more, as a ServiceMonitor of the user does."""
    found = kube.kubectl("get", "configmap", "prometheus", "-n", _NAMESPACE, "-o", "yaml")
    stored = yaml.safe_load(found)
    config = yaml.safe_load(stored["data"]["prometheus.yml"])
    (job,) = config["scrape_configs"]
    again = {
        **job,
        "job_name": "again",
        "relabel_configs": [
            *(rule for rule in job["relabel_configs"] if rule.get("target_label") != "job"),
            {"source_labels": ["service"], "regex": TWICE, "action": "keep"},
        ],
    }
    config["scrape_configs"].append(again)
    manifest = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "prometheus", "namespace": _NAMESPACE},
        "data": {"prometheus.yml": yaml.safe_dump(config)},
    }
    kube.apply_all([manifest])
    kube.kubectl("rollout", "restart", "deployment/prometheus", "-n", _NAMESPACE)
    kube.kubectl("rollout", "status", "deployment/prometheus", "-n", _NAMESPACE, "--timeout=120s")
