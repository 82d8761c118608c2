"""`slipstream upgrade check` on files and on the standard input: the table, the JSON, and the exit status."""

import json
from pathlib import Path
from typing import Any

import click.testing
import yaml

from slipstream_cli.main import main


def service(name: str, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "slipstream.dev/v1alpha1",
        "kind": "InferenceService",
        "metadata": {"name": name, "namespace": "team"},
        "spec": {"model": {"uri": "hf://org/model"}, **spec},
    }


OLD = service("old", engine={"version": "0.31.0"}, engineArgs={"mamba-cache-mode": "all"})
PROFILE = {
    "apiVersion": "slipstream.dev/v1alpha1",
    "kind": "ServingProfile",
    "metadata": {"name": "gpus"},
    "spec": {
        "accelerators": [{"name": "gpu", "resourceName": "nvidia.com/gpu"}],
        "images": {"vllm": "new:1", "versions": [{"version": "0.31.0", "vllm": "old:1"}]},
    },
}


def run(*words: str, objects: list[dict[str, Any]]) -> click.testing.Result:
    text = yaml.safe_dump_all(objects)
    return click.testing.CliRunner().invoke(
        main, ["upgrade", "check", "-f", "-", *words], input=text
    )


def test_a_refusal_is_named_and_ends_with_status_1() -> None:
    result = run("--to", "0.32.0", objects=[OLD, service("new")])
    assert result.exit_code == 1
    assert "spec.engineArgs.mamba-cache-mode" in result.output
    assert "1 of 2 services would be refused." in result.output
    assert all(len(line) <= 100 for line in result.output.splitlines())


def test_the_json_has_each_service_with_its_version_and_findings() -> None:
    listed = {"kind": "List", "items": [OLD, service("new")]}
    result = run("--to", "0.32.0", "-o", "json", objects=[listed])
    old, new = json.loads(result.output)["services"]
    assert (old["name"], old["version"], old["accepted"]) == ("team/old", "0.31.0", False)
    assert (new["version"], new["accepted"], new["findings"]) == ("0.32.0", True, [])


def test_services_without_an_effect_end_with_status_0() -> None:
    assert run("--to", "0.31.0", objects=[OLD, service("new")]).exit_code == 0


def test_an_image_of_the_profile_stands_for_its_version() -> None:
    assert run("--to", "new:1", objects=[OLD, PROFILE]).exit_code == 1
    assert run("--to", "old:1", objects=[OLD, PROFILE]).exit_code == 0


def test_services_without_vllm_are_not_affected() -> None:
    simulated = {**service("sim"), "spec": {"runtime": "simulator"}}
    assert run("--to", "0.31.0", objects=[simulated]).exit_code == 0


def test_what_cannot_be_used_is_named_and_ends_with_status_2(tmp_path: Path) -> None:
    unknown = run("--to", "0.30.0", objects=[OLD])
    assert unknown.exit_code == 2
    assert "Use one of 0.31.0, 0.32.0" in unknown.output
    assert run("--to", "0.31.0", objects=[PROFILE]).exit_code == 2
    broken = run("--to", "0.31.0", objects=[service("x", model={"uri": 3})])
    assert broken.exit_code == 2
    assert "team/x" in broken.output
