"""Routes of vLLM's server that no client may use, each with the reason. A test compares them with the pinned vLLM."""

from collections.abc import Mapping
from typing import Final

_ADMINISTRATION: Final = "It changes the engine under all of its clients."
_WEIGHTS: Final = "It changes or moves the weights, which the revision of the service decides."
_INTERNAL: Final = "It shows the inside of the engine. Metrics are on the management port."
_DOCUMENTATION: Final = "It describes routes that are not served."
_SCALE_OUT: Final = (
    "It is a step of vLLM's own split of a request over servers, which no limit counts."
)
_SUPERVISOR: Final = "It belongs to a process of vLLM that engines don't run."
_SAGEMAKER: Final = "It is a second way to a route that is served."
_RENDER: Final = "It returns the tokens of a request. Use /tokenize."

NOT_SERVED: Final[Mapping[str, str]] = {
    "/v1/chat/completions/batch": (
        "It runs many chats as one request, which no limit and no budget counts. Send each chat to "
        "/v1/chat/completions."
    ),
    "/generative_scoring": (
        "It runs many prompts as one request, which no limit and no budget counts. Use /v1/completions with "
        "`max_tokens: 1` and `logprobs`."
    ),
    "/v1/systemone": (
        "It chooses its own structure of answers. Use /v1/chat/completions with `response_format`."
    ),
    "/v1/realtime": "It needs a WebSocket. Use /v1/audio/transcriptions.",
    "/cohere/v2/chat": "It needs a library that the images lack. Use /v1/chat/completions.",
    "/cohere/v2/chat/render": _RENDER,
    "/v1/chat/completions/render": _RENDER,
    "/v1/completions/render": _RENDER,
    "/v1/messages/render": _RENDER,
    "/v1/responses/render": _RENDER,
    "/v1/chat/completions/derender": _SCALE_OUT,
    "/v1/completions/derender": _SCALE_OUT,
    "/inference/v1/generate": _SCALE_OUT,
    "/inference/v1/abort_requests": _SCALE_OUT,
    "/abort_requests": "It ends requests of other clients. Close the connection to end a request.",
    "/tokenizer_info": "It shows the configuration of the tokenizer. Use /tokenize.",
    "/v1/load_lora_adapter": "It loads files of the pod. List adapters in spec.model.adapters.",
    "/v1/unload_lora_adapter": "It ends answers of other clients. List adapters in spec.model.adapters.",
    "/adapters": "It loads files of the pod. List adapters in spec.model.adapters.",
    "/adapters/{adapter_name}": (
        "It ends answers of other clients. List adapters in spec.model.adapters."
    ),
    "/invocations": _SAGEMAKER,
    "/ping": _SAGEMAKER,
    "/metrics": _INTERNAL,
    "/load": _INTERNAL,
    "/kv_event_sources": _INTERNAL,
    "/server_info": _INTERNAL,
    "/get_world_size": _INTERNAL,
    "/is_paused": _INTERNAL,
    "/is_sleeping": _INTERNAL,
    "/is_scaling_elastic_ep": _INTERNAL,
    "/weight_info": _INTERNAL,
    "/weight_checker": _INTERNAL,
    "/fault_tolerance/status": _INTERNAL,
    "/fault_tolerance/apply": _ADMINISTRATION,
    "/collective_rpc": _ADMINISTRATION,
    "/pause": _ADMINISTRATION,
    "/resume": _ADMINISTRATION,
    "/sleep": _ADMINISTRATION,
    "/wake_up": _ADMINISTRATION,
    "/reset_encoder_cache": _ADMINISTRATION,
    "/reset_mm_cache": _ADMINISTRATION,
    "/reset_prefix_cache": _ADMINISTRATION,
    "/release_kv_cache_memory": _ADMINISTRATION,
    "/scale_elastic_ep": _ADMINISTRATION,
    "/start_profile": _ADMINISTRATION,
    "/stop_profile": _ADMINISTRATION,
    "/init_weight_transfer_engine": _WEIGHTS,
    "/shutdown_weight_transfer_engine": _WEIGHTS,
    "/start_draft_weight_update": _WEIGHTS,
    "/start_weight_update": _WEIGHTS,
    "/finish_weight_update": _WEIGHTS,
    "/update_weights": _WEIGHTS,
    "/update_weight_version": _WEIGHTS,
    "/docs": _DOCUMENTATION,
    "/docs/oauth2-redirect": _DOCUMENTATION,
    "/redoc": _DOCUMENTATION,
    "/openapi.json": _DOCUMENTATION,
    "/static": _DOCUMENTATION,
    "/ready": _SUPERVISOR,
    "/readyz": _SUPERVISOR,
}
"""Path of vLLM -> reason to refuse it with 404."""
