"""What the operator writes for the engine is what the engine reads: the one border between the two programs."""

from pathlib import Path
from typing import Any

import pytest

from slipstream_operator.core.resolved import Revisioned
from slipstream_runtime import contract
from slipstream_runtime.engine.config import EngineConfig
from slipstream_runtime.simulator import config as simulator
from tests.support import given

MODEL = given.MODEL

SPECS: dict[str, dict[str, Any]] = {
    "a model alone": {"model": MODEL},
    "everything": {
        "model": {
            **MODEL,
            "name": "Qwen",
            "maxLength": 4096,
            "trustRemoteCode": True,
            "toolParser": "hermes",
            "reasoningParser": "qwen3",
            "chatTemplate": "{{ messages }}",
            "tokenSecret": {"name": "hf", "key": "token"},
            "adapters": [{"name": "sql", "uri": "hf://org/sql"}],
            "maxAdapterRank": 64,
        },
        "parallelism": {"tensor": 2, "pipeline": 3, "data": 4},
        "attention": {"slidingWindow": 64, "backend": "FLASH_ATTN"},
        "quantization": {"method": "fp8", "kvCache": "fp8"},
        "speculation": {"draft": "hf://org/small", "draftQuantization": "fp8", "tokens": 3},
        "cache": {"prefix": False, "compile": False},
        "batching": {
            "maxSequences": 8,
            "maxBatchedTokens": 8192,
            "chunkedPrefill": False,
            "policy": "priority",
        },
        "limits": {
            "maxOutputTokens": 512,
            "maxPromptTokens": 2048,
            "timeout": "1m30s",
            "concurrency": 8,
            "queue": 0,
            "maxAnswers": 8,
            "maxPromptLogprobs": 0,
            "maxMessages": 100,
            "maxTools": 10,
            "maxMedia": 2,
        },
        "times": {"body": "5m"},
        "output": {"schema": '{"type": "object"}', "stop": ["END"], "enforce": True},
        "routing": {"mode": "Direct", "apiKeys": {"name": "keys"}},
        "engineArgs": {"seed": 7, "async-scheduling": False, "cudagraph-capture-sizes": [1, 2]},
    },
    "a template of a ConfigMap": {
        "model": {**MODEL, "chatTemplateFrom": {"name": "templates", "key": "tools"}}
    },
    "a cpu": {"model": MODEL, "accelerator": {"type": "cpu", "count": 3}},
    "a method without a draft": {"model": MODEL, "speculation": {"method": "ngram"}},
    "mtp": {"model": MODEL, "speculation": {"method": "mtp"}},
    "a head": {"model": MODEL, "speculation": {"method": "eagle3", "draft": "hf://org/head"}},
    "suffix in an image that can": {
        "model": MODEL,
        "speculation": {"method": "suffix"},
        "template": {"image": "own"},
    },
    "empty parts": {"model": MODEL, "quantization": {}, "cache": {}, "batching": {}, "limits": {}},
    "a regex": {"model": MODEL, "output": {"regex": "[ab]+"}},
    "a gateway": {"model": MODEL, "routing": {"mode": "Gateway", "gateway": {"name": "inference"}}},
    "a grammar": {"model": MODEL, "output": {"grammar": 'root ::= "a"'}},
}


def _revisioned(spec: dict[str, Any]) -> Revisioned:
    profile = given.profile(sources={"trustRemoteCode": True})
    return given.resolved(spec, profiles=[profile]).revisioned


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_the_engine_reads_what_the_operator_writes(spec: dict[str, Any]) -> None:
    EngineConfig.model_validate(_revisioned(spec).config)


def test_every_choice_of_the_user_reaches_the_engine() -> None:
    found = EngineConfig.model_validate(_revisioned(SPECS["everything"]).config)
    assert found.model_dump() == {
        "model": {
            "uri": "hf://org/model",
            "name": "Qwen",
            "max_length": 4096,
            "trust_remote_code": True,
            "tool_parser": "hermes",
            "reasoning_parser": "qwen3",
            "chat_template": "{{ messages }}",
            "chat_template_from": None,
        },
        "load": "auto",
        "device": "cuda",
        "cores": None,
        "dtype": "auto",
        "tensor_parallel": 2,
        "pipeline_parallel": 3,
        "data_parallel": 4,
        "nodes": 1,
        "quantization": {"method": "fp8", "kv_cache": "fp8"},
        "speculation": {
            "draft": "hf://org/small",
            "method": None,
            "draft_quantization": "fp8",
            "tokens": 3,
        },
        "cache": {
            "prefix": False,
            "compile": False,
            "kv_bytes": None,
            "gpu_memory_utilization": None,
            "offload_bytes": None,
            "offload_disk_bytes": None,
        },
        "batching": {
            "max_sequences": 8,
            "max_batched_tokens": 8192,
            "chunked_prefill": False,
            "policy": "priority",
        },
        "attention": {"sliding_window": 64, "backend": "FLASH_ATTN"},
        "adapters": {
            "slots": 4,
            "rank": 64,
            "file": Path("/etc/slipstream-adapters/adapters.json"),
        },
        "engine_args": {"seed": 7, "async-scheduling": False, "cudagraph-capture-sizes": [1, 2]},
        "linger_seconds": 4,
        "drain_seconds": 60,
        "stall_seconds": 300,
        "limits": {
            "max_output_tokens": 512,
            "max_prompt_tokens": 2048,
            "timeout_seconds": 90.0,
            "body_seconds": 300.0,
            "concurrency": 8,
            "queue": 0,
            "max_answers": 8,
            "max_prompt_logprobs": 0,
            "max_messages": 100,
            "max_tools": 10,
            "max_media": 2,
        },
        "output": {
            "schema_text": '{"type": "object"}',
            "regex": None,
            "grammar": None,
            "stop": ("END",),
            "enforce": True,
        },
        "api_keys": Path(contract.API_KEYS_DIRECTORY),
        "certificate": None,
        "open_metrics": False,
        "reaches_store": True,
        "prefix_scope": "Tenant",
    }


@pytest.mark.parametrize(
    ("mode", "fields", "reaches"),
    [
        ("Router", {"replicas": 3}, True),
        ("Direct", {"replicas": 1}, True),
        ("Direct", {"replicas": 2}, False),
        ("Direct", {"scaling": {"minReplicas": 1, "maxReplicas": 2}}, False),
        ("Gateway", {"replicas": 2}, False),
    ],
)
def test_an_engine_knows_whether_later_requests_reach_the_responses_that_it_stores(
    mode: str, fields: dict[str, Any], reaches: bool
) -> None:
    routing = {"mode": mode, **({"gateway": {"name": "g"}} if mode == "Gateway" else {})}
    env = [{"name": contract.STORE_VARIABLE, "value": "1"}]
    spec = {"model": MODEL, "routing": routing, **fields}
    assert EngineConfig.model_validate(_revisioned(spec).config).reaches_store
    found = _revisioned({**spec, "template": {"env": env}})
    assert EngineConfig.model_validate(found.config).reaches_store is reaches


def test_on_a_cpu_the_kv_cache_is_an_eighth_of_the_memory_and_nothing_is_compiled() -> None:
    found = EngineConfig.model_validate(_revisioned(SPECS["a cpu"]).config)
    assert (found.device, found.cores, found.cache.kv_bytes, found.cache.compile) == (
        "cpu",
        3,
        2**29,
        False,
    )


def test_the_token_is_no_part_of_the_configuration() -> None:
    revisioned = _revisioned(SPECS["everything"])
    assert revisioned.token_secret == ("hf", "token")
    assert "tokenSecret" not in revisioned.config["model"]
    assert revisioned.api_keys == "keys"


@pytest.mark.parametrize("behaviour", [None, {}, {"alpha": "5ms", "kvTokens": 1000}])
def test_the_simulator_reads_what_the_operator_writes(behaviour: dict[str, Any] | None) -> None:
    spec = {"runtime": "simulator"} | ({} if behaviour is None else {"simulator": behaviour})
    simulator.Config.model_validate(_revisioned(spec).config)


def test_the_simulators_defaults_are_the_same_on_both_sides() -> None:
    written = simulator.Config.model_validate(_revisioned({"runtime": "simulator"}).config)
    built_in = simulator.Config.model_validate({"model": {"name": "chat"}})
    assert written.model == built_in.model
    assert written.model_dump(exclude={"model"}) == pytest.approx(
        built_in.model_dump(exclude={"model"})
    )


def test_the_simulators_behaviour_is_in_seconds() -> None:
    behaviour = {"alpha": "5ms", "gamma": "50ns", "coldStart": "1m", "maxSequences": 9}
    spec = {"runtime": "simulator", "simulator": behaviour}
    found = simulator.Config.model_validate(_revisioned(spec).config)
    assert (found.alpha, found.gamma, found.cold_start, found.max_sequences) == pytest.approx(
        (0.005, 50e-9, 60.0, 9)
    )
