"""Judgement of a canary against the stable revision, measure by measure."""

import dataclasses
import enum
import math
from collections.abc import Mapping, Sequence
from typing import Final

from slipstream_operator.core.comparison import intervals
from slipstream_operator.core.comparison.intervals import Interval
from slipstream_operator.core.comparison.totals import Totals

_PROOF_WEIGHT: Final = 4.0
"""Part of the error of a measure that needs proof, as a multiple of another's: it decides most rollouts."""


_LARGEST: Final = 50.0
"""Largest logarithm of a ratio, of which an interval over a few values can have any."""


class Verdict(enum.StrEnum):
    """Result of a comparison."""

    WORSE = "Worse"
    NOT_WORSE = "NotWorse"
    UNDECIDED = "Undecided"


class Scale(enum.Enum):
    """Scale of a measure."""

    LOGARITHM = "logarithm"
    """Totals of natural logarithms. Differences of their means are ratios of typical values."""
    SHARE = "share"
    """Number of requests, and of those that the measure counts."""


@dataclasses.dataclass(frozen=True, slots=True)
class Measure:
    """Quantity by which revisions are compared."""

    name: str
    scale: Scale
    tolerance: float
    """Greatest loss that is accepted: relative of a logarithm, absolute of a share."""
    both_ways: bool = False
    """Whether a smaller value is a loss, too, such as of output lengths."""
    proof: bool = True
    """Whether it must be proved not to be worse. Otherwise it only counts if it is proved to be worse."""


@dataclasses.dataclass(frozen=True, slots=True)
class Finding:
    """Difference in one measure. Values are ratios less 1 of logarithms, and differences of shares."""

    measure: Measure
    verdict: Verdict
    interval: Interval | None
    """None with too few values."""


@dataclasses.dataclass(frozen=True, slots=True)
class Judgement:
    """Verdict over all measures, with the findings in the order of the measures."""

    verdict: Verdict
    findings: Sequence[Finding]

    @property
    def reasons(self) -> Sequence[Finding]:
        """Return the findings that decide: the worse ones, or the undecided ones that need proof."""
        return [finding for finding in self.findings if _verdict_of(finding) is self.verdict]


def judge(
    measures: Sequence[Measure],
    stable: Mapping[str, Totals],
    canary: Mapping[str, Totals],
    *,
    error: float,
    inflation: float = 1.0,
) -> Judgement:
    """Compare both arms by every measure. A measure that needs proof is undecided without values, never good.

    `error` is the probability that an equally good canary is ever found worse. The measures share it, and those that
    need proof get more of it.
    """
    unit = error / sum([_weight(measure) for measure in measures])
    findings = [
        _find(
            measure,
            stable.get(measure.name, Totals()),
            canary.get(measure.name, Totals()),
            error=unit * _weight(measure),
            inflation=inflation,
        )
        for measure in measures
    ]
    verdicts = {_verdict_of(finding) for finding in findings}
    for verdict in (Verdict.WORSE, Verdict.UNDECIDED):
        if verdict in verdicts:
            return Judgement(verdict, findings)
    return Judgement(Verdict.NOT_WORSE, findings)


def _weight(measure: Measure) -> float:
    return _PROOF_WEIGHT if measure.proof else 1.0


def _verdict_of(finding: Finding) -> Verdict | None:
    """Return what a finding contributes to the verdict over all; None if it contributes nothing."""
    if finding.verdict is Verdict.UNDECIDED and not finding.measure.proof:
        return None
    return finding.verdict


def _find(
    measure: Measure, stable: Totals, canary: Totals, *, error: float, inflation: float
) -> Finding:
    found: Interval | None
    if not measure.both_ways:
        # NB: only one of both bounds can find an equally good canary to be worse.
        error = 2.0 * error
    if measure.scale is Scale.SHARE:
        found = intervals.share_difference(
            (stable.total, stable.count), (canary.total, canary.count), error=error
        )
    else:
        sought = math.log1p(measure.tolerance)
        difference = intervals.mean_difference(
            stable, canary, error=error, sought=sought, inflation=inflation
        )
        found = None if difference is None else _as_ratio(difference)
    return Finding(measure, _verdict(measure, found), found)


def _verdict(measure: Measure, found: Interval | None) -> Verdict:
    if found is None:
        return Verdict.UNDECIDED
    least = -_opposite(measure) if measure.both_ways else -math.inf
    if found.low > measure.tolerance or found.high < least:
        return Verdict.WORSE
    within = found.high <= measure.tolerance and found.low >= least
    return Verdict.NOT_WORSE if within else Verdict.UNDECIDED


def _opposite(measure: Measure) -> float:
    """Return the tolerance of a decrease: the same ratio the other way round."""
    if measure.scale is Scale.SHARE:
        return measure.tolerance
    return measure.tolerance / (1.0 + measure.tolerance)


def _as_ratio(found: Interval) -> Interval:
    bounded = (min(max(value, -_LARGEST), _LARGEST) for value in dataclasses.astuple(found))
    return Interval(*(math.expm1(value) for value in bounded))
