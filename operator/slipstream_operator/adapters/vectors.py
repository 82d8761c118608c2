"""Instant vectors of many series, read without a dictionary for each.

The same pods come with every query, and Prometheus writes a series' labels always in the same order: so the text of
the labels is parsed once, and all samples of the series share the result. Whatever does not look as Prometheus
writes it is left to the parser of `requests`.
"""

import json
import re
import sys
from collections.abc import Mapping
from typing import Any, Final

import requests

from slipstream_operator.core.scaling.signals import Sample

_BEGIN: Final = '{"status":"success","data":{"resultType":"vector","result":[{"metric":'
_SERIES: Final = '{"metric":'
_SAMPLE: Final = re.compile(r'\{"metric":(\{.*?\}),"value":\[[^,]*,"([^"]*)"\]')
"""NB: inside of a label quotes are escaped, so what follows the labels is seen only where a sample has it."""
_BUCKET: Final = '"le":'


class Labels:
    """Labels by their text; those that were not asked for in the last two rounds are forgotten."""

    def __init__(self) -> None:
        self._now: dict[str, Mapping[str, str]] = {}
        self._before: dict[str, Mapping[str, str]] = {}

    def of(self, text: str) -> Mapping[str, str]:
        """The labels that a JSON object says; raises ValueError if it is none.

        Those of a histogram's buckets are not kept: they are many, and come seldom.
        """
        if _BUCKET in text:
            return self._parsed(text)
        labels = self._now.get(text)
        if labels is None:
            labels = self._before.get(text)
            self._now[text] = labels = self._parsed(text) if labels is None else labels
        return labels

    def _parsed(self, text: str) -> Mapping[str, str]:
        labels: Mapping[str, str] = json.loads(text, object_pairs_hook=_interned)
        return labels

    def age(self) -> None:
        """A round of queries is over."""
        self._before, self._now = self._now, {}


def _interned(pairs: list[tuple[str, str]]) -> dict[str, str]:
    return {sys.intern(name): sys.intern(value) for name, value in pairs}


def session(labels: Labels) -> requests.Session:
    """A session whose answers from Prometheus hold samples."""

    class Answer(requests.Response):
        def json(self, **options: Any) -> Any:
            text = self.content.decode()
            if not text.startswith(_BEGIN):
                return super().json(**options)
            return {"data": {"result": _samples(text, labels)}}

    def as_answer(response: requests.Response, **_: object) -> requests.Response:
        answer = Answer()
        answer.__setstate__(response.__getstate__())
        return answer

    made = requests.Session()
    made.hooks["response"].append(as_answer)
    return made


def _samples(text: str, labels: Labels) -> list[Sample]:
    found = [Sample(labels.of(one[1]), float(one[2])) for one in _SAMPLE.finditer(text)]
    if len(found) != text.count(_SERIES):
        raise ValueError("a series has no value")
    return found
