"""vLLM's arguments and environment for each kind of engine."""

import json
from pathlib import Path
from typing import Any

import pytest

from slipstream_runtime import contract
from slipstream_runtime.engine import arguments
from slipstream_runtime.engine.checkpoint import Checkpoint
from slipstream_runtime.engine.group import Member
from tests.support.engine_configs import AVX2, DRAFT, TARGET, config, line

CPU = (
    "--model /m --served-model-name n --dtype float32 {0}--kv-cache-metrics --custom-histogram-buckets BUCKETS {1}"
    "--distributed-executor-backend uni {2}"
    "{worker}--shutdown-timeout 1 --allowed-media-domains media.invalid --disable-fastapi-docs --no-use-tqdm-on-load"
)

BUCKETS = json.dumps({"inter_token_latency": contract.LATENCY_BUCKETS[contract.TPOT]})

WORKER = "--worker-cls slipstream_runtime.engine.worker.CPUWorker "

CUDA = CPU.replace("--dtype float32 ", "").replace("timeout 1", "timeout 3").replace("{worker}", "")

CPU = CPU.replace("{worker}", WORKER)

EAGER = "--enforce-eager "

WITHOUT_COMPILER = '{"cudagraph_mode": "FULL_DECODE_ONLY", "mode": 0}'


@pytest.mark.parametrize(
    ("parts", "kind", "expected"),
    [
        ({"device": "cpu"}, "none", CPU.format("", "", "")),
        ({"device": "cpu", "cache": {"compile": False}}, "none", CPU.format("", EAGER, "")),
        ({"device": "cuda"}, "none", CUDA.format("", "", "")),
        (
            {"device": "cuda", "cache": {"compile": False}},
            "none",
            CUDA.format("", "--compilation-config GRAPHS ", ""),
        ),
        (
            {"device": "cpu", "quantization": {"method": "fp8"}},
            "none",
            CPU.format("--quantization fp8_per_channel ", "", "").replace("float32", "bfloat16"),
        ),
        (
            {"device": "cuda", "quantization": {"method": "fp8"}},
            "none",
            CUDA.format("--quantization fp8_per_channel ", "", ""),
        ),
        ({"device": "cuda", "quantization": {"method": "fp8"}}, "fp8", CUDA.format("", "", "")),
        ({"device": "cuda", "quantization": {"method": "int8"}}, "int8", CUDA.format("", "", "")),
        ({"device": "cuda", "quantization": {"method": "int4"}}, "int4", CUDA.format("", "", "")),
        ({"device": "cuda", "quantization": {"method": "awq"}}, "awq", CUDA.format("", "", "")),
        ({"device": "cuda", "quantization": {"method": "gptq"}}, "gptq", CUDA.format("", "", "")),
        ({"device": "cuda", "quantization": {"method": "nvfp4"}}, "nvfp4", CUDA.format("", "", "")),
        ({"device": "cuda", "quantization": {"method": "mxfp4"}}, "mxfp4", CUDA.format("", "", "")),
        ({"device": "cuda", "quantization": {"method": "none"}}, "none", CUDA.format("", "", "")),
        (
            {"device": "cuda", "quantization": {"kvCache": "fp8"}},
            "none",
            CUDA.format("--kv-cache-dtype fp8 ", "", ""),
        ),
        (
            {"device": "cpu", "cache": {"kvBytes": 1024}},
            "none",
            CPU.format("--kv-cache-memory-bytes 1024 ", "", ""),
        ),
        (
            {"device": "cuda", "cache": {"gpuMemoryUtilization": 0.45}},
            "none",
            CUDA.format("--gpu-memory-utilization 0.45 ", "", ""),
        ),
        (
            {"device": "cuda", "load": "streamed"},
            "none",
            CUDA.format("", "", "").replace(
                "--kv-cache-metrics", "--load-format runai_streamer --kv-cache-metrics"
            ),
        ),
        (
            {"device": "cpu", "speculation": {"method": "ngram", "tokens": 3}},
            "none",
            CPU.format(
                "",
                "",
                '--speculative-config {"method": "ngram", "num_speculative_tokens": 3, '
                '"prompt_lookup_max": 4, "prompt_lookup_min": 2} ',
            ),
        ),
        (
            {"device": "cpu", "output": {"regex": "a+"}},
            "none",
            CPU.format(
                "",
                "",
                '--structured-outputs-config {"backend": "xgrammar", "disable_any_whitespace": true} ',
            ),
        ),
        ({"device": "cpu", "output": {"stop": ["a"]}}, "none", CPU.format("", "", "")),
        (
            {"device": "cuda", "speculation": {"method": "mtp", "tokens": 2}},
            "none",
            CUDA.format(
                "", "", '--speculative-config {"method": "mtp", "num_speculative_tokens": 2} '
            ),
        ),
        (
            {"device": "cuda", "speculation": {"method": "suffix", "tokens": 8}},
            "none",
            CUDA.format(
                "", "", '--speculative-config {"method": "suffix", "num_speculative_tokens": 8} '
            ),
        ),
        (
            {"device": "cuda", "attention": {"backend": "FLASHINFER"}},
            "none",
            CUDA.format("", "", "--attention-backend FLASHINFER "),
        ),
        (
            {"device": "cuda", "tensorParallel": 2, "pipelineParallel": 3, "dataParallel": 4},
            "none",
            CUDA.format(
                "",
                "--tensor-parallel-size 2 --pipeline-parallel-size 3 --data-parallel-size 4 ",
                "",
            ).replace("backend uni", "backend mp"),
        ),
        (
            {"device": "cuda", "dataParallel": 4},
            "none",
            CUDA.format("", "--data-parallel-size 4 ", ""),
        ),
    ],
)
def test_the_arguments_of_each_method(parts: dict[str, Any], kind: str, expected: str) -> None:
    found = line(config(**parts), kind=kind)
    assert found.replace(BUCKETS, "BUCKETS").replace(WITHOUT_COMPILER, "GRAPHS") == expected


@pytest.mark.parametrize(
    ("speculation", "expected"),
    [
        ({"draft": "file:///d"}, '"method": "draft_model", "model": "/d"'),
        ({"draft": "file:///d", "method": "eagle3"}, '"method": "eagle3", "model": "/d"'),
    ],
)
def test_a_draft_and_a_head_are_models_of_their_own(
    speculation: dict[str, Any], expected: str
) -> None:
    wanted = config(speculation={**speculation, "tokens": 3}, tensorParallel=2)
    assert (
        '--speculative-config {"draft_tensor_parallel_size": 2, '
        f'{expected}, "num_speculative_tokens": 3}}'
    ) in line(wanted, draft=DRAFT)


@pytest.mark.parametrize("rank", [0, 1])
def test_a_pod_of_a_group_knows_its_rank_and_its_leader(rank: int) -> None:
    words = arguments.build(
        config(tensorParallel=2, nodes=2),
        target=TARGET,
        draft=None,
        cpu_flags=AVX2,
        member=Member(rank, 2, "chat-0.chat-0.team"),
    )
    assert (
        f"--distributed-executor-backend mp --nnodes 2 --node-rank {rank} --master-addr chat-0.chat-0.team "
        "--master-port 29501"
    ) in " ".join(words)


def test_buckets_of_times_per_token_see_an_engine_that_is_faster_than_ten_milliseconds() -> None:
    buckets = contract.LATENCY_BUCKETS[contract.TPOT]
    assert list(buckets) == sorted(set(buckets))
    assert sum(bound < 0.01 for bound in buckets) >= 5
    assert json.loads(BUCKETS) == {"inter_token_latency": list(buckets)}


def test_an_engine_with_room_for_adapters_names_none_of_them() -> None:
    words = arguments.build(
        config(adapters={"slots": 4}), target=TARGET, draft=None, cpu_flags=AVX2, adapter_rank=32
    )
    assert "--enable-lora --max-loras 4 --max-lora-rank 32" in " ".join(words)
    assert "lora" not in line(config())


@pytest.mark.parametrize(
    ("window", "expected"),
    [
        ("config", '--hf-overrides {"sliding_window": 64}'),
        ("text_config", '--hf-overrides {"text_config": {"sliding_window": 64}}'),
    ],
)
def test_a_window_is_set_where_the_checkpoint_has_it(window: Any, expected: str) -> None:
    target = arguments.Weights(Path("/m"), Checkpoint("none", "bf16", window))
    words = arguments.build(
        config(attention={"slidingWindow": 64}), target=target, draft=None, cpu_flags=AVX2
    )
    assert expected in " ".join(words)


def test_everything_at_once() -> None:
    wanted = config(
        model={"uri": "file:///m", "name": "n", "maxLength": 512, "trustRemoteCode": True},
        device="cuda",
        dtype="bfloat16",
        tensorParallel=2,
        cache={"prefix": False, "compile": False, "kvBytes": 7},
        batching={
            "maxSequences": 8,
            "maxBatchedTokens": 256,
            "chunkedPrefill": False,
            "policy": "priority",
        },
        speculation={"draft": "file:///d", "tokens": 4},
    )
    assert line(wanted, draft=DRAFT) == (
        "--model /m --served-model-name n --max-model-len 512 --trust-remote-code --dtype bfloat16 "
        f"--kv-cache-memory-bytes 7 --no-enable-prefix-caching --kv-cache-metrics --custom-histogram-buckets {BUCKETS} "
        f"--compilation-config {WITHOUT_COMPILER} --tensor-parallel-size 2 "
        "--distributed-executor-backend mp --max-num-seqs 8 --max-num-batched-tokens 256 "
        "--no-enable-chunked-prefill --scheduling-policy priority "
        '--speculative-config {"draft_tensor_parallel_size": 2, "method": "draft_model", "model": "/d", '
        '"num_speculative_tokens": 4} '
        "--shutdown-timeout 3 --allowed-media-domains media.invalid --disable-fastapi-docs --no-use-tqdm-on-load"
    )


def test_the_users_own_arguments_come_last_and_replace_what_they_set() -> None:
    wanted = config(
        batching={"policy": "priority"},
        engineArgs={
            "max-num-seqs": 4,
            "async-scheduling": True,
            "enable-chunked-prefill": False,
            "gpu-memory-utilization": 0.8,
            "lora-target-modules": ["q_proj", "v_proj"],
            "reasoning-parser": "-x y",
        },
    )
    assert line(wanted) == (
        "--model /m --served-model-name n --kv-cache-metrics "
        f"--custom-histogram-buckets {BUCKETS} --distributed-executor-backend uni "
        "--scheduling-policy priority --shutdown-timeout 3 "
        "--allowed-media-domains media.invalid --disable-fastapi-docs --no-use-tqdm-on-load "
        "--async-scheduling --no-enable-chunked-prefill "
        "--gpu-memory-utilization=0.8 --lora-target-modules q_proj v_proj --max-num-seqs=4 "
        "--reasoning-parser=-x y"
    )


def test_an_older_vllm_gets_no_argument_that_it_does_not_know_and_can_do_without() -> None:
    words = ["--model", "/m", "--custom-histogram-buckets", "{}", "--kv-cache-metrics"]
    assert arguments.supported(words, {"--model"}) == ["--model", "/m", "--kv-cache-metrics"]
    assert arguments.supported(words, words) == words
