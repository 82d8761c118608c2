"""PromQL expressions over tables of samples, as Prometheus evaluates instant queries, vectorised over series.

Simplified: all pods are scraped at the same instants, and a range holds the scrapes of one table.
"""

import functools
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from slipstream_operator.core.scaling.metrics.promql import (
    Age,
    Binary,
    By,
    Constant,
    Expression,
    Over,
    Series,
)
from slipstream_operator.core.scaling.metrics.values import Sample
from slipstream_simulator.kernel.layout import Floats
from slipstream_simulator.prometheus.catalogue import Labels
from slipstream_simulator.prometheus.table import Table

STALE_SECONDS: Final = 300.0
"""Age in seconds from which a sample is stale."""


class Names:
    """The labels of a vector's series in blocks, one a target; compared by identity, so that matching is done once."""

    def __init__(self, blocks: tuple[tuple[Labels, ...], ...]) -> None:
        self.blocks = blocks

    @functools.cached_property
    def flat(self) -> tuple[Labels, ...]:
        """Return all labels in the order of the values."""
        return tuple(itertools.chain.from_iterable(self.blocks))


class Vector(NamedTuple):
    """Series with their values; series that are not `present` are absent."""

    labels: Names
    values: Floats
    present: NDArray[np.bool_]

    def samples(self) -> list[Sample]:
        """Return the samples as a query returns them."""
        if self.present.all():
            return list(map(Sample, self.labels.flat, self.values.tolist()))
        flat, values = self.labels.flat, self.values.tolist()
        return [Sample(flat[index], values[index]) for index in np.flatnonzero(self.present)]


class Moment(NamedTuple):
    """Time of a query's evaluation, and the newest scrape that it sees of each table; -1 for none."""

    now: float
    row: int


Plan: TypeAlias = Callable[[Moment], Vector]

_NOTHING: Final = Vector(Names(()), np.zeros(0), np.zeros(0, dtype=np.bool_))


def timely(expression: Expression) -> bool:
    """Whether the value changes while the samples do not."""
    match expression:
        case Age():
            return True
        case Binary(left, _, right):
            return timely(left) or timely(right)
        case By(_, _, of):
            return timely(of)
        case _:
            return False


def longest(expression: Expression) -> float:
    """Return the longest range of an expression in seconds."""
    match expression:
        case Over(_, _, seconds):
            return seconds
        case Binary(left, _, right):
            return max(longest(left), longest(right))
        case By(_, _, of):
            return longest(of)
        case _:
            return 0.0


def metrics(expression: Expression) -> set[str]:
    """Return the names of the metrics of an expression."""
    match expression:
        case Series(metric):
            return {metric}
        case Over(_, of, _) | Age(of) | By(_, _, of):
            return metrics(of)
        case Binary(left, _, right):
            return metrics(left) | metrics(right)
        case _:
            return set()


def plan(expression: Expression, tables: Sequence[Table]) -> Plan:
    """Return the evaluator of an expression; it matches labels again only when the targets change."""
    match expression:
        case Series():
            return _instant(_Selection.of(expression, tables))
        case Age(of):
            return _age(_Selection.of(of, tables))
        case Over(("rate" | "increase") as function, of, seconds):
            return _increase(_Selection.of(of, tables), seconds, per_second=function == "rate")
        case Over(function, of, seconds):
            return _over_time(_Selection.of(of, tables), seconds, mean=function == "avg_over_time")
        case By(aggregation, labels, of):
            return _by(aggregation, labels, plan(of, tables))
        case Binary(left, "or", right):
            return _or(plan(left, tables), plan(right, tables))
        case Binary(left, operator, Constant(value)):
            return _scalar(plan(left, tables), operator, value, reverse=False)
        case Binary(Constant(value), operator, right):
            return _scalar(plan(right, tables), operator, value, reverse=True)
        case Binary(left, operator, right):
            return _matched(plan(left, tables), operator, plan(right, tables))
    raise ValueError(f"{expression} is a number, not a vector: it has no series to return")


@dataclass
class _Selection:
    """The series of a metric in its table."""

    table: Table | None
    fields: NDArray[np.int64]
    _version: int = -1
    _labels: Names = field(default_factory=lambda: Names(()))
    _columns: list[tuple[Labels, tuple[Labels, ...]]] = field(default_factory=list)
    """Each target and the labels of its series, which stay the same objects while it is there."""

    @classmethod
    def of(cls, series: Series, tables: Sequence[Table]) -> "_Selection":
        for table in tables:
            chosen = [
                index
                for index, one in enumerate(table.fields)
                if one.metric == series.metric
                and all(one.labels.get(name) == value for name, value in series.labels.items())
                and (not series.bounds or one.labels.get("le") in series.bounds)
            ]
            if chosen:
                return cls(table, np.array(chosen))
        return cls(None, np.zeros(0, dtype=np.int64))

    def labels(self) -> Names:
        """Return the labels of every target and field; the same object while the targets are the same."""
        assert self.table is not None
        if self._version != self.table.version:
            self._version = self.table.version
            for column, target in enumerate(self.table.targets):
                if column == len(self._columns):
                    self._columns.append((target, self._of(target)))
                elif self._columns[column][0] is not target:
                    self._columns[column] = (target, self._of(target))
            self._labels = Names(tuple(labels for _, labels in self._columns))
        return self._labels

    def _of(self, target: Labels) -> tuple[Labels, ...]:
        assert self.table is not None
        return tuple({**target, **self.table.fields[index].labels} for index in self.fields)

    def flat(self, values: Floats, present: NDArray[np.bool_]) -> Vector:
        """Return the series of targets x fields, of the targets that exist."""
        return Vector(self.labels(), values.ravel(), np.repeat(present, len(self.fields)))


def _instant(selection: _Selection) -> Plan:
    def evaluate(moment: Moment) -> Vector:
        table = selection.table
        if table is None or not _fresh(table, moment):
            return _NOTHING
        width = len(table.targets)
        return selection.flat(
            table.values[moment.row, :width][:, selection.fields], table.present[moment.row, :width]
        )

    return evaluate


def _age(selection: _Selection) -> Plan:
    def evaluate(moment: Moment) -> Vector:
        table = selection.table
        if table is None or not _fresh(table, moment):
            return _NOTHING
        width = len(table.targets)
        age = moment.now - table.times[moment.row]
        return selection.flat(
            np.full((width, len(selection.fields)), age), table.present[moment.row, :width]
        )

    return evaluate


def _fresh(table: Table, moment: Moment) -> bool:
    """NB: a target that is gone, or whose scrape failed, is stale at once; so only the newest row counts."""
    return moment.row >= 0 and moment.now - float(table.times[moment.row]) <= STALE_SECONDS


def _increase(selection: _Selection, seconds: float, *, per_second: bool) -> Plan:
    """NB: divided only here, so that rates and increases share what costs time."""
    places = (
        selection.table.reserve(seconds, selection.fields) if selection.table else selection.fields
    )

    def evaluate(moment: Moment) -> Vector:
        table = selection.table
        if table is None:
            return _NOTHING
        span = table.span(moment.now, moment.row, seconds)
        values = span.increases[:, places]
        return selection.flat(values / seconds if per_second else values, span.count >= 2)

    return evaluate


def _over_time(selection: _Selection, seconds: float, *, mean: bool) -> Plan:
    def evaluate(moment: Moment) -> Vector:
        table = selection.table
        if table is None:
            return _NOTHING
        span = table.span(moment.now, moment.row, seconds)
        there = span.there[:, :, None]
        block = table.values[span.rows, : there.shape[1]][:, :, selection.fields]
        if mean:
            total = np.where(there, block, 0.0).sum(axis=0)
            values = total / np.maximum(1, span.count)[:, None]
        else:
            values = np.where(there, block, -np.inf).max(axis=0, initial=-np.inf)
        return selection.flat(values, span.count > 0)

    return evaluate


def _by(aggregation: str, names: tuple[str, ...], of: Plan) -> Plan:
    seen: Names | None = None
    groups: NDArray[np.int64] = np.zeros(0, dtype=np.int64)
    found: dict[tuple[str, ...], int] = {}
    labels = Names(((),))
    sizes: NDArray[np.int64] = groups
    # NB: by identity, which is quick; with the block itself, so that it can't go and leave its identity to another.
    known: dict[int, tuple[tuple[Labels, ...], NDArray[np.int64]]] = {}

    def group(block: tuple[Labels, ...]) -> NDArray[np.int64]:
        entry = known.get(id(block))
        if entry is None:
            keys = [tuple(one.get(name, "") for name in names) for one in block]
            members = np.array([found.setdefault(key, len(found)) for key in keys], dtype=np.int64)
            entry = known[id(block)] = (block, members)
        return entry[1]

    def evaluate(moment: Moment) -> Vector:
        nonlocal seen, groups, labels, sizes
        vector = of(moment)
        if vector.labels is not seen:
            groups = np.concatenate([groups[:0], *map(group, vector.labels.blocks)])
            if len(found) != len(labels.flat):
                shown = (
                    {name: value for name, value in zip(names, key, strict=True) if value}
                    for key in found
                )
                labels = Names((tuple(shown),))
            sizes = np.bincount(groups, minlength=len(labels.flat))
            seen = vector.labels
        there = vector.present
        if there.all():
            members, values, count = groups, vector.values, sizes
        else:
            members, values = groups[there], vector.values[there]
            count = np.bincount(members, minlength=len(sizes))
        return Vector(labels, _aggregate(aggregation, members, values, count), count > 0)

    return evaluate


def _aggregate(
    aggregation: str, members: NDArray[np.int64], values: Floats, count: NDArray[np.int64]
) -> Floats:
    size = len(count)
    if aggregation != "count" and count.max(initial=0) <= 1:  # no group has two members
        alone: Floats = np.full(size, np.nan)
        alone[members] = values
        return alone
    match aggregation:
        case "sum":
            return np.bincount(members, weights=values, minlength=size).astype(np.float64)
        case "avg":
            total = np.bincount(members, weights=values, minlength=size)
            mean: Floats = total / np.maximum(1, count)
            return mean
        case "count":
            return count.astype(np.float64)
    # NaN only where all are NaN, as in Prometheus.
    pick = np.fmax if aggregation == "max" else np.fmin
    result: Floats = np.full(size, np.nan)
    pick.at(result, members, values)
    return result


def _apply(operator: str, left: Floats, right: Floats) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        match operator:
            case "+":
                return left + right
            case "-":
                return left - right
            case "*":
                return left * right
            case "/":
                return left / right
            case _:
                return (left > right).astype(np.float64)


def _scalar(of: Plan, operator: str, value: float, *, reverse: bool) -> Plan:
    number = np.array(value)

    def evaluate(moment: Moment) -> Vector:
        vector = of(moment)
        left, right = (number, vector.values) if reverse else (vector.values, number)
        return Vector(vector.labels, _apply(operator, left, right), vector.present)

    return evaluate


class _Match:
    """Positions of equal labels in two vectors, kept while both have the same labels."""

    def __init__(self) -> None:
        self._left: Names | None = None
        self._right: Names | None = None
        self.left: NDArray[np.int64] = np.zeros(0, dtype=np.int64)
        self.right: NDArray[np.int64] = np.zeros(0, dtype=np.int64)
        self.labels = Names(())
        self.both = Names(())

    def update(self, left: Vector, right: Vector) -> None:
        """Match the vectors again if either has other labels than before."""
        if left.labels is self._left and right.labels is self._right:
            return
        positions = {frozenset(one.items()): index for index, one in enumerate(right.labels.flat)}
        pairs = [
            (index, positions[key])
            for index, one in enumerate(left.labels.flat)
            if (key := frozenset(one.items())) in positions
        ]
        self.left = np.array([pair[0] for pair in pairs], dtype=np.int64)
        self.right = np.array([pair[1] for pair in pairs], dtype=np.int64)
        self.labels = Names((tuple(left.labels.flat[index] for index in self.left),))
        self.both = Names((*left.labels.blocks, *right.labels.blocks))
        self._left, self._right = left.labels, right.labels


def _matched(left_of: Plan, operator: str, right_of: Plan) -> Plan:
    match_ = _Match()

    def evaluate(moment: Moment) -> Vector:
        left, right = left_of(moment), right_of(moment)
        match_.update(left, right)
        return Vector(
            match_.labels,
            _apply(operator, left.values[match_.left], right.values[match_.right]),
            left.present[match_.left] & right.present[match_.right],
        )

    return evaluate


def _or(left_of: Plan, right_of: Plan) -> Plan:
    match_ = _Match()

    def evaluate(moment: Moment) -> Vector:
        left, right = left_of(moment), right_of(moment)
        match_.update(left, right)
        rest = right.present.copy()
        rest[match_.right] &= ~left.present[match_.left]
        return Vector(
            match_.both,
            np.concatenate([left.values, right.values]),
            np.concatenate([left.present, rest]),
        )

    return evaluate
