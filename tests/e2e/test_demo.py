"""`make demo` works: the program that it runs, on the cluster of these tests."""

import os
import subprocess
import sys

from dev import demo
from dev.cluster.kube import Kube
from dev.cluster.lifecycle import Cluster


def test_the_demo_serves_a_model_and_shows_it_scale_up_and_down(
    kube: Kube, cluster: Cluster
) -> None:
    try:
        done = subprocess.run(
            [sys.executable, "-m", "dev.demo", "--name", cluster.name],
            env=os.environ | {"COLUMNS": "160"},
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        kube.delete("Namespace", None, demo.NAMESPACE)
    assert done.returncode == 0, f"{done.stdout}{done.stderr}"
    lines = done.stdout.splitlines()
    assert any(line.strip().startswith("assistant  ") for line in lines), done.stdout
    assert any("ScaledUp" in line and "from 1 to 2" in line for line in lines), done.stdout
    assert any("ScaledDown" in line and "from 2 to 1" in line for line in lines), done.stdout
