"""Limits of requests to a service, and the form of its answers."""

from typing import Annotated

import pydantic
from pydantic import Field

from slipstream_operator.api.base import Duration, Model, rule, rules

Tokens = Annotated[int, Field(ge=1, le=10_000_000)]


class LimitsSpec(Model):
    """Past these a client gets 400, 413, 429 with Retry-After or 504, in the form of OpenAI's errors."""

    max_output_tokens: Tokens | None = Field(
        default=None,
        description="Output tokens of one request, over all its choices and prompts. One that asks for more gets "
        "400, one that names no number gets these. Default: the context length.",
    )
    max_prompt_tokens: Tokens | None = Field(
        default=None,
        description="Tokens of a prompt, as the model's tokenizer counts them; more get 413. Default: the context "
        "length.",
    )
    timeout: Duration | None = Field(
        default=None,
        description="From the request to the end of its answer, waiting included. Then 504, or an error event at "
        "the end of a stream. Default: none.",
    )
    concurrency: Annotated[int, Field(ge=1, le=65536)] | None = Field(
        default=None,
        description="Requests that run at once in a replica. Default: as many as the engine schedules "
        "(batching.maxSequences), which then also does the waiting.",
    )
    queue: Annotated[int, Field(ge=0, le=1_000_000)] | None = Field(
        default=None,
        description="Requests that wait while as many run as may; more get 429. With routing.mode: Router they wait in "
        "the router, for the service, by priority (default: 1024); else in each replica, first come first served "
        "(default: 4 for each that runs).",
    )


class OutputSpec(Model):
    """Applied to every request that brings none of its own."""

    model_config = pydantic.ConfigDict(
        json_schema_extra=rules(
            rule(
                "!(has(self.schema) && has(self.regex)) && !(has(self.schema) && has(self.grammar)) "
                "&& !(has(self.regex) && has(self.grammar))",
                message="takes at most one of schema, regex and grammar: choose one, leave out the others",
            ),
            rule(
                "has(self.schema) || has(self.regex) || has(self.grammar) || has(self.stop)",
                message='needs at least one of schema, regex, grammar and stop, such as {stop: ["END"]}',
            ),
        )
    )
    schema_text: Annotated[str, Field(min_length=2, max_length=65536)] | None = Field(
        default=None,
        alias="schema",
        description="JSON Schema (draft 2020-12) of the answers, as text.",
    )
    regex: Annotated[str, Field(min_length=1, max_length=4096)] | None = Field(
        default=None, description="Regular expression that a whole answer matches."
    )
    grammar: Annotated[str, Field(min_length=1, max_length=65536)] | None = Field(
        default=None,
        description="Grammar of the answers, in xgrammar's EBNF; its first rule is root.",
    )
    stop: (
        Annotated[
            list[Annotated[str, Field(min_length=1, max_length=256)]],
            Field(min_length=1, max_length=16),
        ]
        | None
    ) = Field(default=None, description="Answers end before any of these.")
    enforce: bool = Field(
        default=False,
        description="A request that brings another form or other stop sequences gets 400. Default: false.",
    )
