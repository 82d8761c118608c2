"""Evidence about a step: the comparison of both revisions, and the requests that it rests on."""

import dataclasses
from collections.abc import Mapping
from typing import TypeAlias

from slipstream_operator.core.comparison import measures
from slipstream_operator.core.comparison.collection import REQUESTS
from slipstream_operator.core.comparison.intervals import Interval
from slipstream_operator.core.comparison.judgement import Finding, Judgement, Scale
from slipstream_operator.core.comparison.totals import Totals
from slipstream_operator.core.rollout.policy import Policy

Compared: TypeAlias = Mapping[str, Mapping[str, Totals]]
"""Revision -> measure -> its totals since the step began."""


@dataclasses.dataclass(frozen=True)
class Evidence:
    """Comparison of both revisions since the step began."""

    judgement: Judgement | None = None
    """None if nothing can be compared; `missing` has the reason."""
    requests: Mapping[str, float] = dataclasses.field(default_factory=dict)
    """Revision -> requests of it that were counted."""
    missing: str = (
        "There are no measurements of both revisions. They need requests, and Prometheus must scrape "
        "the routers."
    )

    def requests_of(self, revision: str) -> float:
        """Return the requests of a revision; without a count it is zero requests of evidence."""
        return self.requests.get(revision, 0.0)


def of(compared: Compared, policy: Policy, *, stable: str, canary: str) -> Evidence:
    """Return the evidence about a step from the totals of both revisions."""
    before, after = compared.get(stable, {}), compared.get(canary, {})
    judgement = measures.assess(
        before,
        after,
        tolerance=policy.tolerance,
        latency=policy.latency,
        errors=policy.errors,
    )
    requests = {
        revision: found[REQUESTS].count
        for revision, found in ((stable, before), (canary, after))
        if REQUESTS in found
    }
    return Evidence(judgement, requests)


def reasons(judgement: Judgement) -> str:
    """Return the findings that decided, as a sentence."""
    return f"{'; '.join(in_words(finding) for finding in judgement.reasons)}."


def in_words(finding: Finding) -> str:
    """Return the difference in one measure, with its interval and tolerance."""
    measure, interval = finding.measure, finding.interval
    if interval is None:
        return f"{measure.name} has too few requests"
    unit = "points" if measure.scale is Scale.SHARE else "%"
    gap = " " if measure.scale is Scale.SHARE else ""
    tolerated = f"{measure.tolerance * 100:.4g}{gap}{unit}"
    return (
        f"{measure.name} {_signed(interval)}{gap}{unit} ({interval.low * 100:+.1f} to "
        f"{interval.high * 100:+.1f}, tolerance {tolerated})"
    )


def _signed(interval: Interval) -> str:
    return f"{interval.estimate * 100:+.1f}"
