"""The list that spec.engineArgs is checked against is what vLLM's own parser says."""

import subprocess
import sys

import pytest


@pytest.mark.timeout(300)
def test_the_committed_list_is_that_of_vllms_parser() -> None:
    command = [sys.executable, "-m", "dev.vllm_arguments", "--check", "all"]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
