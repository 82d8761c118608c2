"""OpenAI-compatible API of the simulated engine, as an ASGI application."""

import asyncio
import time
import uuid

import pydantic

from slipstream_runtime import contract
from slipstream_runtime.recording.journal import Journal
from slipstream_runtime.recording.recorder import Outcome
from slipstream_runtime.recording.visits import CURRENT
from slipstream_runtime.simulator import lifecycle, metrics, pace, protocol
from slipstream_runtime.simulator.prefixes import PrefixCache
from slipstream_runtime.web import asgi, body, openai
from slipstream_runtime.web.openai import Reason
from slipstream_runtime.web.refusal import Refusal, invalid, no_route, wrong_method

_CLIENT_LEFT = 499
"""Status in the record of a request whose client left before an answer began, as in the router."""


class _Sent:
    """Parts of a response that were sent, for its record."""

    def __init__(self) -> None:
        self.status = _CLIENT_LEFT
        self.streamed = False
        self.outcome = Outcome.CANCELLED

    def note(self, message: asgi.Message) -> None:
        """Take the next message."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.streamed = any(b"event-stream" in value for _, value in message["headers"])
        elif not message.get("more_body", False):
            self.outcome = Outcome.ANSWERED


class Api:
    """API with models, chat completions and completions, streamed or not."""

    def __init__(
        self,
        *,
        model: str,
        paced: pace.Pace,
        life: lifecycle.Lifecycle,
        observer: metrics.Metrics,
        journal: Journal,
        prefixes: PrefixCache | None = None,
        open_metrics: bool = False,
    ) -> None:
        self._model = model
        self._open_metrics = open_metrics
        self._pace = paced
        self._life = life
        self._metrics = observer
        self._journal = journal
        self._prefixes = prefixes
        self._created = int(time.time())

    async def __call__(self, scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send) -> None:
        """Answer one request."""

        sent = _Sent()

        async def answer(message: asgi.Message) -> None:
            sent.note(message)
            if message["type"] == "http.response.start" and self._life.leaving:
                asgi.close_after(message)
            await send(message)

        visit = self._journal.arrive(scope["headers"])
        CURRENT.set(visit)
        try:
            await self._route(scope["method"], scope["path"], receive, answer)
        except Refusal as refusal:
            await refusal.answer(answer)
        except asgi.DisconnectedError:
            return
        finally:
            if scope["method"] == "POST":
                self._journal.end(
                    visit, status=sent.status, outcome=sent.outcome, streamed=sent.streamed
                )

    async def _route(self, method: str, path: str, receive: asgi.Receive, send: asgi.Send) -> None:
        form: type[protocol.Request]
        match path.rstrip("/"):
            case openai.MODELS:
                if method not in ("GET", "HEAD"):
                    raise wrong_method(path, method, allowed="GET")
                await asgi.respond_json(send, self._models())
                return
            case contract.METRICS_PATH if self._open_metrics and method == "GET":
                await asgi.respond(send, self._metrics.render(), kind=metrics.CONTENT_TYPE)
                return
            case openai.CHAT:
                form = protocol.Chat
            case openai.COMPLETIONS:
                form = protocol.Completion
            case _:
                raise no_route(path)
        if method != "POST":
            raise wrong_method(path, method, allowed="POST")
        if not self._life.enter():
            raise self._unavailable()
        try:
            await self._complete(form, receive, send)
        finally:
            self._life.leave()

    def _models(self) -> dict[str, object]:
        model = {"id": self._model, "object": "model", "created": self._created}
        return {"object": "list", "data": [{**model, "owned_by": "slipstream"}]}

    def _unavailable(self) -> Refusal:
        phase = self._life.phase
        self._metrics.refused(phase.value)
        wait = 1.0
        if phase is lifecycle.Phase.LOADING:
            wait = self._life.ready_at - asyncio.get_running_loop().time()
        return Refusal(503, f"The engine is {phase.value}. Retry later.", retry_after=wait)

    async def _complete(
        self, form: type[protocol.Request], receive: asgi.Receive, send: asgi.Send
    ) -> None:
        try:
            raw = await asgi.read(receive)
            body.check_parts(raw)
            request = form.model_validate_json(raw)
        except asgi.TooLargeError:
            raise Refusal(413, "The body is too large.") from None
        except pydantic.ValidationError as error:
            raise invalid(error) from None
        if request.model != self._model:
            raise Refusal(404, f"The model `{request.model}` does not exist.")
        prompt, limit = request.prompt_tokens(), request.limit()
        answer = protocol.Answer(
            identity=("chatcmpl-" if form is protocol.Chat else "cmpl-") + uuid.uuid4().hex,
            created=int(time.time()),
            model=self._model,
            chat=form is protocol.Chat,
            prompt=prompt,
            reason="stop" if limit is None else "length",
        )
        output = protocol.DEFAULT_OUTPUT if limit is None else limit
        try:
            stream = self._pace.add(
                prompt=prompt,
                output=output,
                reason=answer.reason,
                cached=self._cached(raw, prompt=prompt),
            )
        except ValueError as error:
            raise Refusal(400, str(error)) from None
        work = self._stream(stream, answer, request, send) if request.stream else stream.end()
        try:
            here = await asgi.unless_disconnected(work, receive)
        finally:
            self._pace.cancel(stream)
        if here and not request.stream:
            if stream.aborted:
                raise Refusal(503, protocol.STOPPING, reason=Reason.DRAINING)
            await asgi.respond_json(send, answer.whole(stream.tokens))

    def _cached(self, raw: bytes, *, prompt: int) -> int:
        """Return the tokens of the prompt that the prefix cache holds, and add the prompt to it."""
        return 0 if self._prefixes is None else self._prefixes.read(raw, prompt=prompt)

    async def _stream(
        self,
        stream: pace.Stream,
        answer: protocol.Answer,
        request: protocol.Request,
        send: asgi.Send,
    ) -> None:
        sent = 0
        while sent < stream.tokens or not (stream.finished or stream.aborted):
            tokens = await stream.more(than=sent)
            if tokens == sent:
                break
            chunk = answer.text(sent, tokens)
            if not sent:
                await asgi.start(send, status=200, kind="text/event-stream; charset=utf-8")
                chunk = answer.opening() + chunk
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
            sent = tokens
        if stream.finished:
            last = answer.closing(sent, usage=request.wants_usage())
        elif sent:
            last = protocol.broken(protocol.STOPPING)
        else:
            raise Refusal(503, protocol.STOPPING, reason=Reason.DRAINING)
        await send({"type": "http.response.body", "body": last})
