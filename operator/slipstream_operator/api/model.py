"""The model of a service: its source, its credentials and its adapters."""

from typing import Annotated, Literal

import pydantic
from pydantic import Field

from slipstream_operator.api.base import ApiModel, rule, rules
from slipstream_operator.api.engine import Adapters
from slipstream_operator.api.sources import ServedUri


class SecretKey(ApiModel):
    """Key of a Secret in the same namespace."""

    name: Annotated[str, Field(min_length=1, max_length=253, description="Name of the Secret.")]
    key: Annotated[str, Field(min_length=1, max_length=253, description="Key in the Secret.")]


class ConfigMapKey(ApiModel):
    """Key of a ConfigMap in the same namespace."""

    name: Annotated[str, Field(min_length=1, max_length=253, description="Name of the ConfigMap.")]
    key: Annotated[str, Field(min_length=1, max_length=253, description="Key in the ConfigMap.")]


class StoreCredentials(ApiModel):
    """Secret in the same namespace.

    Its keys are AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, AWS_REGION and AWS_ENDPOINT_URL for
    s3://, and GOOGLE_APPLICATION_CREDENTIALS, a service account's key file, for gs://.
    """

    name: Annotated[str, Field(min_length=1, max_length=253, description="Name of the Secret.")]


class ModelSpec(ApiModel):
    """Model to serve."""

    model_config = pydantic.ConfigDict(
        json_schema_extra=rules(
            rule(
                "!has(self.maxAdapterRank) || has(self.adapters)",
                message="maxAdapterRank needs adapters. List the adapters, or set adapters: [] if there are none "
                "yet.",
                field_path=".maxAdapterRank",
            ),
            rule(
                "!has(self.chatTemplateFrom) || !has(self.chatTemplate)",
                message="chatTemplateFrom can't work because chatTemplate sets the template, too. Leave out one of "
                "them.",
                field_path=".chatTemplateFrom",
            ),
        )
    )
    uri: ServedUri = Field(
        description="Source of the model: hf://org/name[@revision], pvc://claim/path, s3://bucket/prefix, "
        "gs://bucket/prefix, oci://registry/image:tag (an image with the model's files at its root or "
        "in /models, mounted as an image volume), file:///path (a path in the engine's image), or build://name (the "
        "artifact of a ModelBuild of the same namespace; engines wait until it is Ready, and are replaced when "
        "another build becomes Ready under that name). The ServingProfile decides which sources are allowed."
    )
    name: Annotated[str, Field(min_length=1, max_length=253)] | None = Field(
        default=None, description="Model name that clients request. Default: metadata.name."
    )
    token_secret: SecretKey | None = Field(
        default=None,
        description="Access token for gated sources. Pods get it as an environment variable.",
    )
    credentials: StoreCredentials | None = Field(
        default=None,
        description="Secret with the credentials of s3:// and gs:// sources, mounted as files. Default: the "
        "identity of the pod, such as that of template.serviceAccountName.",
    )
    load: Literal["Auto", "Streamed"] | None = Field(
        default=None,
        description="Loader of the weights. Streamed uses the Run:ai model streamer, which reads several parts of "
        "a file at once, if the image has it. Default: Auto, vLLM's own loader.",
    )
    max_length: Annotated[int, Field(ge=16, le=10_000_000)] | None = Field(
        default=None, description="Context length in tokens. Default: from the model."
    )
    tool_parser: Annotated[str, Field(min_length=1, max_length=64)] | None = Field(
        default=None,
        description="Parser of the model's tool calls: auto (by the model's architecture and chat template), none, "
        "or the name of a tool call parser of vLLM, such as hermes. Only with runtime: vllm. Default: auto.",
    )
    reasoning_parser: Annotated[str, Field(min_length=1, max_length=64)] | None = Field(
        default=None,
        description="Parser of the model's reasoning, which chats then return apart from the answer: auto (by the "
        "model's architecture and chat template), none, or the name of a reasoning parser of vLLM, such as qwen3. "
        "Only with runtime: vllm. Default: auto, which is none with a structure in output.",
    )
    chat_template: Annotated[str, Field(min_length=1, max_length=32_768)] | None = Field(
        default=None,
        description="Chat template: the text of a Jinja template, or the name of a file of the model. Only with "
        "runtime: vllm. Default: the model's own template.",
    )
    chat_template_from: ConfigMapKey | None = Field(
        default=None,
        description="ConfigMap with the text of the chat template. Engines read it when they start, so a changed "
        "template needs a ConfigMap with a new name to reach running engines. Only with runtime: vllm.",
    )
    adapters: Adapters | None = Field(
        default=None,
        description="LoRA adapters. Running engines load a changed list within about two minutes, without a "
        "restart. Setting the field for the first time, even to an empty list, restarts the engines. So does a "
        "number of adapters that passes 4, 8, 16 and so on.",
    )
    max_adapter_rank: Literal[8, 16, 32, 64, 128, 256, 320, 512] | None = Field(
        default=None,
        description="Maximum rank of adapters that can be added without a restart. Default: the highest rank of "
        "the adapters at the start of an engine, at least 16.",
    )
    trust_remote_code: bool = Field(
        default=False,
        description="Whether to run code from the model's repository. The ServingProfile must allow it. Default: "
        "false.",
    )
