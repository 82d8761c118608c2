"""Replacement of a conversation's older turns by their summary.

A summary stays in use while the conversation with it is short enough. So several requests begin with the same prompt,
which the engine's prefix cache has. A new summary is made of the one before and the turns since.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from slipstream_runtime.router import config
from slipstream_runtime.router.hooks import conversation, summarizer
from slipstream_runtime.router.hooks.conversation import Conversation, Turn
from slipstream_runtime.router.hooks.failures import Cause, HookError
from slipstream_runtime.router.hooks.flights import Flights
from slipstream_runtime.router.hooks.summaries import Summaries
from slipstream_runtime.router.messages.usage import Tokens
from slipstream_runtime.router.proxy.calls import Call, CallError
from slipstream_runtime.web import openai
from slipstream_runtime.web.openai import Reason
from slipstream_runtime.web.refusal import Refusal

_LEAST_SAVING = 2
"""Older turns are summarized only if they have this many times the tokens of a summary."""
_SLACK = 4
"""A known summary is used as well while the older turns after it have less than this part of `overTokens`."""

MakeCall = Callable[[], Call]


@dataclass(slots=True)
class Made:
    """Summaries that one request used."""

    known: int = 0
    """Summaries from the cache."""
    shared: int = 0
    """Summaries that another request was waiting for."""
    new: int = 0
    spent: Tokens = field(default_factory=Tokens)
    """Tokens of the new summaries."""


class Condenser:
    """Summaries of one router, by tenant and by the hash of their turns."""

    def __init__(self, summaries: Summaries) -> None:
        self._summaries = summaries
        self._flights: Flights[str] = Flights()

    async def condense(
        self,
        found: Conversation,
        settings: config.Condense,
        *,
        tenant: str,
        call: MakeCall,
        made: Made,
    ) -> Conversation | None:
        """Return the conversation with a summary of its older turns; None if there is nothing to gain.

        HookError if the service gives no summary.
        """
        older = found.turns[: -settings.keep_turns]
        tokens = [turn.tokens for turn in older]
        if sum(tokens) < _LEAST_SAVING * settings.summary_tokens:
            return None
        keys = conversation.prefixes([tenant, *_identity(settings)], older)
        at, text = self._longest(tenant, keys)
        if text is not None:
            made.known += 1
            shorter = _replaced(found, text, at)
            if at == len(older) or _is_short(shorter, settings, rest=sum(tokens[at:])):
                return shorter
        while at < len(older):
            end = _end(tokens, at, most=settings.over_tokens)
            text = await self._summary(
                tenant, keys[end - 1], text, older[at:end], settings, call=call, made=made
            )
            at = end
        assert text is not None
        return _replaced(found, text, at)

    def _longest(self, tenant: str, keys: Sequence[bytes]) -> tuple[int, str | None]:
        """Return the number of turns that a known summary covers, and the summary."""
        for count in range(len(keys), 0, -1):
            text = self._summaries.get(tenant, keys[count - 1])
            if text is not None:
                return count, text
        return 0, None

    async def _summary(
        self,
        tenant: str,
        key: bytes,
        earlier: str | None,
        turns: Sequence[Turn],
        settings: config.Condense,
        *,
        call: MakeCall,
        made: Made,
    ) -> str:
        async def write() -> str:
            made.new += 1
            text, used = await _written(call(), earlier, turns, settings)
            made.spent += used
            self._summaries.put(tenant, key, text)
            return text

        if key in self._flights:
            made.shared += 1
        return await self._flights.share(key, write)


async def _written(
    call: Call, earlier: str | None, turns: Sequence[Turn], settings: config.Condense
) -> tuple[str, Tokens]:
    """Return a new summary, and the tokens that it took."""
    most = settings.summary_tokens
    content = summarizer.request(earlier, turns, most_tokens=most)
    try:
        body = await call.run(openai.CHAT, content)
        return summarizer.summary(body, most_tokens=most), call.used
    except Refusal as refusal:
        raise HookError(_cause(refusal)) from None
    except CallError:
        raise HookError(Cause.STATUS) from None
    except ValueError:
        raise HookError(Cause.INVALID) from None


def _cause(refusal: Refusal) -> Cause:
    if refusal.reason is Reason.FORBIDDEN:
        return Cause.NO_KEY
    if refusal.status in (400, 413):
        return Cause.INVALID
    return Cause.UNREACHABLE if refusal.reason is Reason.UPSTREAM else Cause.NO_SERVICE


def _identity(settings: config.Condense) -> tuple[object, ...]:
    """Return the settings that change a summary."""
    return settings.service, settings.summary_tokens


def _replaced(found: Conversation, text: str, count: int) -> Conversation:
    """Return the conversation with a summary in place of its first turns.

    Instructions between these turns stay as they are: a summary is data, which binds the model to nothing.
    """
    kept = [
        message
        for turn in found.turns[:count]
        for message in turn.messages
        if message["role"] in conversation.SYSTEM
    ]
    rest = Conversation((*found.head, *kept), found.turns[count:])
    return conversation.with_context(rest, summarizer.context(text))


def _is_short(shorter: Conversation, settings: config.Condense, *, rest: int) -> bool:
    """Whether the conversation with a known summary, which leaves `rest` tokens of older turns, is short enough."""
    total = sum(map(conversation.tokens, conversation.messages(shorter)))
    return total <= settings.over_tokens or rest * _SLACK < settings.over_tokens


def _end(tokens: Sequence[int], start: int, *, most: int) -> int:
    """Return the end of the next turns that one summary takes: at least one, and at most `most` tokens."""
    end, total = start + 1, tokens[start]
    while end < len(tokens) and total + tokens[end] <= most:
        total += tokens[end]
        end += 1
    return end
