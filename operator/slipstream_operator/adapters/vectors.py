"""Instant vectors of many series, read in parts: as objects, all series of a large answer would take many times the
memory of its text.
"""

from collections.abc import Iterator
from typing import Any, Final

import orjson
import requests

from slipstream_operator.core.scaling.signals import Sample

_BEGIN: Final = b'{"status":"success","data":{"resultType":"vector","result":['
_END: Final = b"]}}"
_SERIES: Final = b',{"metric":'
"""Begins every series but the first. NB: inside of a label quotes are escaped, so it is seen nowhere else."""
_PART_BYTES: Final = 1 << 16


def session() -> requests.Session:
    """A session whose answers from Prometheus stay text.

    NB: not compressed, which would cost both sides more time than the network does.
    """

    class Answer(requests.Response):
        def json(self, **_: Any) -> Any:
            return {"data": {"result": self.content}}

    def as_answer(response: requests.Response, **_: object) -> requests.Response:
        answer = Answer()
        answer.__setstate__(response.__getstate__())
        return answer

    made = requests.Session()
    made.headers["Accept-Encoding"] = "identity"
    made.hooks["response"].append(as_answer)
    return made


def read(content: bytes) -> Iterator[list[Sample]]:
    """The samples of an answer, part by part; raises LookupError, TypeError or ValueError if it is none."""
    for part in _parts(content):
        result = orjson.loads(part)["data"]["result"]
        yield [Sample(series["metric"], float(series["value"][1])) for series in result]


def _parts(content: bytes) -> Iterator[bytes]:
    """Short answers that say the same; what does not look as Prometheus writes it is left whole."""
    begin = len(_BEGIN)
    if not content.startswith(_BEGIN):
        yield content
        return
    while (end := content.find(_SERIES, begin + _PART_BYTES)) >= 0:
        yield b"".join((_BEGIN, content[begin:end], _END))
        begin = end + 1
    yield _BEGIN + content[begin:]
