"""Routes of an engine's front: the part of vLLM's API that clients may use. Pure."""

import dataclasses
from collections.abc import Collection, Mapping
from typing import Final

from slipstream_runtime.web import body, openai


@dataclasses.dataclass(frozen=True)
class Route:
    """Rules of a route: `open` needs no key, `body` is the content type that it takes, `computes` needs a slot."""

    method: str
    open: bool = False
    computes: bool = False
    body: str | None = None


OPEN: Final = Route("GET", open=True)
READS: Final = Route("GET")
COMPUTES: Final = Route("POST", computes=True, body=body.JSON)
_COUNTS: Final = Route("POST", body=body.JSON)
_UPLOADS: Final = Route("POST", computes=True, body=body.MULTIPART)
_CANCELS: Final = Route("POST")
_ALWAYS: Final[Mapping[str, Route]] = {
    openai.HEALTH: OPEN,
    openai.MODELS: READS,
}
VERSION: Final = "/version"


def routes(paths: Collection[str]) -> Mapping[str, Route]:
    """Return the routes of an engine that serves these paths of vLLM's API.

    All others stay closed, such as /invocations, which needs no API key of vLLM, /metrics and LoRA loading.
    """
    version = {VERSION: OPEN} if VERSION in paths else {}
    served = {path: _of(form) for path, form in openai.FORMS.items() if path in paths}
    return {**_ALWAYS, **version, **served}


def _of(form: openai.Form) -> Route:
    if form.uploads:
        return _UPLOADS
    return COMPUTES if form.computes else _COUNTS


ROUTES: Final = routes({*openai.FORMS, VERSION})


def route(path: str, *, routes: Mapping[str, Route]) -> Route | None:
    """Return the rules of this path; None if clients can't use it."""
    if openai.RESPONSES in routes and (match := openai.STORED_RESPONSE.fullmatch(path)):
        return _CANCELS if match["cancel"] else READS
    if openai.MODELS in routes and openai.MODEL.fullmatch(path):
        return READS
    return routes.get(path)
