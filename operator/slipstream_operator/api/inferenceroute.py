"""InferenceRoute: one public model name for several services of the namespace."""

from typing import Annotated

import pydantic
from pydantic import Field

from slipstream_operator.api.base import ApiModel, Percentage, list_map, rule, rules
from slipstream_operator.api.route_hooks import CondenseSpec, RetrieveSpec
from slipstream_operator.api.status import ConditionStatus, Text

ServiceName = Annotated[str, Field(min_length=1, max_length=40)]


class Backend(ApiModel):
    """Service and its share of the requests."""

    service: ServiceName = Field(description="InferenceService in the same namespace.")
    weight: Annotated[int, Field(ge=0, le=1_000_000)] = Field(
        default=1, description="Share of the requests, relative to the other weights. Default: 1."
    )


class AcceptSpec(ApiModel):
    """Criteria by which a stage accepts a request and its own response."""

    model_config = pydantic.ConfigDict(
        json_schema_extra=rules(
            rule(
                "has(self.minConfidence) || has(self.maxPromptTokens)",
                message="needs at least one of minConfidence and maxPromptTokens, such as {minConfidence: 70%}.",
            )
        )
    )
    min_confidence: Percentage | None = Field(
        default=None,
        description="Minimum confidence of a response: the geometric mean of the token probabilities. A response "
        "with less confidence is discarded and the next stage gets the request. The same applies to "
        "truncated responses, refusals, and responses without the requested JSON. A stream from such "
        "a stage starts when the response is complete.",
    )
    max_prompt_tokens: Annotated[int, Field(ge=1, le=10_000_000)] | None = Field(
        default=None,
        description="Maximum tokens of a prompt. Longer prompts go directly to the next stage.",
    )


class Stage(ApiModel):
    """Service of a cascade."""

    service: ServiceName = Field(description="InferenceService in the same namespace.")
    accept: AcceptSpec | None = Field(
        default=None,
        description="Criteria for the end of the cascade at this stage. The last stage accepts all "
        "requests.",
    )


class CascadeSpec(ApiModel):
    """Stages from small to large. Each request ends at the first stage that accepts it."""

    model_config = pydantic.ConfigDict(
        json_schema_extra=rules(
            rule(
                "self.stages.all(i, s, has(s.accept) == (i < self.stages.size() - 1))",
                message="each stage except the last needs accept, such as {minConfidence: 70%}. Remove accept "
                "from the last stage, which accepts all requests.",
                field_path=".stages",
            )
        )
    )
    stages: Annotated[list[Stage], Field(min_length=2, max_length=8)] = Field(
        description="Stages, the cheapest first."
    )
    budget: Percentage | None = Field(
        default=None,
        description="Maximum share of requests that go to more than one stage. Above it, the first response "
        "is returned. Default: 100%.",
    )


class InferenceRouteSpec(ApiModel):
    """Weighted split or cascade behind one model name."""

    model_config = pydantic.ConfigDict(
        json_schema_extra=rules(
            rule(
                "has(self.backends) != has(self.cascade)",
                message="needs exactly one of backends (a weighted split) and cascade. Set one and leave out the "
                "other.",
            ),
            rule(
                "!has(self.backends) || self.backends.exists(b, b.weight > 0)",
                message="at least one weight must be above 0. Raise a weight.",
                field_path=".backends",
            ),
        )
    )
    model: Annotated[str, Field(min_length=1, max_length=253)] = Field(
        description="Model name that clients request at http://slipstream-router.<namespace>.svc/v1."
    )
    backends: (
        Annotated[
            list[Backend],
            Field(min_length=1, max_length=16, json_schema_extra=list_map("service")),
        ]
        | None
    ) = Field(default=None, description="Services and their weights.")
    cascade: CascadeSpec | None = Field(default=None, description="Stages from small to large.")
    condense: CondenseSpec | None = Field(
        default=None,
        description="Service that writes summaries. In chat completions, they replace the older turns of a long "
        "conversation. If it fails, chats pass unchanged. Default: no chat is changed.",
    )
    retrieve: RetrieveSpec | None = Field(
        default=None,
        description="Search whose passages are added to chat completions as a system message, after condense. If it "
        "fails, chats pass unchanged. Default: no chat is changed.",
    )


class StageStatus(ApiModel):
    """Share of one service."""

    service: Text = Field(description="Name of the InferenceService.")
    share: Text | None = Field(
        default=None, description="Share of the responses from this service. Absent without data."
    )


class InferenceRouteStatus(ApiModel):
    """Status of the route. Shares are over the last hour."""

    observed_generation: int | None = Field(
        default=None, description="Generation of spec that this status is about."
    )
    url: Text | None = Field(
        default=None, description="Base URL of the OpenAI-compatible API, which ends with /v1."
    )
    conditions: (
        Annotated[list[ConditionStatus], Field(max_length=8, json_schema_extra=list_map("type"))]
        | None
    ) = Field(
        default=None,
        description="Conditions: Ready, Accepted, Available, and HooksReady with hooks.",
    )
    stages: (
        Annotated[list[StageStatus], Field(max_length=16, json_schema_extra=list_map("service"))]
        | None
    ) = Field(default=None, description="Share of the responses by service.")
    saved: Text | None = Field(
        default=None,
        description="Output tokens that the last stage did not generate.",
    )
    discarded: Text | None = Field(
        default=None, description="Output tokens of discarded responses."
    )
