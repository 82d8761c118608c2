"""`slipstream plan` on files: the table, the JSON, and the exit status."""

import copy
import json
import shlex
from pathlib import Path
from typing import Any

import click.testing
import pytest
import yaml

from slipstream_cli.main import main
from tests.support.configs import CONFIGS

ROOT = Path(__file__).parents[3]
SAMPLE = ROOT / "manifests/samples/chat-gpu.yaml"
PROFILE: dict[str, Any] = {
    "apiVersion": "slipstream.dev/v1alpha1",
    "kind": "ServingProfile",
    "metadata": {"name": "gpus"},
    "spec": {
        "namespaceSelector": {"matchLabels": {"team": "elsewhere"}},
        "accelerators": [
            {"name": "nvidia-h100", "resourceName": "nvidia.com/gpu", "memory": "79Gi", "hourlyCost": "2.50"},
            {"name": "nvidia-t4", "resourceName": "nvidia.com/gpu", "memory": "14Gi"},
            {"name": "other", "resourceName": "nvidia.com/gpu"},
        ],
        "limits": {"maxAcceleratorsPerNamespace": 10},
        "images": {"vllm": "image/vllm:1", "router": "image/router:1"},
    },
}  # fmt: skip


@pytest.fixture
def run(tmp_path: Path):
    """Run the command on the sample, or on one with other fields, and the configs of public models."""
    (tmp_path / "profile.yaml").write_text(yaml.safe_dump(PROFILE))
    for name, config in CONFIGS.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(config))

    def command(*words: str, **spec: Any) -> click.testing.Result:
        body = yaml.safe_load(SAMPLE.read_text())
        body["spec"] |= spec
        service = tmp_path / "service.yaml"
        service.write_text(yaml.safe_dump(body))
        arguments = [str(tmp_path / word) if word in files else word for word in words]
        return click.testing.CliRunner().invoke(
            main, ["plan", "-f", str(service), "--profile", str(tmp_path / "profile.yaml"), *arguments]
        )  # fmt: skip

    files = {f"{name}.json" for name in CONFIGS} | {"absent.json"}
    return command


def test_a_service_that_fits_is_shown_with_memory_capacity_cost_and_arguments(run):
    result = run("--config", "Qwen3-8B.json", "--draft-config", "Qwen3-0.6B.json")
    assert result.exit_code == 0, result.output
    text = " ".join(result.output.split())
    assert "Each of nvidia-h100 x 1" in text
    assert "weights │ 8.8" in text
    assert "draft's weights │ 1.1" in text
    assert "Replicas: 1 to 4, each nvidia-h100 x 1." in text
    assert "Cost per hour: 2.50 to 10.00." in text
    assert "--quantization fp8" in text
    assert "Warning" not in text


def test_json_holds_the_same_numbers(run):
    result = run("--config", "Qwen3-8B.json", "--draft-config", "Qwen3-0.6B.json", "-o", "json")
    found = json.loads(result.output)
    assert found["fits"] is True
    assert found["tight"] is False
    assert found["costPerHour"] == {"min": "2.50", "max": "10.00"}
    assert found["kvTokens"] == int(found["memory"]["kv"] / found["memory"]["request"] * 40960)
    assert found["engineArguments"][:2] == ["--model", "MODEL"]


@pytest.mark.parametrize(
    ("spec", "config", "reason"),
    [
        ({"accelerator": {"count": 3}}, "Qwen3-8B", "InvalidParallelism"),
        ({"accelerator": {"type": "nvidia-t4"}}, "Llama-3.1-70B", "DoesNotFit"),
        ({"accelerator": {"type": "nvidia-a100"}}, "Qwen3-8B", "UnknownAccelerator"),
        ({"accelerator": {"count": 16}}, "Llama-3.1-70B", "QuotaExceeded"),
    ],
)
def test_a_service_that_would_not_be_accepted_fails_with_the_operators_words(
    run, spec, config, reason
):
    result = run("--config", f"{config}.json", **spec)
    assert result.exit_code == 1
    assert result.output.startswith(f"{reason}: spec.accelerator")
    as_json = run("--config", f"{config}.json", "-o", "json", **spec)
    assert as_json.exit_code == 1
    assert json.loads(as_json.output)["reason"] == reason


def test_a_service_without_a_known_model_is_planned_with_a_warning(run):
    result = run(quantization={"method": "none"})
    assert result.exit_code == 0
    assert "configuration is not known" in " ".join(result.output.split())


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("memory", "abc", '"abc" is not a quantity above zero'),
        ("memory", "0", '"0" is not a quantity above zero'),
        ("memory", "-5Gi", '"-5Gi" is not a quantity above zero'),
        ("hourlyCost", 2.5, '2.5 can\'t work because it must be text. Write "2.5".'),
        ("hourlyCost", "abc", '"abc" is not an amount of money'),
        ("hourlyCost", "NaN", '"NaN" is not an amount of money'),
        ("memoryShare", "50", '"50" is not a percentage'),
        ("memoryShare", "0%", "must be more than 0%"),
        ("provisionTime", "soon", '"soon" is not a duration'),
        ("provisionTime", "0s", '"0s" must be more than zero'),
        ("times.drain", "abc", '"abc" is not a duration'),
    ],
)
def test_a_profile_that_the_api_server_would_refuse_is_refused_by_field_and_value(
    run, tmp_path, field, value, message
):
    body = copy.deepcopy(PROFILE)
    first, *rest = field.split(".")
    body["spec"]["accelerators"][0][first] = {rest[0]: value} if rest else value
    (tmp_path / "profile.yaml").write_text(yaml.safe_dump(body))
    result = run("--config", "Qwen3-8B.json")
    assert result.exit_code == 1
    assert f"accelerators.0.{field}: {message}" in result.output


@pytest.mark.parametrize("memory", ["80G", "80Gi", "8e10", "80000M", "80.Gi"])
def test_memory_is_taken_in_every_form_of_a_quantity(run, tmp_path, memory):
    body = copy.deepcopy(PROFILE)
    body["spec"]["accelerators"][0]["memory"] = memory
    (tmp_path / "profile.yaml").write_text(yaml.safe_dump(body))
    found = json.loads(run("--config", "Qwen3-8B.json", "-o", "json").output)
    assert found["memory"]["memory"] in (80 * 10**9, 80 * 2**30)


def test_an_accelerator_without_memory_is_said(run):
    result = run("--config", "Qwen3-8B.json", accelerator={"type": "other"})
    assert "does not state the accelerator's memory" in " ".join(result.output.split())


def test_a_service_that_may_not_start_is_warned_of_with_what_would_fit(run):
    result = run(
        "--config", "Qwen3-8B.json", "-o", "json", accelerator={"type": "nvidia-t4"},
        speculation={"method": "ngram", "tokens": 3}, model={"uri": "hf://Qwen/Qwen3-8B", "maxLength": 22000},
    )  # fmt: skip
    found = json.loads(result.output)
    assert found["tight"] is True
    assert "quantization.kvCache: fp8" in found["warnings"][0]


def test_kernels_that_are_compiled_at_run_time_are_warned_of(run):
    result = run(
        "--config", "DeepSeek-V3.json", accelerator={"type": "other", "count": 8},
        quantization={"method": "auto", "kvCache": "fp8"},
    )  # fmt: skip
    text = " ".join(result.output.split())
    assert "DeepGEMM" in text
    assert "FlashInfer" in text


def test_the_size_of_a_folder_is_that_of_its_weights_once(run, tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(CONFIGS["Qwen3-0.6B"]))
    (folder / "model-00001-of-00001.safetensors").write_bytes(bytes(400_000_000))
    (folder / "consolidated.safetensors").write_bytes(bytes(1000))
    result = run("--model", str(folder), "-o", "json", quantization={"method": "none"})
    assert json.loads(result.output)["memory"]["weights"] == pytest.approx(400_000_000, rel=1e-6)


def test_replicas_beyond_the_quota_are_warned_of_and_not_counted(run):
    result = run("--config", "Qwen3-8B.json", "-o", "json", accelerator={"count": 4})
    found = json.loads(result.output)
    assert found["replicas"] == {"min": 1, "max": 2}
    assert found["costPerHour"]["max"] == "20.00"
    assert "2 of 4 replicas" in found["warnings"][0]


def test_a_file_that_cannot_be_read_is_named(run, tmp_path):
    (tmp_path / "absent.json").write_text("[]")
    result = run("--config", "absent.json")
    assert result.exit_code == 2
    assert "absent.json: not a model's config.json" in result.output


def planned(text: str, tmp_path: Path, *words: str) -> click.testing.Result:
    """Run the command on a service's file with this text."""
    (tmp_path / "service.yaml").write_text(text)
    (tmp_path / "profile.yaml").write_text(yaml.safe_dump(PROFILE))
    return click.testing.CliRunner().invoke(
        main,
        ["plan", "-f", str(tmp_path / "service.yaml"), "--profile", str(tmp_path / "profile.yaml"), *words],
    )  # fmt: skip


ROUTE = "kind: InferenceRoute\nmetadata: {name: a}\nspec: {}\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no InferenceService, but nothing"),
        (ROUTE, "holds no InferenceService, but InferenceRoute: name one with -f"),
        ("kind: InferenceService\nmetadata: {name: a}\nspec:\n", "InferenceService a has no spec"),
        (SAMPLE.read_text() + "---\n" + SAMPLE.read_text(), "(chat, chat): choose one with --name"),
        ("a: [", "can't be read as YAML"),
    ],
)
def test_a_file_without_one_service_is_named_with_what_it_holds(tmp_path, text, message):
    result = planned(text, tmp_path)
    assert result.exit_code == 2
    assert result.output.startswith(f"Error: {tmp_path / 'service.yaml'}: ")
    assert message in result.output


def test_one_of_several_services_is_chosen_by_name(tmp_path):
    second = SAMPLE.read_text().replace("name: chat", "name: other").replace("count: 1", "count: 2")
    text = ROUTE + "---\n" + SAMPLE.read_text() + "---\n" + second
    assert "nvidia-h100 x 2" in planned(text, tmp_path, "--name", "other").output
    assert "nvidia-h100 x 1" in planned(text, tmp_path, "--name", "chat").output
    absent = planned(text, tmp_path, "--name", "third")
    assert absent.exit_code == 2
    assert "holds no InferenceService third, only chat, other" in absent.output


def test_services_inside_a_list_are_found(tmp_path):
    body = {"kind": "List", "items": [yaml.safe_load(SAMPLE.read_text())]}
    assert planned(yaml.safe_dump(body), tmp_path).exit_code == 0


def test_metadata_that_are_no_mapping_name_no_service(tmp_path):
    text = "kind: InferenceService\nmetadata: [1]\nspec: {model: {uri: 'hf://a/b'}}\n"
    result = planned(text, tmp_path)
    assert result.exit_code == 1
    assert result.output.startswith("InvalidSpec: metadata.name: ")


def test_fields_that_do_not_exist_are_refused_with_the_nearest_name(run):
    result = run(quantisation={"method": "fp8"}, model={"uri": "hf://a/b", "maxLenght": 8192})
    assert result.exit_code == 1
    assert "spec.quantisation: no such field. Did you mean quantization?" in result.output
    assert "spec.model.maxLenght: no such field. Did you mean maxLength?" in result.output


@pytest.mark.parametrize("sample", sorted((ROOT / "manifests/samples").glob("*.yaml")))
def test_every_field_of_the_samples_exists(tmp_path, sample):
    for body in yaml.safe_load_all(sample.read_text()):
        if body["kind"] == "InferenceService":
            assert "no such field" not in planned(yaml.safe_dump(body), tmp_path).output


def test_the_engines_command_is_one_line_that_a_shell_reads(run):
    result = run("--config", "Qwen3-8B.json")
    (line,) = [line for line in result.output.splitlines() if line.startswith("Engine: ")]
    words = shlex.split(line.removeprefix("Engine: "))
    assert words[:4] == ["vllm", "serve", "--model", "MODEL"]
    assert words[-1] == "--no-use-tqdm-on-load"


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"model": None}, "InvalidSpec: spec.model: is required"),
        ({"cache": {"model": {}}}, "InvalidSpec: spec.cache.model: needs exactly one of"),
        ({"speculation": {"tokens": 4}}, "InvalidSpec: spec.speculation: a draft belongs to"),
        ({"output": {"regex": "a", "grammar": "b"}}, "InvalidSpec: spec.output: at most one of"),
    ],
)
def test_rules_of_the_api_server_that_an_engine_relies_on_are_said_without_it(run, spec, message):
    result = run(**spec)
    assert result.exit_code == 1
    assert message in result.output
