"""Instant vectors of many series, read in parts as they come: as objects, all series of a large answer would take many
times the memory of its text, and most of the time that it takes to read it.
"""

from collections.abc import Iterable, Iterator
from typing import Any, Final

import orjson
import requests

from slipstream_operator.core.scaling.signals import Raw

_BEGIN: Final = b'{"status":"success","data":{"resultType":"vector","result":[{"metric":'
_NEXT: Final = b',{"metric":'
"""Begins every series but the first. NB: inside of a label quotes are escaped, so none of these is seen there."""
_VALUE: Final = b',"value":['
_END: Final = b'"]}]'


def session() -> requests.Session:
    """A session whose answers from Prometheus are handed over unread, in place of their result.

    NB: not compressed, which would cost both sides more time than the network does.
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


def read(chunks: Iterable[bytes]) -> Iterator[list[Raw]]:
    """The series of an answer, part by part; raises LookupError, TypeError or ValueError if it is none."""
    chunks = iter(chunks)
    text = b""
    while len(text) < len(_BEGIN) and (chunk := next(chunks, b"")):
        text += chunk
    if not text.startswith(_BEGIN):
        yield _otherwise(b"".join((text, *chunks)))
        return
    text = text[len(_BEGIN) :]
    for chunk in chunks:
        whole, found, rest = text.rpartition(_NEXT)
        if found:
            yield _series(whole)
        text = rest + chunk
    last, found, _ = text.partition(_END)
    if not found:
        raise ValueError("it breaks off")
    yield _series(last + found)


def _series(text: bytes) -> list[Raw]:
    """Parse a series of `LABELS,"value":[SECONDS,"NUMBER"]}`."""
    found = []
    for one in text.split(_NEXT):
        labels, value = one.split(_VALUE)
        _, number, _ = value.split(b'"')
        found.append((labels, float(number)))
    return found


def _otherwise(content: bytes) -> list[Raw]:
    """Parse an answer that is written in another way than Prometheus does, or has no series."""
    result = orjson.loads(content)["data"]["result"]
    return [(orjson.dumps(one["metric"]), float(one["value"][1])) for one in result]
