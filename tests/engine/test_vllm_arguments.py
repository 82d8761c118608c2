"""What the operator believes of vLLM's arguments is what the pinned vLLM says."""

import json
import subprocess
import sys

from tests.support import vllm_checks


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *words], capture_output=True, text=True, check=False
    )


def test_the_committed_list_is_that_of_vllms_parser() -> None:
    found = run("dev.vllm_arguments", "--check", "all")
    assert found.returncode == 0, found.stderr


def test_vllm_refuses_what_the_operator_refuses_and_reads_every_argument_that_it_accepts() -> None:
    found = run("tests.support.vllm_checks")
    assert found.returncode == 0, found.stderr
    told = json.loads(found.stdout.splitlines()[-1])
    assert {name for name, error in told["cases"].items() if error} == set(vllm_checks.REFUSED)
    assert told["unread"] == []
