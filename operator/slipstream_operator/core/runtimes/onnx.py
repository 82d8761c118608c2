"""Runtime onnx. The keys of the configuration are those of slipstream_runtime.onnx.config."""

from typing import Any, Final

from slipstream_operator.api.inferenceservice import InferenceServiceSpec
from slipstream_operator.core.devices import Feature
from slipstream_operator.core.observed import Manifest
from slipstream_operator.core.runtimes import front
from slipstream_operator.core.runtimes.runtime import Inputs, Runtime
from slipstream_operator.errors import PermanentError
from slipstream_operator.names import Reason
from slipstream_runtime import contract

_CHAT: Final = frozenset({"tool_parser", "reasoning_parser", "chat_template", "chat_template_from"})
"""Fields of spec.model that only chats use."""


def _configure(inputs: Inputs) -> Manifest:
    """Return the configuration of an ONNX Runtime engine; PermanentError if it can't be run so."""
    spec, device = inputs.spec, inputs.device
    assert spec.model is not None
    if spec.engine_args:
        raise PermanentError(
            Reason.UNSUPPORTED,
            "spec.engineArgs: can't be used with runtime: onnx, because they are arguments of vLLM. Leave out one "
            "of them.",
        )
    for field in _CHAT & spec.model.model_fields_set:
        alias = type(spec.model).model_fields[field].alias
        raise PermanentError(
            Reason.UNSUPPORTED,
            f"spec.model.{alias}: can't work with runtime: onnx because it serves no chats. Leave it out.",
        )
    count = spec.accelerator.count if spec.accelerator else 1
    config: dict[str, Any] = {
        "model": {
            **front.dump(spec.model, exclude={*front.NOT_OF_THE_ENGINE, "trust_remote_code"}),
            "name": inputs.model_name,
        },
        "device": device.name,
        "lingerSeconds": contract.LINGER_SECONDS,
        "drainSeconds": inputs.drain,
    }
    if not device.dedicated:
        config["cores"] = count
    elif count > 1:
        raise PermanentError(
            Reason.UNSUPPORTED,
            f"spec.accelerator.count: {count} can't work because a replica uses one GPU with runtime: onnx. Leave "
            "it out, and raise replicas.",
        )
    if spec.cache and spec.cache.compile:
        if (reason := device.lacks.get(Feature.TENSORRT)) is not None:
            raise PermanentError(
                Reason.UNSUPPORTED,
                f"spec.cache.compile: true can't work with runtime: onnx because {reason}. Leave it out.",
            )
        if not (spec.template and spec.template.image):
            raise PermanentError(
                Reason.UNSUPPORTED,
                "spec.cache.compile: true needs TensorRT 10 with runtime: onnx, which the ONNX image does not "
                "have. Leave it out, or set spec.template.image to an image that has it.",
            )
        config["tensorrt"] = True
    if spec.batching is not None:
        config["batching"] = front.dump(spec.batching, exclude={"chunked_prefill", "policy"})
    return config | front.checks(inputs)


def _max_sequences(spec: InferenceServiceSpec) -> int | None:
    return spec.batching.max_sequences if spec.batching else None


RUNTIME: Final = Runtime(
    name="onnx",
    module=contract.ONNX_MODULE,
    images=("onnx",),
    configure=_configure,
    max_sequences=_max_sequences,
    serves_exports=True,
    generates_tokens=False,
)
