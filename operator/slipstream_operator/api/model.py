"""The model of a service: its source, its credentials and its adapters."""

from typing import Annotated, Literal

import pydantic
from pydantic import Field

from slipstream_operator.api.base import Model, rule, rules
from slipstream_operator.api.engine import Adapters
from slipstream_operator.api.sources import ModelUri


class SecretKey(Model):
    """A key of a Secret in the same namespace."""

    name: Annotated[str, Field(min_length=1, max_length=253, description="Name of the Secret.")]
    key: Annotated[str, Field(min_length=1, max_length=253, description="Key inside it.")]


class StoreCredentials(Model):
    """A Secret in the same namespace.

    Its keys are AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, AWS_REGION and AWS_ENDPOINT_URL for
    s3://, and GOOGLE_APPLICATION_CREDENTIALS, a service account's key file, for gs://.
    """

    name: Annotated[str, Field(min_length=1, max_length=253, description="Name of the Secret.")]


class ModelSpec(Model):
    """The model to serve."""

    model_config = pydantic.ConfigDict(
        json_schema_extra=rules(
            rule(
                "!has(self.maxAdapterRank) || has(self.adapters)",
                message="maxAdapterRank needs adapters: list them, or write adapters: [] for none yet",
                field_path=".maxAdapterRank",
            )
        )
    )
    uri: ModelUri = Field(
        description="Where the weights are: hf://org/name[@revision], pvc://claim/path, s3://bucket/prefix, "
        "gs://bucket/prefix, oci://registry/image:tag (an ordinary image with the model's files at its root or in "
        "/models, mounted as an image volume), or file:///path (already in the container). The ServingProfile says "
        "which of them are allowed."
    )
    name: Annotated[str, Field(min_length=1, max_length=253)] | None = Field(
        default=None, description="Name that clients ask for. Default: metadata.name."
    )
    token_secret: SecretKey | None = Field(
        default=None,
        description="Token for gated sources; reaches the pod as an environment variable.",
    )
    credentials: StoreCredentials | None = Field(
        default=None,
        description="Secret with credentials for s3:// and gs:// sources, mounted as files. Default: the identity of "
        "the pod, such as that of template.serviceAccountName.",
    )
    load: Literal["Auto", "Streamed"] | None = Field(
        default=None,
        description="How vLLM reads the weights: Auto, or Streamed by the Run:ai model streamer, several parts of a "
        "file at once, where the image has it. Default: Auto.",
    )
    max_length: Annotated[int, Field(ge=16, le=10_000_000)] | None = Field(
        default=None, description="Context length in tokens. Default: the model's own."
    )
    adapters: Adapters | None = Field(
        default=None,
        description="LoRA adapters. A change reaches running engines within about two minutes, without a restart; "
        "the first one, or an empty list, makes them ready for adapters, with a restart.",
    )
    max_adapter_rank: Literal[8, 16, 32, 64, 128, 256, 320, 512] | None = Field(
        default=None,
        description="Highest rank of an adapter that can be added without a restart. Default: of those that are there "
        "when an engine starts, at least 16.",
    )
    trust_remote_code: bool = Field(
        default=False,
        description="Run code that the model brings. Refused unless the ServingProfile allows it.",
    )
