"""Prompts counted where vLLM has just tokenised them: exactly, and once.

vLLM renders a request before it begins its response, so a prompt that is too long is a 413 also for a stream.
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
"""What vLLM's error names where a prompt is longer than the context, and so than any limit inside it."""


def limit(state: Any, client: Any, *, most: int, refused: Callable[[Reason], None]) -> None:
    """Refuse prompts of more than `most` tokens, whatever route they came by."""

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
    # NB: embeddings have renderers of their own; `encode` is called with what they made.
    client.encode = encode_checked


def length(prompt: Mapping[str, Any]) -> int:
    """Tokens that the engine has to read."""
    if "encoder_prompt" in prompt:
        return length(prompt["encoder_prompt"])
    if (ids := prompt.get("prompt_token_ids")) is not None:
        return len(ids)
    return len(prompt["prompt_embeds"])


def _prompts(result: Any) -> Iterable[Mapping[str, Any]]:
    """The engine's inputs in what a renderer returns; none in an error."""
    match result:
        case (_, [*prompts]) | [*prompts]:
            return prompts
        case ResponsesRenderResult():
            return (result.engine_input,)
        case _:
            return ()
