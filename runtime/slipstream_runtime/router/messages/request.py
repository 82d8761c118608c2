"""Request to a model: the fields that the router reads, and the body that it forwards."""

import dataclasses
import hashlib
import json
from collections.abc import Generator, Iterable, Mapping, Sequence
from typing import Any, Final, TypeGuard

import orjson

from slipstream_runtime.router.messages import prompts, refusals, uploads
from slipstream_runtime.router.messages.body_memory import Lease
from slipstream_runtime.router.messages.structure import Structure
from slipstream_runtime.router.messages.uploads import Rest, Upload
from slipstream_runtime.router.messages.usage import BYTES_PER_TOKEN, Tokens
from slipstream_runtime.web import body, openai
from slipstream_runtime.web.keyring import Client
from slipstream_runtime.web.media import bounded, bounded_in_steps
from slipstream_runtime.web.refusal import malformed
from slipstream_runtime.web.tenants import Tenancy

_DEFAULT_OUTPUT: Final = 1024
"""Tokens reserved per answer if neither the client nor the service sets a limit."""
_MEDIA_TOKENS: Final = 1024
"""Tokens of an image or another medium: an estimate, about those of a photo of 1 MP in current models."""
_KEPT_BYTES: Final = 64 * 1024
"""Bytes of a body that is kept to the end of the answer; larger ones are released once the answer begins."""
_TRUE: Final = frozenset({"1", "on", "t", "true", "y", "yes"})
"""Texts of a form that pydantic, and so vLLM, reads as true."""
_MODEL: Final = b'"model"'
_ESCAPED: Final = b"\\u00"
"""Beginning of an escaped ASCII letter, which may be one of `model`."""
_OF_CLIENTS: Final = frozenset(
    {"cache_salt", "metadata", "model", "priority", "stream", "stream_options", "user"}
)
"""Fields that two clients, or two attempts of one, set differently for the same work."""
_CHOICES: Final = ("n", "best_of")
"""Fields with the number of answers."""
_CHATS: Final = (openai.CHAT, openai.RESPONSES, openai.MESSAGES)
"""Paths whose requests have one prompt."""
_REPORTS_ON_DEMAND: Final = (openai.CHAT, openai.COMPLETIONS)
"""Paths whose streams end with the usage only if the request asks for it."""


@dataclasses.dataclass(slots=True)
class Request:
    """One request to a model."""

    path: str
    raw: bytes
    """Body that is sent to the engine; the first part of it if there is a `rest`."""
    content: dict[str, Any]
    model: str
    stream: bool
    tenant: str | None = None
    prefix_scope: str = ""
    """Name that all requests with common prefixes have."""
    client: str = ""
    """Tenant, or the address of a client without one: slots go to clients in turn."""
    priority: int = 0
    blocks: tuple[int, ...] | None = None
    """Hashed blocks of the prompt, as in `prefixes`; None until they are needed."""
    known_prefix: float | None = None
    """Share of the prompt, from its start, that a replica has read before; None if prompts are not compared."""
    pending: float = 0.0
    """Blocks that the engine has to compute before it answers."""
    position: float | None = None
    """Place among all requests, from 0 to below 1, that decides the revision; None until it is needed."""
    hide_usage: bool = False
    """Whether the router, not the client, requested the usage at the end of the stream."""
    method: str = "POST"
    query: str = ""
    content_type: str | None = None
    """Content type of `raw`, if it is not the client's."""
    replica: str | None = None
    """The only replica that can answer, because it stores the response that the request names."""
    response_id: str | None = None
    """Id of the stored response that the request reads or cancels."""
    prompt_tokens: float = 0.0
    """Estimated tokens of the prompt."""
    text: int = 0
    """Bytes of the body without its images, audio and video."""
    taken: int = 0
    """Slots that the request has in its engine."""
    lease: Lease | None = None
    """Memory of `raw`."""
    fingerprint: bytes | None = None
    """Hash of the content, once it was needed."""
    rest: Rest | None = None
    """Part of an upload that the client still sends."""

    @property
    def computes(self) -> bool:
        """Whether the model computes for the request, so that it costs tokens and counts in latencies."""
        form = openai.FORMS.get(self.path)
        return form is not None and form.computes

    @property
    def runs_in_background(self) -> bool:
        """Whether the answer comes before the model has computed it."""
        return self.path == openai.RESPONSES and self.content.get("background") is True

    @property
    def stores(self) -> bool:
        """Whether the replica may store the response."""
        return self.path == openai.RESPONSES and self.content.get("store") is not False

    def identify(self) -> bytes | None:
        """Return a hash of the content that is the same for all clients; None once a large body is released."""
        if self.fingerprint is None and self.raw:
            if self.content_type is None:
                content = {k: v for k, v in self.content.items() if k not in _OF_CLIENTS}
                text = orjson.dumps(content)
            else:
                text = uploads.without_boundary(self.raw, self.content_type)
            self.fingerprint = hashlib.sha256(self.path.encode() + text).digest()
        return self.fingerprint

    def release(self) -> None:
        """Drop a large body, which is not sent again once the answer began."""
        if len(self.raw) > _KEPT_BYTES:
            self.raw = b""
            self.content = {
                name: value
                for name, value in self.content.items()
                if isinstance(value, bool | int | float)
            }
            if self.lease is not None:
                self.lease.release()

    def for_model(self, model: str) -> "Request":
        """Return the request with another model."""
        request = dataclasses.replace(self, model=model, lease=None)
        if self.content_type is None:
            request.update_fields({"model": model})
            return request
        request.content = {**self.content, "model": model}
        request.raw = uploads.with_model(self.raw, self.content_type, old=self.model, new=model)
        return request

    def unstreamed(self, content: dict[str, Any]) -> "Request":
        """Return the request with another body, without streaming."""
        return dataclasses.replace(self, content=content, raw=orjson.dumps(content), stream=False)

    def with_messages(self, messages: Sequence[Mapping[str, Any]]) -> "Request":
        """Return the request with other messages of a chat; Refusal if its text is too large."""
        content = {**self.content, "messages": messages}
        raw = orjson.dumps(content)
        found = bounded(content, size=len(raw))
        text = len(raw) - found.size
        changed = _request(self.path, raw, content, self.model, text=text, pieces=found.pieces)
        return dataclasses.replace(
            self,
            raw=changed.raw,
            content=changed.content,
            text=changed.text,
            prompt_tokens=changed.prompt_tokens,
            fingerprint=None,
            blocks=None,
        )

    def check_text(self, most: int | None) -> None:
        """Refuse a chat of more text than the context of the service can hold; a batch of inputs may have more."""
        if most is not None and self.path in _CHATS and self.text > most:
            raise refusals.text_too_large(most)

    def max_tokens(self, *, limit: int | None) -> int:
        """Return the most tokens that the request may use; `limit` is the service's, per answer."""
        if not self.computes:
            return 0
        prompt = int(self.prompt_tokens)
        names = openai.OUTPUT_LIMITS.get(self.path)
        if names is None:
            return prompt
        self._check_counts(names)
        most = self.max_output(limit=limit)
        return prompt + (_DEFAULT_OUTPUT * self._choices if most is None else most)

    def max_output(self, *, limit: int | None) -> int | None:
        """Return the most output tokens of all answers; None if neither the client nor the service limits them."""
        names = openai.OUTPUT_LIMITS.get(self.path, ())
        named = next((v for name in names if (v := self.content.get(name)) is not None), None)
        return named * self._choices if _is_count(named) else limit

    def _check_counts(self, names: Iterable[str]) -> None:
        """Refuse counts that are no JSON integers, such as "100" or 4.0, which engines read, too."""
        for name in (*names, *_CHOICES):
            value = self.content.get(name)
            if value is not None and not _is_count(value):
                raise malformed(
                    f"{name}: must be a JSON integer for an API key with a token budget.",
                    param=name,
                )

    def set_tenant(self, client: Client, tenancy: Tenancy) -> None:
        """Set what the client's key decides: tenant, priority, and the salt of cached prefixes in the engine."""
        self.tenant, self.priority = client.tenant, client.priority
        self.prefix_scope = client.tenant if tenancy.separates else ""
        if self.response_id is None and (fields := tenancy.fields(self.path, self.content, client)):
            self.update_fields(fields)

    def estimated_use(self, size: int) -> Tokens:
        """Return the estimated use of an answer of `size` bytes that reports none."""
        generates = self.path in openai.OUTPUT_LIMITS
        return Tokens(int(self.prompt_tokens), size // BYTES_PER_TOKEN if generates else 0)

    @property
    def slots(self) -> int:
        """Return the slots that the request takes in an engine: one for each answer."""
        content = self.content
        if self.path != openai.COMPLETIONS and "n" not in content and "best_of" not in content:
            return 1  # as in most requests
        return max(1, self._choices) if self.path in openai.OUTPUT_LIMITS else 1

    @property
    def _choices(self) -> int:
        """Answers to all prompts of the request."""
        counts = [n for name in _CHOICES if _is_count(n := self.content.get(name))]
        choices = max([1, *counts])
        return choices * prompts.count(self.content) if self.path == openai.COMPLETIONS else choices

    @property
    def wants_usage(self) -> bool:
        """Whether the client wants a stream to end with the usage."""
        options = self.content.get("stream_options")
        return isinstance(options, dict) and options.get("include_usage") is True

    def request_usage(self) -> None:
        """Have the engine end its stream with the usage; the router hides it if the client did not request it."""
        if not self.stream or self.path not in _REPORTS_ON_DEMAND or self.wants_usage:
            return
        options = self.content.get("stream_options")
        options = options if isinstance(options, dict) else {}
        self.hide_usage = True
        self.update_fields({"stream_options": {**options, "include_usage": True}})

    def update_fields(self, fields: dict[str, Any]) -> None:
        """Change fields of the body."""
        self.content = {**self.content, **fields}
        self.raw = body.extended(self.raw, fields)


def parse_request(raw: bytes, *, path: str, openings: int | None = None) -> Request:
    """Return the request in the body; Refusal if the body is malformed. `openings` are its brackets, if known."""
    content = body.plain(raw, _loaded(raw), openings=openings)
    # NB: the two searches are quicker than one that counts, and than one for a longer text.
    if raw.find(_MODEL) != raw.rfind(_MODEL) or (b"\\" in raw and _ESCAPED in raw):
        _check_model_is_single(raw)
    model = _model(content)
    found = bounded(content, size=len(raw))
    return _request(path, raw, content, model, text=len(raw) - found.size, pieces=found.pieces)


def parse_large(raw: bytes, structure: Structure, *, path: str) -> Generator[None, None, Request]:
    """Do the same for a large body, in steps between which other requests get the event loop."""
    size = len(raw)
    content = _loaded(raw)
    yield
    if not isinstance(content, dict):
        raise body.no_object()
    if structure.deeper(than=body.DEPTH):
        raise body.too_deep()
    model = _model(content)
    yield
    repeated = raw.find(_MODEL) != raw.rfind(_MODEL)
    yield
    if repeated or _ESCAPED in raw:
        # NB: another look at the whole body would take long. The last of two fields holds, here and in engines.
        raw = body.extended(raw, {"model": model})
    yield
    found = yield from bounded_in_steps(content, size=size)
    return _request(path, raw, content, model, text=size - found.size, pieces=found.pieces)


def _loaded(raw: bytes) -> object:
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        if "Recursion" in str(error) or "recursion" in str(error):
            raise body.too_deep() from None
        raise malformed(f"The body is not valid JSON: {error}.") from None


def _request(
    path: str, raw: bytes, content: dict[str, Any], model: str, *, text: int, pieces: int
) -> Request:
    return Request(
        path=path,
        raw=raw,
        content=content,
        model=model,
        stream=content.get("stream") is True,
        text=text,
        prompt_tokens=prompts.tokens(path, content, text=text) + pieces * _MEDIA_TOKENS,
    )


def uploaded_request(upload: Upload, *, path: str) -> Request:
    """Return the request of an upload, whose prompt is its audio."""
    fields = upload.fields
    content = {name: _number(value) for name, value in fields.items()}
    return Request(
        path=path,
        raw=upload.take_ahead(),
        content=content,
        model=_model(fields),
        stream=fields.get("stream", "").strip().lower() in _TRUE,
        content_type=upload.content_type,
    )


def _model(content: dict[str, Any]) -> str:
    model = content.get("model")
    if not isinstance(model, str) or not model:
        raise malformed("model: must be a model name. GET /v1/models lists them.", param="model")
    return model


def _number(text: str) -> str | int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else text


def _check_model_is_single(raw: bytes) -> None:
    """Refuse a duplicate field `model`: two parsers may read different values, and the router's decides access."""
    pairs: list[list[tuple[str, Any]]] = []

    def note(found: list[tuple[str, Any]]) -> dict[str, Any]:
        pairs[:] = [found]
        return dict(found)

    json.loads(raw, object_pairs_hook=note)
    if sum(name == "model" for name, _ in pairs[0]) > 1:
        raise malformed("model: must not be set twice.", param="model")


def _is_count(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
