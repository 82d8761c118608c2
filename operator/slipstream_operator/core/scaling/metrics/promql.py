"""A small algebra of PromQL: one expression is text for Prometheus and a value for the simulator.

Only what the queries of scaling policies need; a tree of frozen values, so that another evaluator can walk it.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

Labels: TypeAlias = Mapping[str, str]
Operator: TypeAlias = Literal["+", "-", "*", "/", "or", "> bool"]
Aggregation: TypeAlias = Literal["sum", "min", "max", "avg", "count"]

_EVERY: Final = ('service!=""', 'exported_service=""')
"""Matchers of all series of Slipstream's services. Prometheus renames the router's own label `service` if the scrape
sets another, as a ServiceMonitor does. Such a copy would count for the wrong service."""


@dataclass(frozen=True)
class Series:
    """The newest samples of a metric: `name{service!="", label="value", le=~"1|2"}`."""

    metric: str
    labels: Labels = field(default_factory=dict)
    bounds: tuple[str, ...] = ()
    """Upper bounds of the histogram buckets to select; empty selects all."""

    def __str__(self) -> str:
        wanted = [*_EVERY, *(f'{label}="{value}"' for label, value in self.labels.items())]
        if self.bounds:
            # NB: a character class, since a backslash would have to be doubled in PromQL's strings.
            among = "|".join(re.sub(r"[.+]", r"[\g<0>]", bound) for bound in self.bounds)
            wanted.append(f'le=~"{among}"')
        return f"{self.metric}{{{', '.join(wanted)}}}"


@dataclass(frozen=True)
class Over:
    """A function of the samples of the last `seconds`, as `rate(x[30s])`."""

    function: Literal["rate", "increase", "avg_over_time", "max_over_time"]
    of: Series
    seconds: float

    def __str__(self) -> str:
        return f"{self.function}({self.of}[{self.seconds:.0f}s])"


@dataclass(frozen=True)
class Age:
    """Seconds since the newest sample was scraped."""

    of: Series

    def __str__(self) -> str:
        return f"time() - timestamp({self.of})"


@dataclass(frozen=True)
class Constant:
    """A number."""

    value: float

    def __str__(self) -> str:
        return f"{self.value:g}"


@dataclass(frozen=True)
class Binary:
    """`left + right`, with series of equal labels together; `or` adds the series that the left lacks."""

    left: "Expression"
    operator: Operator
    right: "Expression"

    def __str__(self) -> str:
        return f"({self.left} {self.operator} {self.right})"


@dataclass(frozen=True)
class By:
    """`sum by (a, b) (x)`."""

    aggregation: Aggregation
    labels: tuple[str, ...]
    of: "Expression"

    def __str__(self) -> str:
        return f"{self.aggregation} by ({', '.join(self.labels)}) ({self.of})"


Expression: TypeAlias = Series | Over | Age | Constant | Binary | By
