"""Contract between the operator and the pods that it makes: ports, paths, environment and metric names.

Standard library only: this is the one module of the data plane that the control plane may import.
"""

import hashlib
from collections.abc import Sequence
from typing import Final

API_PORT: Final = 8000
"""Port of the OpenAI-compatible API, for clients."""
TLS_PORT: Final = 8443
"""Port of the same API with TLS, of routers."""
MANAGEMENT_PORT: Final = 8001
"""Port of probes, metrics and status, for the kubelet, Prometheus and the operator."""

LIVE_PATH: Final = "/livez"
READY_PATH: Final = "/readyz"
STATUS_PATH: Final = "/status"
RECORDS_PATH: Final = "/records"
"""Newest requests of a router or an engine, as JSON lines: times and lengths, no contents."""
METRICS_PATH: Final = "/metrics"

CONFIG_FILE: Final = "engine.json"
CONFIG_DIRECTORY: Final = "/etc/slipstream"
ADAPTERS_FILE: Final = "adapters.json"
ADAPTERS_DIRECTORY: Final = "/etc/slipstream-adapters"
"""List of LoRA adapters, name -> uri, in its own volume, because it changes while the engine runs."""
CLAIMS_DIRECTORY: Final = "/mnt/models"
"""`pvc://claim/path` is mounted read-only at `CLAIMS_DIRECTORY/claim` and read from `.../path` below it."""
IMAGES_DIRECTORY: Final = "/mnt/images"
"""An image of `oci://` is mounted read-only at `image_directory(uri)`."""
CREDENTIALS_DIRECTORY: Final = "/etc/slipstream-credentials"
"""Credentials of object stores: the Secret of spec.model.credentials, one file a key."""
FETCHED_ENV: Final = "SLIPSTREAM_FETCHED"
"""Variable that is set if a Job downloads into the cache before an engine starts. The engine then uses a complete
download without asking its source."""
CACHE_DIRECTORY: Final = "/var/cache/slipstream"
"""Downloaded models and compiled kernels: the only large writable folder of an engine pod, on a claim or ephemeral."""
OFFLOAD_DIRECTORY: Final = "/var/cache/slipstream-offload"
"""KV cache blocks on the node's disk, in a volume of limited size."""
SCRATCH_DIRECTORY: Final = "/tmp"  # noqa: S108 (an emptyDir of the pod's own)
ADAPTER_REVISION: Final = "#"
"""Separates the uri of an adapter in the list from its revision; no uri has it."""
CHAT_TEMPLATE_DIRECTORY: Final = "/etc/slipstream-chat-template"
"""Folder with the key of spec.model.chatTemplateFrom."""
CHAT_TEMPLATE_FILE: Final = f"{CHAT_TEMPLATE_DIRECTORY}/template.jinja"
CERTIFICATE_DIRECTORY: Final = "/etc/slipstream-certificate"
"""TLS certificate of the API's port, from a Secret of type kubernetes.io/tls."""
AUTHORITIES_DIRECTORY: Final = "/etc/slipstream-authorities"
"""Authority of the engines' certificates for the router."""
AUTHORITIES: Final = "ca.crt"
"""Entry of a Secret of type kubernetes.io/tls with that authority."""
API_KEYS_DIRECTORY: Final = "/etc/slipstream-keys"
"""API keys: the Secret of spec.routing.apiKeys, one file an entry; read again after a change."""
KEYS_ANNOTATION: Final = "slipstream.dev/keys"
"""Annotation of the Lease ROUTER_NAME, in which routers report problems with API keys to the operator as JSON."""
KEYS_REFUSED: Final = "refused"
KEYS_MISSING: Final = "missing"
KEYS_UNREADABLE: Final = "unreadable"
"""Keys of such a report: names of entries that are no keys, a Secret without entries, one that can't be read."""
ROUTE_KEYS: Final = "route/"
"""Beginning of the names of InferenceRoutes in such a report, which tells them from services."""
LISTED_KEYS: Final = 4
"""Entries of one service that a report names; it counts the others."""
NO_KEY_PROBLEMS: Final = "{}"
TERMINATION_LOG: Final = "/dev/termination-log"
"""File for the reason of a failed engine, in one line, which the operator shows."""

SHARED_MEMORY_DIRECTORY: Final = "/dev/shm"  # noqa: S108 (an emptyDir of the pod's own)
SHARED_MEMORY_ENV: Final = "SLIPSTREAM_SHARED_MEMORY"
"""Folder of shared memory of this pod, which an engine clears at its start of the files of dead processes."""

SECRET_VARIABLES_ENV: Final = "SLIPSTREAM_SECRET_VARIABLES"  # noqa: S105 (a name)
"""Variable with the names of the variables that hold entries of Secrets, separated by commas."""
MODEL_TOKEN_ENV: Final = "HF_TOKEN"  # noqa: S105 (a name, not a token)

LEADER_ADDRESS_ENV: Final = "LWS_LEADER_ADDRESS"
WORKER_INDEX_ENV: Final = "LWS_WORKER_INDEX"
GROUP_SIZE_ENV: Final = "LWS_GROUP_SIZE"
"""Variables of LeaderWorkerSet v0.7 in each pod of a group: the leader's host name, the pod's rank, the number of
pods."""
GROUP_PORT: Final = 29501
"""Port of the leader's rendezvous of torch.distributed, vLLM's default. All other ports between the pods of a group are
ephemeral."""


def engines_host(namespace: str) -> str:
    """Return the DNS name in the certificates of a namespace's engines."""
    return f"slipstream-engines.{namespace}.svc"


def image_directory(uri: str) -> str:
    """Return the folder at which the image of `oci://` is mounted, the same for operator and engine."""
    return f"{IMAGES_DIRECTORY}/{hashlib.sha256(uri.encode()).hexdigest()[:12]}"


LINGER_SECONDS: Final = 4
"""Seconds after SIGTERM in which proxies and pooled connections notice the shutdown. New requests are still served, and
their connections closed."""
DRAIN_SECONDS: Final = 60
"""Seconds after that in which running requests may finish, unless the service sets another time."""
LONGEST_DRAIN_SECONDS: Final = 3600
"""Longest drain in seconds that a service can set; a router, which drains for all its services, gets the same."""
EXIT_SECONDS: Final = 10
"""Seconds after the drain in which the engine must exit before SIGKILL."""

ENGINE_MODULE: Final = "slipstream_runtime.engine"
ONNX_MODULE: Final = "slipstream_runtime.onnx"
SIMULATOR_MODULE: Final = "slipstream_runtime.simulator"
FETCH_MODULE: Final = "slipstream_runtime.fetch"
"""Module that downloads models into a cache, or reads their size and configuration, without an accelerator."""
BUILD_MODULE: Final = "slipstream_runtime.build"
"""Module that runs one stage of a build."""
BUILD_FILE: Final = "build.json"
"""Recipe of a build, below `CONFIG_DIRECTORY`."""
BUILD_DIRECTORY: Final = "/var/cache/slipstream-build"
"""Working folder of a build: finished steps, and checkpoints of the running one."""
BUILD_FOLDER: Final = ".slipstream-build-"
"""Beginning of the name of a build's own folder in a claim; the uid of its ModelBuild follows."""
REGISTRY_DIRECTORY: Final = "/etc/slipstream-registry"
"""Folder of the docker configuration with the right to push."""
DATASETS_DIRECTORY: Final = "/etc/slipstream-datasets"
"""Datasets from ConfigMaps, each mounted at a numbered folder below."""
BUILD_MANIFEST: Final = "slipstream-build.json"
"""File of an artifact with its lineage and the sha256 of each file. It is written last."""
SOURCE_STAGE: Final = "source"
PUBLISH_STAGE: Final = "publish"
EXPORT: Final = "export"
"""Kind of a step whose result is no checkpoint, but a graph for another runtime."""


_REPORT_BYTES: Final = 4000
"""Longest report of a stage in bytes; the kubelet keeps 4 KiB of a container's termination message."""
_POD_BYTES: Final = 12 * 1024
"""Bytes that the kubelet keeps of all containers of a pod, in equal parts."""
_INJECTED: Final = 2
"""Containers that webhooks of a cluster may add to the pod of a build."""


def report_bytes(stages: int) -> int:
    """Return the longest report of one stage of a build, so that the kubelet does not cut it."""
    return min(_REPORT_BYTES, _POD_BYTES // (stages + _INJECTED))


def step_stage(index: int, kind: str) -> str:
    """Return the name of the stage that runs a step, counted from 0, such as `0-quantize`."""
    return f"{index}-{kind}"


def quality_stage(index: int) -> str:
    """Return the name of the stage that evaluates the checkpoint of a step."""
    return f"{index}-quality"


def build_stages(kinds: Sequence[str], *, evaluated: bool) -> tuple[str, ...]:
    """Return the stages of a build in their order. An export is checked by its own step, so it has no evaluation."""
    names = [SOURCE_STAGE]
    for index, kind in enumerate(kinds):
        names.append(step_stage(index, kind))
        if evaluated and kind != EXPORT:
            names.append(quality_stage(index))
    return (*names, PUBLISH_STAGE)


ITEM_FIELDS: Final = (
    "id", "prompt", "messages", "text", "reference", "choices", "schema", "slice",
)  # fmt: skip
"""Fields of an item of a dataset, which `fields` may name otherwise."""
SERVICE_LABEL: Final = "service"
REVISION_LABEL: Final = "revision"
"""Target labels that scrape configurations set from the pod labels `slipstream.dev/service` and `.../revision`."""

TTFT: Final = "vllm:time_to_first_token_seconds"
TPOT: Final = "vllm:request_time_per_output_token_seconds"
ITL: Final = "vllm:inter_token_latency_seconds"
E2E: Final = "vllm:e2e_request_latency_seconds"
RUNNING: Final = "vllm:num_requests_running"
WAITING: Final = "vllm:num_requests_waiting"
KV_USAGE: Final = "vllm:kv_cache_usage_perc"
GENERATION_TOKENS: Final = "vllm:generation_tokens_total"
PROMPT_TOKENS: Final = "vllm:prompt_tokens_total"
COMPUTED_PROMPT_TOKENS: Final = "vllm:prompt_tokens_by_source_total"
"""Counter by `source`; `local_compute` are tokens that the engine computed, not taken from a cache."""
ITERATION_TOKENS: Final = "vllm:iteration_tokens_total"
"""Histogram whose count is the number of engine steps."""
PROMPT_LENGTH: Final = "vllm:request_prompt_tokens"
OUTPUT_LENGTH: Final = "vllm:request_generation_tokens"
PREEMPTIONS: Final = "vllm:num_preemptions_total"
REJECTIONS: Final = "vllm:admission_rejections_total"
REQUEST_SUCCESS: Final = "vllm:request_success_total"
CACHE_INFO: Final = "vllm:cache_config_info"
DRAFT_TOKENS: Final = "vllm:spec_decode_num_draft_tokens_total"
ACCEPTED_TOKENS: Final = "vllm:spec_decode_num_accepted_tokens_total"
"""Metric names of vLLM 0.32; simulated engines export the same, with vLLM's buckets."""

LATENCY_BUCKETS: Final[dict[str, tuple[float, ...]]] = {
    TTFT: (
        0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
        20.0, 40.0, 80.0, 160.0, 640.0, 2560.0,
    ),
    TPOT: (
        0.002, 0.003, 0.004, 0.005, 0.006, 0.008, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3,
        0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0,
    ),
    E2E: (
        0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0,
        240.0, 480.0, 960.0, 1920.0, 7680.0,
    ),
}  # fmt: skip
"""Upper bounds in seconds, without +Inf, as engines export them: vLLM 0.32's, with more for times per output token.

The additional ones lie below vLLM's first (10 ms), so that sums over engines with and without them never decrease.
"""

PHASE_DURATION: Final = "slipstream_engine_phase_duration_seconds"
IN_FLIGHT: Final = "slipstream_engine_in_flight_requests"
DRAINING: Final = "slipstream_engine_draining"
REFUSED: Final = "slipstream_engine_refused_requests_total"
QUEUED: Final = "slipstream_engine_queued_requests"
KV_CAPACITY: Final = "slipstream_engine_kv_capacity_tokens"
SEQUENCES: Final = "slipstream_engine_max_sequences"
ADAPTER_LOADED: Final = "slipstream_engine_adapter_loaded"
ADAPTER_LABEL: Final = "adapter"
ENGINE_TIME: Final = "slipstream_engine_time_seconds_total"
"""Time of requests in the engine's process from arrival to end, by `part` (until the first token, and after it) and
`cause`."""
STEP_TIME: Final = "slipstream_engine_step_seconds_total"
STEP_COUNT: Final = "slipstream_engine_steps_total"
STEP_SEQUENCES: Final = "slipstream_engine_step_sequences_total"
STEP_PROMPT_TOKENS: Final = "slipstream_engine_step_prompt_tokens_total"
"""Seconds, number, sequences and prompt tokens of the engine's steps, by `kind`."""
PART_LABEL: Final = "part"
FIRST: Final = "first"
REST: Final = "rest"
KIND_LABEL: Final = "kind"
DECODES: Final = "decode"
"""Kind of a step that computes no prompt token."""
PREFILLS: Final = "prefill"
"""Kind of a step that computes prompt tokens, with or without tokens of answers."""
SPECULATION_GAIN: Final = "slipstream_engine_speculation_gain_ratio"
SPECULATION_TOKENS: Final = "slipstream_engine_speculation_draft_tokens"
SPECULATION_BATCH_GAIN: Final = "slipstream_engine_speculation_batch_gain_ratio"
BATCH_LABEL: Final = "batch"
SAMPLED_STEPS: Final = "slipstream_engine_speculation_sampled_steps_total"
SAMPLED_TOKENS: Final = "slipstream_engine_speculation_sampled_tokens_total"
SAMPLED_SECONDS: Final = "slipstream_engine_speculation_sampled_seconds_total"
SAMPLED_DRAFTING: Final = "slipstream_engine_speculation_sampled_drafting_seconds_total"
PROVIDER_INFO: Final = "slipstream_engine_provider_info"
PROVIDER_FALLBACK: Final = "slipstream_engine_provider_fallback"
"""Slipstream's own metrics of engines, beside vLLM's. `host/metrics.py` exports those of every engine."""

FACT_KEYS: Final = (
    "architectures", "model_type", "dtype", "torch_dtype", "vocab_size", "tie_word_embeddings",
    "hidden_size", "num_hidden_layers", "intermediate_size", "max_position_embeddings",
    "num_attention_heads", "num_key_value_heads", "head_dim", "attention_k_eq_v",
    "num_global_key_value_heads", "global_head_dim", "num_kv_shared_layers",
    "kv_lora_rank", "q_lora_rank", "qk_rope_head_dim", "qk_nope_head_dim", "v_head_dim",
    "index_head_dim", "index_topk",
    "sliding_window", "use_sliding_window", "max_window_layers", "layer_types",
    "sliding_window_pattern", "full_attention_interval", "attention_chunk_size",
    "num_experts", "num_local_experts", "n_routed_experts", "n_shared_experts",
    "moe_intermediate_size", "shared_expert_intermediate_size", "first_k_dense_replace",
    "decoder_sparse_step", "mlp_only_layers", "num_nextn_predict_layers",
    "linear_num_key_heads", "linear_num_value_heads", "linear_key_head_dim",
    "linear_value_head_dim", "linear_conv_kernel_dim", "mamba_ssm_dtype",
    "n_embd", "n_layer", "n_head", "n_positions", "n_inner", "num_heads", "ffn_hidden_size",
    "rope_scaling", "rope_parameters",
    "n_head_kv", "num_kv_heads", "multi_query", "new_decoder_architecture", "num_attention_groups",
    "interleave_moe_layer_step", "compress_ratios", "block_configs", "hybrid_override_pattern",
    "layers_block_type", "attn_layer_period", "attn_type_list", "mamba_d_state", "state_size",
    "ssm_cfg", "conv_L_cache", "attention_window_pattern", "is_encoder_decoder",
    "linear_attn_config", "layer_group_size", "moe_num_experts", "moe_num_shared_experts", "moe_layer_start_index",
)  # fmt: skip
"""Keys of config.json that decide whether a model fits; only these are reported, if the checkpoint has them."""
FACT_PARTS: Final = ("text_config", "llm_config", "language_config")
"""Keys of config.json that hold the language model of a multimodal one; reported with `FACT_KEYS` below them."""
FACT_QUANTIZATION: Final = "quantization_config"
"""The key of config.json that describes a quantized checkpoint: reported with the keys of `FACT_QUANTIZATION_KEYS`."""
FACT_QUANTIZATION_KEYS: Final = (
    "quant_method", "quant_algo", "format", "fmt", "bits", "weight_bits", "weight_block_size",
    "kv_cache_quant_algo", "kv_cache_scheme",
)  # fmt: skip

ROUTER_MODULE: Final = "slipstream_runtime.router"
ROUTER_NAME: Final = "slipstream-router"
"""Name of a namespace's router: its Deployment, Service, ServiceAccount, Role and ConfigMap."""
ROUTER_CONFIG_KEY: Final = "router.json"
"""The key of the router's ConfigMap that holds its configuration."""
ROUTER_TOKEN_DIRECTORY: Final = "/etc/slipstream-router-token"  # noqa: S105 (a folder)
ROUTER_TOKEN_KEY: Final = "token"  # noqa: S105 (a name)
"""Engines take only requests that carry this token; the operator makes it, one for a namespace."""
ROUTER_KEYS_DIRECTORY: Final = "/etc/slipstream-keys"
"""Folders of API keys in a router that has no cluster, one folder a service."""

ROUTER_REQUESTS: Final = "slipstream_router_requests_total"
"""Arrivals, counted when a request is let in: whatever becomes of it."""
ROUTER_CANCELLED: Final = "slipstream_router_cancelled_requests_total"
"""Requests whose client left before its answer was whole, by the `phase` that it left in."""
ROUTER_QUEUED: Final = "slipstream_router_queued_requests"
"""Requests in the router's queue, which wait for a slot in a replica."""
ROUTER_IN_FLIGHT: Final = "slipstream_router_in_flight_requests"
ROUTER_TTFT: Final = "slipstream_router_time_to_first_token_seconds"
ROUTER_ITL: Final = "slipstream_router_inter_token_latency_seconds"
ROUTER_E2E: Final = "slipstream_router_request_duration_seconds"
"""The router's own metrics, as its clients see it, with the label `service`; buckets as vLLM's."""
ROUTER_TIME: Final = "slipstream_router_time_seconds_total"
"""Time of requests from arrival to end, by `service` and `cause`."""
CAUSE_LABEL: Final = "cause"
ROUTE_ANSWERS: Final = "slipstream_router_route_answers_total"
"""Answers that clients of an InferenceRoute got, by `route` and the `service` that gave them."""
ROUTE_TOKENS: Final = "slipstream_router_route_tokens_total"
"""Output tokens by `route`, `service` and `outcome`: `kept` for the client, or `discarded` for a later stage's."""
OUTCOME_LABEL: Final = "outcome"
KEPT: Final = "kept"
DISCARDED: Final = "discarded"

ROUTER_COMPARED: Final = "slipstream_router_compared_total"
"""Totals of revisions that share the requests of a service, by the names of their headless Services.

They begin when the weights change.
"""
WEIGHT_LABEL: Final = "weight"
SINCE_LABEL: Final = "since"
"""Seconds since the epoch at which the router began the totals. It tells those of a restarted router apart."""
MEASURE_LABEL: Final = "measure"
STATISTIC_LABEL: Final = "statistic"
STRATUM_LABEL: Final = "stratum"
"""Upper bound of the figure by which values are comparable. It is the requests in flight of a replica for the time per
token, the blocks of prompt to compute for the time to the first token, and the output tokens for the whole time."""
COMPARED_REQUESTS: Final = "requests"
COMPARED_ERRORS: Final = "errors"
"""Answers with a status of 500 or more, broken answers, and attempts without an answer."""
COMPARED_CANCELLED: Final = "cancelled"
COMPARED_REPLICAS: Final = "replicas"
"""Replicas that ended requests."""
COMPARED_FINISHED: Final = "finish_"
"""Prefix of the measures that count answers by the reason for which they ended."""
COMPARED_TTFT: Final = "ttft"
COMPARED_TPOT: Final = "tpot"
COMPARED_E2E: Final = "e2e"
COMPARED_OUTPUT: Final = "output"
COUNT: Final = "count"
STATISTICS: Final = (COUNT, "sum", "squares")
"""Statistics of logarithms: their number, their sum and the sum of their squares."""
NEAR: Final = ("near_pairs", "near_steps")
"""Statistics of successive answers of one replica: pairs in one stratum, and half of their squared differences."""
APART: Final = ("apart_pairs", "apart_steps")
"""The same of answers of which one was complete before the other request was sent."""
WITHIN: Final = "within"
"""Statistic that counts the values up to the bound in the label `le`."""

STORE_VARIABLE: Final = "VLLM_ENABLE_RESPONSES_API_STORE"
"""Environment variable that lets vLLM store responses, in its memory; 0 by default."""
FILE_SIZE_VARIABLE: Final = "VLLM_MAX_AUDIO_CLIP_FILESIZE_MB"
"""Environment variable with the size of a file of speech that vLLM takes, in units of 1,024 x 1,024 bytes."""


def upload_limit(size: int) -> int:
    """Return the bytes of a body with a file of the size in `FILE_SIZE_VARIABLE`, and 1 MiB of fields."""
    return (size + 1) * 1024 * 1024
