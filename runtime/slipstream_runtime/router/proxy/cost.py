"""Tokens that a request costs its client's budget: the engine's count, or an estimate of what the engine did."""

import dataclasses

from slipstream_runtime.router.messages.request import Request
from slipstream_runtime.router.messages.usage import Tokens
from slipstream_runtime.router.proxy.relay import Relay
from slipstream_runtime.router.service import Service
from slipstream_runtime.router.tenants.budgets import Reservation


@dataclasses.dataclass(frozen=True, slots=True)
class Work:
    """Work of an engine on one request."""

    request: Request
    answers: int = dataclasses.field(kw_only=True)
    """Answers that the engine computes at once."""
    seconds: float = dataclasses.field(kw_only=True)
    """Seconds since the engine got the request."""
    unwanted: bool = dataclasses.field(kw_only=True)
    """Whether the client left, or its time ended, while the engine worked."""

    def cost(self, service: Service, relay: Relay | None, reservation: Reservation) -> Tokens:
        """Return the tokens of the request. An answer with an error costs nothing."""
        request = self.request
        response = None if relay is None else relay.response
        if relay is not None and relay.usage.prompt is not None:
            prompt, output = relay.usage.prompt, relay.usage.output
            service.metrics.used(prompt, output)
            service.pace.note(
                prompt=prompt, output=output, answers=self.answers, seconds=self.seconds
            )
            return Tokens(prompt, output)
        prompt = int(request.prompt_tokens)
        if relay is not None and relay.usage.events:
            usage = relay.usage
            usage.estimate()
            most = self._generated(service, reservation) if usage.merged else 0
            return Tokens(prompt, max(usage.output, min(usage.output + usage.merged, most)))
        if self.unwanted and (response is None or response.status < 300):
            if request.rest is not None and not request.rest.finished:
                return Tokens()
            return Tokens(prompt, self._generated(service, reservation))
        if relay is not None and response is not None and response.status < 300:
            # NB: the answer has no usage, such as a transcription, vectors in bytes, or one that is not computed.
            if request.runs_in_background:
                return Tokens(output=reservation.tokens)
            return request.estimated_use(relay.usage.size)
        return Tokens()

    def _generated(self, service: Service, reservation: Reservation) -> int:
        """Return the output tokens that the engine may have generated in this time."""
        reserved = max(0, reservation.tokens - int(self.request.prompt_tokens))
        each = service.pace.tokens(self.seconds)
        if each is None or not reserved:
            return reserved
        limit = service.settings.limits.max_output_tokens
        generated = each * self.answers
        unlimited = self.request.max_output(limit=limit) is None
        return generated if unlimited else min(reserved, generated)
