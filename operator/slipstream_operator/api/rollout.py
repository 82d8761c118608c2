"""Strategy of rollouts, and the comparison of revisions."""

import itertools
import re
from typing import Annotated, Final, Literal

import pydantic
from pydantic import Field

from slipstream_operator.api.base import (
    ApiModel,
    Duration,
    Percentage,
    bounded,
    rule,
    rules,
)

_STEP: Final = "^([1-9]|[1-4][0-9]|50)%$"


def _step(text: str) -> str:
    if re.fullmatch(_STEP, text) is None:
        raise ValueError(
            f'"{text}" is not a step. Use a whole percentage from 1% to 50%; after the last step all requests move.'
        )
    return text


def _ascending(steps: list[str]) -> list[str]:
    shares = [int(step.removesuffix("%")) for step in steps]
    if any(after <= before for before, after in itertools.pairwise(shares)):
        raise ValueError("the steps must increase. Use percentages such as [5%, 25%, 50%].")
    return steps


Step = Annotated[
    str,
    pydantic.AfterValidator(_step),
    Field(
        max_length=8,
        json_schema_extra=rules(
            rule(
                f"self.matches('{_STEP}')",
                message_expression=(
                    "'\"' + self + '\" is not a step. Use a whole percentage from 1% to 50%; after the last step all "
                    "requests move.'"
                ),
            )
        ),
    ),
]

Steps = Annotated[
    list[Step],
    pydantic.AfterValidator(_ascending),
    Field(
        min_length=1,
        max_length=10,
        json_schema_extra=rules(
            rule(
                f"!self.all(step, step.matches('{_STEP}')) || "
                "(self.map(step, int(step.replace('%', ''))).isSorted() && "
                "self.all(step, self.exists_one(other, other == step)))",
                message="the steps must increase. Use percentages such as [5%, 25%, 50%].",
            )
        ),
    ),
]


class AnalysisSpec(ApiModel):
    """Comparison of the canary with the stable revision, at the same time and on the same traffic."""

    model_config = pydantic.ConfigDict(
        json_schema_extra=rules(
            rule(
                "!has(self.slo) || self.slo || !has(self.errors) || self.errors",
                message="slo: false and errors: false can't work together because nothing would be compared. Leave "
                "out one of them, or leave out rollout.steps to move all requests at once.",
            ),
            bounded("maxDuration", "1s", "168h"),
        )
    )
    slo: bool | None = Field(
        default=None,
        description="Whether latencies are compared: TTFT, TPOT and E2E. Default: true.",
    )
    errors: bool | None = Field(
        default=None,
        description="Whether the shares of failed and canceled requests, the length of answers and their finish "
        "reasons are compared. Default: true.",
    )
    min_requests: Annotated[int, Field(ge=30, le=1_000_000)] | None = Field(
        default=None,
        description="Minimum requests of each revision in a step before the next step. Default: 100.",
    )
    max_duration: Duration | None = Field(
        default=None,
        description="Time after which a step that has no verdict is reported as held. It never promotes. Default: 1h.",
    )


class RolloutSpec(ApiModel):
    """Strategy for the replacement of engines."""

    model_config = pydantic.ConfigDict(
        json_schema_extra=rules(
            *[
                rule(
                    f"!has(self.{field}) || has(self.steps)",
                    message=f"{field} needs steps, in which revisions are compared. Set steps, such as [5%, 25%, "
                    f"50%], or leave out {field}.",
                    field_path=f".{field}",
                )
                for field in ("pause", "tolerance", "surge", "analysis")
            ],
            rule(
                "!has(self.steps) || !has(self.strategy) || self.strategy != 'Recreate'",
                message="steps can't work with strategy: Recreate, which stops the old engines first. Use strategy: "
                "Canary, or leave out steps.",
                field_path=".steps",
            ),
            bounded("pause", "1s", "24h"),
        )
    )
    strategy: Literal["Canary", "Recreate"] = Field(
        default="Canary",
        description="Canary (default) starts the new engines beside the old ones. It moves the requests in steps, or "
        "all at once without steps. Recreate stops the old engines first, for clusters without spare accelerators.",
    )
    steps: Steps | None = Field(
        default=None,
        description="Shares of the requests that the new revision gets, one step after the other, while it is compared "
        "with the old one. The next step follows if it is not worse; a worse revision is rolled back at once. After "
        "the last step all requests move. Needs routing.mode: Router. Default: all requests move when the new engines "
        "are ready, without a comparison.",
    )
    pause: Duration | None = Field(default=None, description="Minimum time of a step. Default: 5m.")
    tolerance: Percentage | None = Field(
        default=None,
        description="Relative loss of latency that is accepted. Shares of failed requests have a fixed tolerance. "
        "Default: 10%.",
    )
    surge: Annotated[int, Field(ge=0, le=1000)] | None = Field(
        default=None,
        description="Maximum additional replicas during a rollout. With 0, one old replica stops for each new one. "
        "Default: as many as a step needs, so that all old replicas stay and a rollback is immediate.",
    )
    analysis: AnalysisSpec | None = Field(
        default=None, description="Comparison that decides about each step."
    )
