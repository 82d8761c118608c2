"""Limits of requests to a service, and the format of its responses."""

from typing import Annotated

import pydantic
from pydantic import Field

from slipstream_operator.api.base import ApiModel, Duration, rule, rules

Tokens = Annotated[int, Field(ge=1, le=10_000_000)]


class LimitsSpec(ApiModel):
    """Limits of requests. A request over a limit gets an OpenAI error: 400, 413, 429 with Retry-After, or 504."""

    max_output_tokens: Tokens | None = Field(
        default=None,
        description="Maximum output tokens of one request, over all its choices and prompts. A request for more "
        "gets 400. A request without a number gets this limit. Default: the context length.",
    )
    max_prompt_tokens: Tokens | None = Field(
        default=None,
        description="Maximum tokens of a prompt, as the model's tokenizer counts them. A longer prompt gets 413. "
        "Default: the context length.",
    )
    max_answers: Annotated[int, Field(ge=1, le=16384)] | None = Field(
        default=None,
        description="Maximum answers of one request: n for each of its prompts. A request for more gets 400. "
        "Default: 256.",
    )
    max_prompt_logprobs: Annotated[int, Field(ge=0, le=1000)] | None = Field(
        default=None,
        description="Maximum log probabilities for each token of a prompt (prompt_logprobs, or logprobs with "
        "echo). A request for more gets 400. Default: 1.",
    )
    max_messages: Annotated[int, Field(ge=1, le=1_000_000)] | None = Field(
        default=None,
        description="Maximum messages of a chat, and parts of messages. A longer chat gets 400. Default: 4096.",
    )
    max_tools: Annotated[int, Field(ge=1, le=65536)] | None = Field(
        default=None,
        description="Maximum tools of a request. A request with more gets 400. Default: 256.",
    )
    max_media: Annotated[int, Field(ge=1, le=1000)] | None = Field(
        default=None,
        description="Maximum images, audio and video of a request. A request with more gets 400. Default: 16.",
    )
    timeout: Duration | None = Field(
        default=None,
        description="Maximum time from the request to the end of the response, including time in the queue. After "
        "it the client gets 504, or an error event at the end of a stream. Default: 1h after times.hold with "
        "routing.mode: Router, otherwise no limit.",
    )
    concurrency: Annotated[int, Field(ge=1, le=65536)] | None = Field(
        default=None,
        description="Maximum requests that run at once in one replica; a request for n answers counts as n. "
        "Default: the number that the engine schedules (batching.maxSequences). Further requests then queue in the "
        "router with routing.mode: Router, otherwise in the engine.",
    )
    queue: Annotated[int, Field(ge=0, le=1_000_000)] | None = Field(
        default=None,
        description="Maximum requests in the queue while all slots are busy. Further requests get 429. With "
        "routing.mode: Router the queue is in the router, for the whole service, ordered by priority "
        "(default: 1024). Otherwise each replica has a queue in order of arrival (default: 4 for each "
        "running request).",
    )


class OutputSpec(ApiModel):
    """Format of responses, for every request that sets no format of its own."""

    model_config = pydantic.ConfigDict(
        json_schema_extra=rules(
            rule(
                "!(has(self.schema) && has(self.regex)) && !(has(self.schema) && has(self.grammar)) "
                "&& !(has(self.regex) && has(self.grammar))",
                message="can't have more than one of schema, regex and grammar. Keep one and leave out the "
                "others.",
            ),
            rule(
                "has(self.schema) || has(self.regex) || has(self.grammar) || has(self.stop)",
                message='needs at least one of schema, regex, grammar and stop, such as {stop: ["END"]}.',
            ),
        )
    )
    schema_text: Annotated[str, Field(min_length=2, max_length=65536)] | None = Field(
        default=None,
        alias="schema",
        description="JSON Schema (draft 2020-12) of the responses, as text.",
    )
    regex: Annotated[str, Field(min_length=1, max_length=4096)] | None = Field(
        default=None, description="Regular expression that the whole response matches."
    )
    grammar: Annotated[str, Field(min_length=1, max_length=65536)] | None = Field(
        default=None,
        description="Grammar of the responses, in xgrammar's EBNF. The first rule is named root.",
    )
    stop: (
        Annotated[
            list[Annotated[str, Field(min_length=1, max_length=256)]],
            Field(min_length=1, max_length=16),
        ]
        | None
    ) = Field(default=None, description="Stop sequences. A response ends before the first of them.")
    enforce: bool = Field(
        default=False,
        description="Whether a request with another format or other stop sequences gets 400. Default: false.",
    )
