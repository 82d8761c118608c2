"""Limit of prompts, counted right after vLLM has tokenized them.

vLLM renders a request before its response begins, so a prompt that is too long is answered 413 also for a stream.
"""

import functools
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Final

from vllm.exceptions import GracefulHTTPError, VLLMValidationError
from vllm.renderers.online_renderer import ResponsesRenderResult

from slipstream_runtime.web.openai import Reason
from slipstream_runtime.web.refusal import prompt_too_long

_RENDERERS: Final = ("render_chat", "render_completion", "render_responses")
_LONGER_THAN_CONTEXT: Final = ("input_text", "input_tokens")
"""Parameters in vLLM's error about a prompt that is longer than the context."""


def limit(state: Any, client: Any, *, most: int, refused: Callable[[Reason], None]) -> None:
    """Refuse prompts of more than `most` tokens on every route."""

    def too_long(tokens: int | str) -> GracefulHTTPError:
        refused(Reason.PROMPT_TOO_LONG)
        refusal = prompt_too_long(tokens, most=most)
        return GracefulHTTPError(refusal.message, refusal.status)

    def check(prompt: Mapping[str, Any]) -> None:
        tokens = length(prompt)
        if tokens > most:
            raise too_long(tokens)

    def checked(render: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        @functools.wraps(render)
        async def rendered(*args: Any, **kwargs: Any) -> Any:
            try:
                result = await render(*args, **kwargs)
            except VLLMValidationError as error:
                if error.parameter in _LONGER_THAN_CONTEXT and context >= most:
                    raise too_long(f"more than {context}") from error
                raise
            for prompt in _prompts(result):
                check(prompt)
            return result

        return rendered

    encode = client.encode

    @functools.wraps(encode)
    def encode_checked(prompt: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:
        check(prompt)
        return encode(prompt, *args, **kwargs)

    renderer = state.online_renderer
    context = renderer.model_config.max_model_len
    for name in _RENDERERS:
        setattr(renderer, name, checked(getattr(renderer, name)))
    # NB: embeddings have other renderers, whose prompts are passed to `encode`.
    client.encode = encode_checked


def length(prompt: Mapping[str, Any]) -> int:
    """Return the number of tokens that the engine has to read."""
    if "encoder_prompt" in prompt:
        return length(prompt["encoder_prompt"])
    if (ids := prompt.get("prompt_token_ids")) is not None:
        return len(ids)
    return len(prompt["prompt_embeds"])


def _prompts(result: Any) -> Iterable[Mapping[str, Any]]:
    """Return the engine's inputs in the result of a renderer; none in an error."""
    match result:
        case (_, [*prompts]) | [*prompts]:
            return prompts
        case ResponsesRenderResult():
            return (result.engine_input,)
        case _:
            return ()
