"""spec.retrieve and spec.condense of a route: hooks that change a chat before a service gets it."""

from typing import Annotated, Final

import pydantic
from pydantic import Field

from slipstream_operator.api.base import ApiModel, Duration, bounded, rule, rules
from slipstream_operator.api.model import SecretKey

SEARCH_URL: Final = (
    "^https?://[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?(:[0-9]{1,5})?"
    "(/[A-Za-z0-9_][A-Za-z0-9._~-]*)*/vector_stores/[A-Za-z0-9_][A-Za-z0-9._~-]*/search$"
)
"""URL of a search: without a user, a query or a fragment."""


class RetrieveSpec(ApiModel):
    """Search service whose passages are added to chats."""

    model_config = pydantic.ConfigDict(
        json_schema_extra=rules(
            rule(
                f"self.url.matches('{SEARCH_URL}')",
                message_expression=(
                    "'\"' + self.url + '\" is not the URL of a search. Use a URL such as "
                    "http://search.team.svc:8000/v1/vector_stores/handbook/search.'"
                ),
                field_path=".url",
            ),
            bounded("timeout", "10ms", "30s"),
        )
    )
    url: Annotated[str, Field(min_length=1, max_length=1024)] = Field(
        description="URL of a search in OpenAI's form: /v1/vector_stores/ID/search. Services of the same namespace, "
        "such as http://search.team.svc:8000, need no permission. Other servers need retrieval.allow of the "
        "ServingProfile."
    )
    top_k: Annotated[int, Field(ge=1, le=50)] | None = Field(
        default=None, description="Maximum number of passages. Default: 4."
    )
    budget_tokens: Annotated[int, Field(ge=16, le=100_000)] | None = Field(
        default=None,
        description="Maximum tokens of all passages together, estimated on the safe side: at least one for 4 bytes. "
        "Default: 1024.",
    )
    timeout: Duration | None = Field(
        default=None,
        description="Maximum time of a search, at most 30s. After it the chat goes on without passages. Default: 1s.",
    )
    api_key: SecretKey | None = Field(
        default=None,
        description="Secret with the API key of the search, which the router sends as a bearer token. Default: none.",
    )


class CondenseSpec(ApiModel):
    """Service that writes summaries of the older turns of long conversations."""

    model_config = pydantic.ConfigDict(json_schema_extra=rules(bounded("timeout", "100ms", "5m")))

    service: Annotated[str, Field(min_length=1, max_length=40)] = Field(
        description="InferenceService in the same namespace that writes the summaries, such as one with a small model."
    )
    over_tokens: Annotated[int, Field(ge=64, le=10_000_000)] | None = Field(
        default=None,
        description="Tokens of a conversation above which it is condensed, estimated as 4 bytes each. Default: 4096.",
    )
    keep_turns: Annotated[int, Field(ge=1, le=1000)] | None = Field(
        default=None,
        description="Newest turns that stay as they are. A turn is a message of the user with the messages up to the "
        "user's next one. Default: 4.",
    )
    summary_tokens: Annotated[int, Field(ge=16, le=4096)] | None = Field(
        default=None, description="Maximum tokens of a summary. Default: 256."
    )
    timeout: Duration | None = Field(
        default=None,
        description="Maximum time for the summaries of a chat, at most 5m. After it the chat goes on unchanged. "
        "Default: 10s.",
    )
