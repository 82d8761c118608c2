"""Instant vectors of many series, parsed in parts as they arrive.

Parsed at once, all series of a large answer would take many times the memory of its text.
"""

from collections.abc import Iterable, Iterator
from typing import Any, Final

import orjson
import requests

from slipstream_operator.core.scaling.metrics.values import RawSample

_BEGIN: Final = b'{"status":"success","data":{"resultType":"vector","result":[{"metric":'
_NEXT: Final = b',{"metric":'
"""Start of every series but the first. NB: labels escape quotes, so none of these separators occurs in a label."""
_VALUE: Final = b',"value":['
_END: Final = b'"]}]'


def session() -> requests.Session:
    """Return a session that passes on Prometheus' answers unread, in place of their result.

    NB: without compression, which would take both sides more time than the transfer.
    """

    class Answer(requests.Response):
        def json(self, **_: Any) -> Any:
            return {"data": {"result": self}}

    def as_answer(response: requests.Response, **_: object) -> requests.Response:
        answer = Answer()
        vars(answer).update(vars(response))
        return answer

    made = requests.Session()
    made.stream = True
    made.headers["Accept-Encoding"] = "identity"
    made.hooks["response"].append(as_answer)
    return made


def read(chunks: Iterable[bytes]) -> Iterator[list[RawSample]]:
    """Yield the series of an answer part by part. Raise LookupError, TypeError or ValueError for an invalid answer."""
    chunks = iter(chunks)
    text = b""
    while len(text) < len(_BEGIN) and (chunk := next(chunks, b"")):
        text += chunk
    if not text.startswith(_BEGIN):
        yield _parse_at_once(b"".join((text, *chunks)))
        return
    text = text[len(_BEGIN) :]
    for chunk in chunks:
        whole, found, rest = text.rpartition(_NEXT)
        if found:
            yield _series(whole)
        text = rest + chunk
    last, found, _ = text.partition(_END)
    if not found:
        raise ValueError("the answer is incomplete")
    yield _series(last + found)


def _series(text: bytes) -> list[RawSample]:
    """Parse series of the form `LABELS,"value":[SECONDS,"NUMBER"]}`.

    Any other series is dropped, such as a native histogram of one pod: it must not fail the query for all pods.
    """
    found = []
    for one in text.split(_NEXT):
        try:
            labels, value = one.split(_VALUE)
            _, number, _ = value.split(b'"')
            found.append((labels, float(number)))
        except ValueError:
            continue
    return found


def _parse_at_once(content: bytes) -> list[RawSample]:
    """Parse an answer that has no series, or another order of fields than Prometheus'."""
    result = orjson.loads(content)["data"]["result"]
    return [
        (orjson.dumps(one["metric"]), float(one["value"][1]))
        for one in result
        if "histogram" not in one
    ]
