"""The operator's tables of vLLM's arguments, compared with the pinned vLLM."""

import json
import subprocess
import sys

import pytest

from slipstream_runtime.engine import families
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


@pytest.mark.filterwarnings("ignore")  # those of vLLM's imports
def test_vllm_has_each_parser_and_each_architecture_of_the_families() -> None:
    from vllm.model_executor.models import ModelRegistry
    from vllm.reasoning import ReasoningParserManager
    from vllm.tool_parsers import ToolParserManager

    supported = {*ModelRegistry.get_supported_archs()}
    assert {one.parser for one in families.TOOLS} <= {*ToolParserManager.list_registered()}
    assert {one.parser for one in families.REASONING} <= {*ReasoningParserManager.list_registered()}
    for family in (*families.TOOLS, *families.REASONING):
        assert {*family.architectures} <= supported, family
