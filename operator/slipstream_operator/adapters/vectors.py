"""Instant vectors of many series, parsed in parts as they arrive.

Parsed at once, all series of a large answer would take many times the memory of its text.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import orjson
import requests

from slipstream_operator.core.scaling.metrics.values import RawSample

_BEGIN: Final = b'{"status":"success","data":{"resultType":"vector","result":[{"metric":'
_NEXT: Final = b',{"metric":'
"""Start of every series but the first. NB: labels escape quotes, so none of these separators occurs in a label."""
_VALUE: Final = b',"value":['
_METRIC: Final = '{"metric":'
_DECODER: Final = json.JSONDecoder()
MOST_BYTES: Final = 256 << 20
"""Most bytes of an answer: 5,000 services with the buckets of their latencies have 30 MiB."""
_MOST_AT_ONCE: Final = 32 << 20
"""Most bytes of an answer that is parsed at once, which takes several times its size."""
_MOST_SERIES_BYTES: Final = 4 << 20
"""Most bytes of one series: a thousand times more than engines export."""
_ANNOTATION: Final = "PromQL "
"""Beginning of a warning about the query, and not about missing series."""


class PartialAnswerError(ValueError):
    """Error for an answer that lacks series, because a part of the servers did not answer."""


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
    """Yield the series of an answer part by part.

    Raise PartialAnswerError if series are missing, and LookupError, TypeError or ValueError for an invalid answer. The
    parts before an error are no answer.
    """
    chunks = _bounded(chunks, MOST_BYTES)
    text = b""
    while len(text) < len(_BEGIN) and (chunk := next(chunks, b"")):
        text += chunk
    if not text.startswith(_BEGIN):
        yield _parse_at_once(b"".join((text, *_bounded(chunks, _MOST_AT_ONCE))))
        return
    text = text[len(_BEGIN) :]
    for chunk in chunks:
        whole, found, rest = text.rpartition(_NEXT)
        if found:
            yield _series(whole)
        elif len(rest) > _MOST_SERIES_BYTES:
            raise ValueError(f"a series has more than {_MOST_SERIES_BYTES >> 20} MiB")
        text = rest + chunk
    whole, found, rest = text.rpartition(_NEXT)
    if found:
        yield _series(whole)
    last, tail = _last(rest)
    _check_whole(orjson.loads('{"data":{"result":[' + tail))
    yield _series(last)


def _last(text: bytes) -> tuple[bytes, str]:
    """Return the last series of an answer and the text that follows it; ValueError if the answer is incomplete.

    NB: a series with a native histogram has no other end than that of its JSON.
    """
    known = _METRIC + text.decode(errors="replace")
    _, end = _DECODER.raw_decode(known)
    if known[end : end + 1] != "]":
        raise ValueError("the answer is incomplete")
    return known[len(_METRIC) : end].encode(), known[end:]


def _bounded(chunks: Iterable[bytes], most: int) -> Iterator[bytes]:
    """Yield the chunks; ValueError once they have more bytes than `most`."""
    for chunk in chunks:
        most -= len(chunk)
        if most < 0:
            raise ValueError("the answer is too large")
        yield chunk


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
    answer = orjson.loads(content)
    result = answer["data"]["result"]
    _check_whole(answer)
    return [
        (orjson.dumps(one["metric"]), float(one["value"][1]))
        for one in result
        if "histogram" not in one
    ]


def _check_whole(answer: Mapping[str, Any]) -> None:
    """Raise PartialAnswerError if the answer says that series are missing, as Thanos and VictoriaMetrics do."""
    for warning in answer.get("warnings") or ():
        if not str(warning).startswith(_ANNOTATION):
            raise PartialAnswerError(str(warning))
    if answer.get("isPartial"):
        raise PartialAnswerError("the answer is partial")
