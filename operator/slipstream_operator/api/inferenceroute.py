"""InferenceRoute: one public model name over several services of the namespace."""

from typing import Annotated

import pydantic
from pydantic import Field

from slipstream_operator.api.base import Model, Percentage, list_map, rule, rules
from slipstream_operator.api.status import ConditionStatus, Text

ServiceName = Annotated[str, Field(min_length=1, max_length=40)]


class Backend(Model):
    """One service and its share."""

    service: ServiceName = Field(description="An InferenceService of the namespace.")
    weight: Annotated[int, Field(ge=0, le=1_000_000)] = Field(
        default=1, description="Share of the requests, relative to the others. Default: 1."
    )


class AcceptSpec(Model):
    """When a stage's answer is kept, and which requests it gets at all."""

    model_config = pydantic.ConfigDict(
        json_schema_extra=rules(
            rule(
                "has(self.minConfidence) || has(self.maxPromptTokens)",
                message="needs at least one of minConfidence and maxPromptTokens, such as {minConfidence: 70%}",
            )
        )
    )
    min_confidence: Percentage | None = Field(
        default=None,
        description="Answers of which the model was less sure (geometric mean of the token probabilities), or that are "
        "cut off, refusals or not the JSON that was demanded, are discarded, and the next stage is asked. Streams of "
        "such a stage begin when the answer is complete.",
    )
    max_prompt_tokens: Annotated[int, Field(ge=1, le=10_000_000)] | None = Field(
        default=None, description="Longer prompts go to the next stage at once."
    )


class Stage(Model):
    """One service of a cascade."""

    service: ServiceName = Field(description="An InferenceService of the namespace.")
    accept: AcceptSpec | None = Field(
        default=None, description="When the cascade ends here; the last stage accepts everything."
    )


class CascadeSpec(Model):
    """Small to large: each request ends at the first stage that accepts it."""

    model_config = pydantic.ConfigDict(
        json_schema_extra=rules(
            rule(
                "self.stages.all(i, s, has(s.accept) == (i < self.stages.size() - 1))",
                message="every stage but the last needs accept, such as {minConfidence: 70%}; the last takes what is "
                "left, so it has none",
                field_path=".stages",
            )
        )
    )
    stages: Annotated[list[Stage], Field(min_length=2, max_length=8)] = Field(
        description="Services, the cheapest first."
    )
    budget: Percentage | None = Field(
        default=None,
        description="Share of the requests that may be answered twice; beyond it the first answer stands. "
        "Default: 100%.",
    )


class InferenceRouteSpec(Model):
    """A weighted split, or a cascade, behind one model name."""

    model_config = pydantic.ConfigDict(
        json_schema_extra=rules(
            rule(
                "has(self.backends) != has(self.cascade)",
                message="needs exactly one of backends (a weighted split) and cascade: give one, leave out the other",
            ),
            rule(
                "!has(self.backends) || self.backends.exists(b, b.weight > 0)",
                message="backends with no weight above 0 would get no request: raise one",
                field_path=".backends",
            ),
        )
    )
    model: Annotated[str, Field(min_length=1, max_length=253)] = Field(
        description="Name that clients ask for, at http://slipstream-router.<namespace>.svc/v1."
    )
    backends: (
        Annotated[
            list[Backend],
            Field(min_length=1, max_length=16, json_schema_extra=list_map("service")),
        ]
        | None
    ) = Field(default=None, description="Services with their weights.")
    cascade: CascadeSpec | None = Field(default=None, description="Services from small to large.")


class StageStatus(Model):
    """Outcome of the requests at one service."""

    service: Text = Field(description="The InferenceService.")
    share: Text | None = Field(
        default=None, description="Share of the answers that came from it; absent without data."
    )


class InferenceRouteStatus(Model):
    """State of the route; shares are over the last hour."""

    observed_generation: int | None = Field(
        default=None, description="Generation that this status is about."
    )
    url: Text | None = Field(default=None, description="Base URL inside the cluster.")
    conditions: (
        Annotated[list[ConditionStatus], Field(max_length=8, json_schema_extra=list_map("type"))]
        | None
    ) = Field(default=None, description="Ready, Accepted, Available.")
    stages: (
        Annotated[list[StageStatus], Field(max_length=16, json_schema_extra=list_map("service"))]
        | None
    ) = Field(default=None, description="Share of the answers by service.")
    saved: Text | None = Field(
        default=None,
        description="Output tokens that the last stage did not have to make.",
    )
    discarded: Text | None = Field(
        default=None, description="Output tokens of answers that were not good enough."
    )
